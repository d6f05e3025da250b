"""Event streams, and what becomes of them. Python alone.

    events.py backend PORT
    events.py client CA SUMMARY NAME=EVENTS...

The backend answers `/health`, and `/events/N` with an event a second, N of them and then the end.
The client has one stream per NAME, through the edge on 127.0.0.1:443; what each has had so far, and
how it ended ("complete", or why not), stands in SUMMARY as JSON, twice a second."""

import asyncio
import json
import os
import ssl
import sys

HOST = "proxy.openclaw.example"
HEAD = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


async def answer(reader, writer):
    try:
        while head := (await reader.readuntil(b"\r\n\r\n")).decode():
            path = head.split(" ")[1]
            if not path.startswith("/events/"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                continue
            writer.write(HEAD.encode())
            for number in range(int(path.removeprefix("/events/"))):
                event = f"data: {number}\n\n"
                writer.write(f"{len(event):x}\r\n{event}\r\n".encode())
                await writer.drain()
                await asyncio.sleep(1)
            writer.write(b"0\r\n\r\n")
    except (EOFError, OSError):
        writer.close()


async def backend(port):
    server = await asyncio.start_server(answer, "127.0.0.1", int(port))
    await server.serve_forever()


async def stream(tls, events, seen):
    """Each event has its number: one that is lost or comes twice is noticed."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", 443, ssl=tls, server_hostname=HOST)
        writer.write(f"GET /events/{events} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        if not head.startswith("HTTP/1.1 200 ") or "transfer-encoding: chunked" not in head.lower():
            raise EOFError(head.split("\r\n")[0])
        while size := int(await reader.readuntil(b"\r\n"), 16):
            event = await reader.readexactly(size + 2)
            if event != f"data: {seen['events']}\n\n\r\n".encode():
                raise EOFError(f"{event} after {seen['events']} events")
            seen["events"] += 1
        seen["ended"] = "complete"
    except (EOFError, OSError, ValueError) as why:
        seen["ended"] = f"{type(why).__name__}: {why}"


async def client(ca, summary, *wanted):
    tls = ssl.create_default_context(cafile=ca)
    seen = {one.split("=")[0]: {"events": 0, "ended": None} for one in wanted}
    streams = [asyncio.create_task(stream(tls, one.split("=")[1], seen[one.split("=")[0]])) for one in wanted]
    going_on = True
    while going_on:
        going_on = any(not one.done() for one in streams)
        with open(f"{summary}.new", "w") as out:
            json.dump(seen, out)
        os.replace(f"{summary}.new", summary)
        await asyncio.sleep(0.5)


verb, *arguments = sys.argv[1:]
asyncio.run({"backend": backend, "client": client}[verb](*arguments))
