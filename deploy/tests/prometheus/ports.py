"""ports.py N [FROM TO]: N ports of 127.0.0.1 that nobody has. Below those that the kernel gives to
clients. Some of them must stay free meanwhile: the tests have networks of their own."""

import random
import socket
import sys


def main():
    count, found = int(sys.argv[1]), []
    ports = range(*map(int, sys.argv[2:] or (20000, 30000)))
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
