"""sockets.py hold PORT N: opens N connections and keeps them until it is ended.
sockets.py keep PORT N HOST: the same with a request on each of them now and then, for as long as the
edge keeps clients that are served; one that is closed is opened again.
sockets.py garbage PORT N: N connections that begin with something that is not TLS.
sockets.py get PORT HOST PATH N: N requests in plaintext at once, whatever comes back.
sockets.py keys PORT N, sockets.py guess PORT N: N requests one after the other on one connection,
each with another key of a limit, another password."""

import base64
import http.client
import itertools
import secrets
import signal
import socket
import sys
import time


def connect(port):
    return socket.create_connection(("127.0.0.1", int(port)), timeout=30)


def hold(port, n):
    held = [connect(port) for _ in range(int(n))]
    print(len(held), flush=True)
    signal.pause()


def keep(port, n, host):
    request = f"GET / HTTP/1.1\r\nhost: {host}\r\n\r\n".encode()
    kept = [None] * int(n)
    for place in itertools.cycle(range(len(kept))):
        try:
            kept[place] = kept[place] or connect(port)
            kept[place].sendall(request)
            if not kept[place].recv(65536):
                kept[place] = None
        except OSError:
            kept[place] = None
        # Half of the time that an idle connection has.
        if all(kept):
            time.sleep(37 / len(kept))


def garbage(port, n):
    for _ in range(int(n)):
        with connect(port) as stream:
            stream.sendall(b"GET / HTTP/1.1\r\n\r\n")
            try:
                stream.recv(100)
            except OSError:
                pass


def get(port, host, path, n):
    request = f"GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode()
    streams = [connect(port) for _ in range(int(n))]
    for stream in streams:
        stream.sendall(request)
    for stream in streams:
        try:
            while stream.recv(65536):
                pass
        except OSError:
            pass


def in_a_row(port, n, host, field):
    edge = http.client.HTTPConnection("127.0.0.1", int(port), timeout=30)
    for _ in range(int(n)):
        name, value = field()
        edge.request("GET", "/x", headers={"host": host, name: value})
        edge.getresponse().read()


def keys(port, n):
    in_a_row(port, n, "keyed.openclaw.example", lambda: ("x-token", secrets.token_hex(8)))


def guess(port, n):
    def credentials():
        pair = f"user:{secrets.token_hex(8)}".encode()
        return "authorization", "Basic " + base64.b64encode(pair).decode()

    in_a_row(port, n, "locked.openclaw.example", credentials)


if __name__ == "__main__":
    {"hold": hold, "keep": keep, "garbage": garbage, "get": get, "keys": keys, "guess": guess}[sys.argv[1]](*sys.argv[2:])
