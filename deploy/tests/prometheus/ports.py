"""ports.py N: N ports of 127.0.0.1 that nobody has, below those that the kernel gives to clients."""

import random
import socket
import sys


def main():
    found = []
    for port in random.sample(range(15000, 30000), 5000):
        try:
            with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
                tcp.bind(("127.0.0.1", port))
                udp.bind(("127.0.0.1", port))
        except OSError:
            continue
        found.append(str(port))
        if len(found) == int(sys.argv[1]):
            break
    print(*found)


main()
