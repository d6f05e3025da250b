"""Clients and a backend for the tests that run a machine (../machine.sh). Python alone.

    traffic.py backend PORT
    traffic.py load CA SUMMARY [NEWCOMERS [STEADY]]
    traffic.py websockets CA SUMMARY [COUNT]

`load`: NEWCOMERS (6) clients with a new connection for each request, every third to port 80, and
STEADY (4) clients with one connection each. `websockets`: COUNT (50) connections that are asked for
an echo twice a second. Both go on until SIGTERM, and ten times a second write what has happened so
far, as JSON, to SUMMARY.
"""

import asyncio
import base64
import hashlib
import json
import os
import signal
import ssl
import sys
import time

HOST = "app.openclaw.example"
PATIENCE = 30
PAUSE = 0.01


class Tally:
    """How the requests ended, and the longest time in which none was answered."""

    def __init__(self):
        self.counts = dict.fromkeys(["answered", "refused", "reset", "closed", "status", "timeout", "other", "reconnected", "retried"], 0)
        self.slowest = self.silence = 0.0
        self.last = time.monotonic()
        self.odd = []

    def answered(self, took):
        now = time.monotonic()
        self.counts["answered"] += 1
        self.slowest = max(self.slowest, took)
        self.silence = max(self.silence, now - self.last)
        self.last = now

    def failed(self, kind, why):
        self.counts[kind] += 1
        # The first five of each kind.
        if sum(one.startswith(f"{kind}: ") for one in self.odd) < 5:
            self.odd.append(f"{kind}: {why}")

    def summary(self):
        counts = self.counts
        lost = sum(counts[kind] for kind in counts if kind not in ("answered", "reconnected", "retried"))
        return counts | {"lost": lost, "slowest_ms": round(self.slowest * 1000),
                         "silence_ms": round(self.silence * 1000), "odd": self.odd}


def kind_of(error):
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, (ConnectionResetError, BrokenPipeError)):
        return "reset"
    if isinstance(error, (asyncio.IncompleteReadError, EOFError, ssl.SSLError)):
        return "closed"
    if isinstance(error, (asyncio.TimeoutError, TimeoutError)):
        return "timeout"
    return "other"


async def opened(tls):
    if tls:
        return await asyncio.open_connection("127.0.0.1", 443, ssl=tls, server_hostname=HOST)
    return await asyncio.open_connection("127.0.0.1", 80)


async def ask(reader, writer, close):
    """Status, and whether the connection goes on."""
    last = "Connection: close\r\n" if close else ""
    writer.write(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n{last}\r\n".encode())
    await writer.drain()
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = head.partition("content-length:")[2].split("\r", 1)[0]
    await reader.readexactly(int(length or 0))
    return int(head.split(" ", 2)[1]), "\r\nconnection: close" not in head


async def one_connection(tally, tls):
    begun = time.monotonic()
    writer = None
    try:
        reader, writer = await opened(tls)
        status, _ = await ask(reader, writer, close=True)
        if status == (200 if tls else 308):
            tally.answered(time.monotonic() - begun)
        else:
            tally.failed("status", status)
    finally:
        if writer:
            writer.transport.abort()


async def newcomer(tally, tls):
    while True:
        try:
            await asyncio.wait_for(one_connection(tally, tls), PATIENCE)
        except (OSError, EOFError, asyncio.TimeoutError, ssl.SSLError) as error:
            tally.failed(kind_of(error), repr(error))
        await asyncio.sleep(PAUSE)


async def steady(tally, tls):
    """One connection after another. Where the edge says that it closes, that is no loss. A GET that
    crosses the end of a connection at rest is sent once more, as browsers do (RFC 9112 section 9.3.1)."""
    first, used = True, False
    while True:
        try:
            used = False
            reader, writer = await asyncio.wait_for(opened(tls), PATIENCE)
            if not first:
                tally.counts["reconnected"] += 1
            first, goes_on = False, True
            while goes_on and not reader.at_eof():
                begun = time.monotonic()
                status, goes_on = await asyncio.wait_for(ask(reader, writer, close=False), PATIENCE)
                if status == 200:
                    tally.answered(time.monotonic() - begun)
                else:
                    tally.failed("status", status)
                used = True
                await asyncio.sleep(PAUSE)
            writer.transport.abort()
        except (OSError, EOFError, asyncio.TimeoutError, ssl.SSLError) as error:
            if used and crossed(error):
                tally.counts["retried"] += 1
                continue
            tally.failed(kind_of(error), repr(error))
            await asyncio.sleep(PAUSE)


def crossed(error):
    """Not a byte of the answer has come."""
    if isinstance(error, asyncio.IncompleteReadError):
        return not error.partial
    return kind_of(error) == "reset"


async def load(ca, summary, newcomers="6", clients="4"):
    tls = ssl.create_default_context(cafile=ca)
    tally = Tally()
    tasks = [newcomer(tally, None if number % 3 == 2 else tls) for number in range(int(newcomers))]
    tasks += [steady(tally, tls) for _ in range(int(clients))]
    await until_told(tasks, summary, tally.summary)


# === WebSockets ===

class Socket:
    def __init__(self):
        self.open = False
        self.echoes = 0
        self.ended = None

    async def live(self, tls):
        begun = time.monotonic()
        try:
            reader, writer = await asyncio.wait_for(opened(tls), PATIENCE)
            key = base64.b64encode(os.urandom(16)).decode()
            writer.write((f"GET /ws HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                          f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n").encode())
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
            if b" 101 " not in head or accept(key).encode() not in head:
                raise EOFError(f"no upgrade: {head[:60]}")
            self.open, begun = True, time.monotonic()
            while True:
                text = os.urandom(8).hex().encode()
                writer.write(frame(text, masked=True))
                if await asyncio.wait_for(read_frame(reader), PATIENCE) != text:
                    raise EOFError("not the echo")
                self.echoes += 1
                await asyncio.sleep(0.5)
        except (OSError, EOFError, asyncio.TimeoutError, ssl.SSLError) as error:
            self.open, self.ended = False, (time.monotonic() - begun, kind_of(error))


async def websockets(ca, summary, count="50"):
    tls = ssl.create_default_context(cafile=ca)
    sockets = [Socket() for _ in range(int(count))]

    def counted():
        ended = [one.ended for one in sockets if one.ended]
        kinds = [kind for _, kind in ended]
        return {"open": sum(one.open for one in sockets), "ended": len(ended),
                "echoes": sum(one.echoes for one in sockets), "fewest": min(one.echoes for one in sockets),
                "longest_s": round(max([lived for lived, _ in ended], default=0), 1),
                "how": {kind: kinds.count(kind) for kind in set(kinds)}}

    await until_told([one.live(tls) for one in sockets], summary, counted)


def accept(key):
    return base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()


def frame(text, masked):
    if not masked:
        return bytes([0x81, len(text)]) + text
    mask = os.urandom(4)
    return bytes([0x81, 0x80 | len(text)]) + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(text))


async def read_frame(reader):
    """Of less than 126 bytes; text, or the end."""
    first, second = await reader.readexactly(2)
    mask = await reader.readexactly(4) if second & 0x80 else bytes(4)
    data = await reader.readexactly(second & 0x7F)
    if first & 0x0F != 1:
        raise EOFError(f"opcode {first & 0x0F}")
    return bytes(b ^ mask[i % 4] for i, b in enumerate(data))


# === the backend ===

async def answer(reader, writer):
    try:
        while head := (await reader.readuntil(b"\r\n\r\n")).decode():
            fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
            if fields.get("upgrade") == "websocket":
                key = next(line.split(": ", 1)[1] for line in head.split("\r\n") if line.lower().startswith("sec-websocket-key: "))
                writer.write((f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                              f"Sec-WebSocket-Accept: {accept(key)}\r\n\r\n").encode())
                while True:
                    writer.write(frame(await read_frame(reader), masked=False))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nbackend\n")
    except (EOFError, OSError):
        writer.close()


async def backend(port):
    server = await asyncio.start_server(answer, "127.0.0.1", int(port), backlog=4096)
    await server.serve_forever()


# === ends ===

async def until_told(work, summary, say):
    """Writes what has happened so far every 0.1 s, and ends the process."""
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    # Kept, or they might be collected.
    tasks = [asyncio.create_task(one) for one in work]  # noqa: F841
    try:
        while not told.is_set():
            keep(summary, say())
            await asyncio.sleep(0.1)
        keep(summary, say())
    except OSError:
        # The test has gone.
        os._exit(1)
    # Whatever the clients are at: one that is cancelled may wait for its server.
    os._exit(0)


def keep(path, what):
    with open(f"{path}.new", "w") as out:
        json.dump(what, out)
    os.replace(f"{path}.new", path)


if __name__ == "__main__":
    verb, *arguments = sys.argv[1:]
    asyncio.run({"backend": backend, "load": load, "websockets": websockets}[verb](*arguments))
