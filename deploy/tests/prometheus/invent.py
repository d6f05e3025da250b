"""invent.py PLAIN HTTPS N: N times each what a client can make up: a host, a path, a method, a field, a
name in the TLS handshake. Prints what was new in each round, after three answered requests."""

import http.client
import secrets
import ssl
import sys

import sockets

PLAIN, HTTPS, N = sys.argv[1], sys.argv[2], int(sys.argv[3])


def ask(edge, method, path, **fields):
    edge.request(method, path, headers=fields)
    edge.getresponse().read()


def handshake(name):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        context.wrap_socket(sockets.connect(HTTPS), server_hostname=name).close()
    except OSError:
        pass


def main():
    edge = http.client.HTTPConnection("127.0.0.1", int(PLAIN), timeout=30)
    for _ in range(N):
        new = secrets.token_hex(6)
        ask(edge, "GET", "/", Host=f"{new}.openclaw.example")
        ask(edge, "GET", f"/{new}?{new}", Host="app.openclaw.example", User_Agent=new)
        ask(edge, f"X-{new.upper()}", "/", Host="limited.openclaw.example", Referer=f"https://{new}.example/")
        handshake(f"{new}.openclaw.example")
        print(new)


main()
