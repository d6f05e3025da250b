"""Asks through the real OpenAI client, with its own retries, and prints what came of it, one JSON
line a task. The only argument says what to ask, as JSON."""
import hashlib
import json
import socket
import ssl
import sys
import threading

import httpx2
import openai

SPEC = json.loads(sys.argv[1])
resolve = socket.getaddrinfo


def here(host, *rest, **more):
    return resolve("127.0.0.1" if host == SPEC["host"] else host, *rest, **more)


socket.getaddrinfo = here


class Hashed(httpx2.SyncByteStream):
    """An answer's bytes as they come from the wire."""

    def __init__(self, stream, sha):
        self.stream, self.sha = stream, sha

    def __iter__(self):
        for part in self.stream:
            self.sha.update(part)
            yield part

    def close(self):
        self.stream.close()


class Transport(httpx2.HTTPTransport):
    """Notes each attempt; hashes the answer of the last."""

    def __init__(self):
        super().__init__(verify=ssl.create_default_context(cafile=SPEC["ca"]))
        self.waits, self.sha = [], None

    def handle_request(self, request):
        response = super().handle_request(request)
        if response.status_code != 200:
            self.waits.append([response.status_code, response.headers.get("retry-after")])
        self.sha = hashlib.sha256()
        response.stream = Hashed(response.stream, self.sha)
        return response


def ask(task):
    transport = Transport()
    client = openai.OpenAI(
        api_key="sk-test",
        base_url=f"https://{SPEC['host']}:{SPEC['port']}/{task}/v1",
        max_retries=SPEC["retries"],
        timeout=30,
        http_client=httpx2.Client(transport=transport, trust_env=False),
    )
    told = {"task": task, "error": None}
    try:
        stream = client.chat.completions.create(
            model="m",
            messages=[{"role": "user", "content": "Say something."}],
            stream=True,
            extra_body={"task": task, "pieces": SPEC["pieces"], "pause": SPEC["pause"]},
        )
        text = "".join(chunk.choices[0].delta.content for chunk in stream)
        told["text"] = hashlib.sha256(text.encode()).hexdigest()
        told["bytes"] = transport.sha.hexdigest()
    except openai.APIStatusError as e:
        told["error"] = {"kind": type(e).__name__, "message": str(e)}
        told["error"] |= {"code": e.code, "type": e.type, "request_id": e.request_id}
    except Exception as e:
        told["error"] = repr(e)
    told["waits"] = transport.waits
    # One write: other threads may print between a line and its end.
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


tasks = [threading.Thread(target=ask, args=[task]) for task in SPEC["tasks"]]
for task in tasks:
    task.start()
    if not SPEC["at_once"]:
        task.join()
for task in tasks:
    task.join()
