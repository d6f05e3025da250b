"""backend.py PORT: an endpoint. `/health`, `/slow` (11 s to the first byte), `/hang` (60 s), `/ws`
(an upgrade, then whatever comes is sent back); everything else is answered at once."""

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Backend(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/ws":
            return self.echo()
        waits = {"/slow": 11, "/hang": 60}
        time.sleep(waits.get(self.path, 0))
        self.reply(b"x" * 2000)

    do_HEAD = do_GET

    def do_POST(self):
        got = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.reply(b"%d\n" % len(got))

    def reply(self, body):
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def echo(self):
        self.send_response(101)
        self.send_header("connection", "upgrade")
        self.send_header("upgrade", "websocket")
        self.end_headers()
        while data := self.connection.recv(4096):
            self.connection.sendall(data)
        self.close_connection = True

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_):
        """Clients that leave are part of the test."""


Server(("127.0.0.1", int(sys.argv[1])), Backend).serve_forever()
