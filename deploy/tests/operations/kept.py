"""kept.py PORT HOST FILE: one TLS connection; a request and its status, and once FILE is there another."""

import http.client
import os
import socket
import ssl
import sys
import time

PORT, HOST, FILE = sys.argv[1:]


def main():
    # The certificate is of a CA of the test.
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPConnection(HOST)
    connection.sock = context.wrap_socket(socket.create_connection(("127.0.0.1", int(PORT))), server_hostname=HOST)
    # Never a second connection in its place.
    connection.auto_open = 0
    ask(connection)
    while not os.path.exists(FILE):
        time.sleep(0.05)
    ask(connection)


def ask(connection):
    connection.request("GET", "/health")
    answer = connection.getresponse()
    answer.read()
    print(answer.status, flush=True)


main()
