"""troubles.py PLAIN HTTPS OTHER SMALL: until it is ended, some ten requests a second: those of an
ordinary day, and beside them each kind that keeps an alert's condition true. Nothing is expected of
the answers: that is Prometheus' part."""

import http.client
import itertools
import ssl
import sys
import threading
import time

import sockets

PLAIN, HTTPS, OTHER, SMALL = sys.argv[1:]


def again_and_again(pause, what, *arguments):
    def run():
        while True:
            try:
                what(*arguments)
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(pause)

    threading.Thread(target=run, daemon=True).start()


def ordinary():
    """Over TLS; the certificate is the CA's of another test."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with context.wrap_socket(sockets.connect(HTTPS), server_hostname="app.openclaw.example") as edge:
        edge.sendall(b"GET / HTTP/1.1\r\nhost: app.openclaw.example\r\nconnection: close\r\n\r\n")
        while edge.recv(65536):
            pass


def get(host, path, count):
    sockets.get(PLAIN, f"{host}.openclaw.example", path, count)


def main():
    again_and_again(0.5, ordinary)
    # Two that take turns: without a moment in which nobody waits.
    again_and_again(0, get, "slow", "/slow", 1)
    again_and_again(2, get, "slow", "/slow", 1)
    again_and_again(0.1, get, "api", "/x", 15)
    again_and_again(0.2, get, "api", "/x", 15)
    # One holds the only place, the other finds it taken.
    again_and_again(0, get, "narrow", "/slow", 1)
    again_and_again(1, get, "narrow", "/x", 1)
    again_and_again(1, get, "flaky", "/x", 4)
    again_and_again(0.5, get, "limited", "/x", 1)
    again_and_again(1, sockets.keys, PLAIN, 1)
    again_and_again(0.5, sockets.guess, PLAIN, 1)
    again_and_again(2, sockets.garbage, OTHER, 1)
    again_and_again(2, sockets.garbage, SMALL, 1)
    for _ in itertools.count():
        time.sleep(3600)


main()
