"""ports.py N FROM TO: N ports of 127.0.0.1 that nobody has. Below those that the kernel gives to
clients, and in a range of its own for each test: some must stay free for as long as it runs."""

import random
import socket
import sys


def main():
    (count, first, end), found = map(int, sys.argv[1:]), []
    ports = range(first, end)
    for port in random.sample(ports, len(ports)):
        try:
            with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
                tcp.bind(("127.0.0.1", port))
                udp.bind(("127.0.0.1", port))
        except OSError:
            continue
        found.append(str(port))
        if len(found) == count:
            break
    print(*found)


main()
