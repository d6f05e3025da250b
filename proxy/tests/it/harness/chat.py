"""A model that streams: chat completions as OpenAI's API has them, under any prefix. What it sent
stands as hashes in a file, one JSON line an answer."""
import asyncio
import hashlib
import json
import os
import random

LOG = os.open(os.environ["EXECUTIONS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
LETTERS = "abc \n\t\"\\{}é€漢🦀\u2028"
under_way = 0


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            event = await receive()
            await send({"type": event["type"] + ".complete"})
            if event["type"] == "lifespan.shutdown":
                return
    assert scope["type"] == "http" and scope["path"].endswith("/v1/chat/completions")
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    global under_way
    under_way += 1
    try:
        await answer(json.loads(body), under_way, send)
    finally:
        under_way -= 1


async def answer(asked, at_once, send):
    dice = random.Random(asked["task"])
    text = ["".join(dice.choices(LETTERS, k=dice.randrange(1, 12))) for _ in range(asked["pieces"])]
    stream = b"".join(event(asked, piece) for piece in text) + b"data: [DONE]\n\n"
    head = [(b"content-type", b"text/event-stream; charset=utf-8")]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    # Cut anywhere: between events, within one, within a character.
    at = 0
    while at < len(stream):
        size = dice.choice([1, 7, 100, 1000])
        part = stream[at:at + size]
        await send({"type": "http.response.body", "body": part, "more_body": True})
        at += size
        if dice.random() < 0.05:
            await asyncio.sleep(asked["pause"])
    await send({"type": "http.response.body", "body": b""})
    told = {"task": asked["task"], "bytes": hashlib.sha256(stream).hexdigest(), "at_once": at_once}
    told["text"] = hashlib.sha256("".join(text).encode()).hexdigest()
    os.write(LOG, json.dumps(told).encode() + b"\n")


def event(asked, piece):
    choice = {"index": 0, "delta": {"role": "assistant", "content": piece}, "finish_reason": None}
    chunk = {"id": asked["task"], "object": "chat.completion.chunk", "created": 1, "model": "m"}
    text = json.dumps(chunk | {"choices": [choice]}, ensure_ascii=False)
    return b": still there\n\ndata: " + text.encode() + b"\n\n"
