"""The platform's API as a test needs it: counts what it executes, by x-id, in a file."""
import os

LOG = os.open(os.environ["EXECUTIONS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
NAME = os.environ["NAME"].encode()


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            event = await receive()
            await send({"type": event["type"] + ".complete"})
            if event["type"] == "lifespan.shutdown":
                return
    assert scope["type"] == "http"
    while (await receive()).get("more_body"):
        pass
    ids = [value for name, value in scope["headers"] if name == b"x-id"]
    if ids:
        os.write(LOG, ids[0] + b"\n")
    head = [(b"content-length", str(len(NAME)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": NAME})
