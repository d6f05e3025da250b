"""load.py HTTP_PORT HTTPS_PORT CA SECONDS: some ten requests a second of every kind that leaves a
metric behind, then one line with how many were answered as they should be. Fails where one was not."""

import itertools
import socket
import ssl
import sys
import time

HTTP, HTTPS, CA, SECONDS = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], float(sys.argv[4])


def tls(host, alpn=()):
    context = ssl.create_default_context(cafile=CA)
    if alpn:
        context.set_alpn_protocols(alpn)
    plain = socket.create_connection(("127.0.0.1", HTTPS), timeout=20)
    return context.wrap_socket(plain, server_hostname=host)


def head(method, path, host, *fields):
    lines = [f"{method} {path} HTTP/1.1", f"host: {host}", *fields]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def status(stream, request):
    """Sends and reads to the end of the connection; the status."""
    with stream:
        stream.sendall(request)
        answer = b""
        while part := stream.recv(65536):
            answer += part
    return int(answer.split(b" ", 2)[1])


def plain(request):
    return status(socket.create_connection(("127.0.0.1", HTTP), timeout=20), request)


def over_tls(method, path, host, *fields, body=b""):
    return status(tls(host), head(method, path, host, "connection: close", *fields) + body)


def leaves_early():
    with tls("app.openclaw.example") as stream:
        stream.sendall(head("GET", "/hang", "app.openclaw.example"))
        time.sleep(0.1)
    return 499


def expect(wanted, is_status):
    if is_status != wanted:
        sys.exit(f"{is_status} instead of {wanted}")
    return 1


KINDS = [
    lambda: expect(200, over_tls("GET", "/", "app.openclaw.example")),
    lambda: expect(200, over_tls("POST", "/", "api.openclaw.example", "content-length: 5", body=b"12345")),
    lambda: expect(200, over_tls("HEAD", "/", "app.openclaw.example")),
    lambda: expect(308, plain(head("GET", "/", "app.openclaw.example", "connection: close"))),
    lambda: expect(404, plain(head("GET", "/", "nobody.openclaw.example", "connection: close"))),
    lambda: expect(400, plain(head("GET", "/", "a.openclaw.example", "host: b.openclaw.example"))),
    lambda: expect(499, leaves_early()),
]


def main():
    end, done = time.monotonic() + SECONDS, 0
    with tls("app.openclaw.example") as socket_of_web:
        socket_of_web.sendall(
            head("GET", "/ws", "app.openclaw.example", "connection: upgrade", "upgrade: websocket",
                 "sec-websocket-version: 13", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==")
        )
        expect(101, int(socket_of_web.recv(4096).split(b" ", 2)[1]))
        for kind in itertools.cycle(KINDS):
            done += kind()
            socket_of_web.sendall(b"ping")
            if not socket_of_web.recv(4096):
                sys.exit("the tunnel has ended")
            time.sleep(0.05)
            if time.monotonic() > end and done > 2 * len(KINDS):
                break
    print(f"load: {done} requests, each answered as it should be")


main()
