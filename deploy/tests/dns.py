#!/usr/bin/env python3
"""A name server for a test: `dns.py ADDRESS NAME=IPV4...`. Other names do not exist; of other types of
a name there is nothing."""

import ipaddress
import socket
import struct
import sys


def main():
    names = dict(one.split("=") for one in sys.argv[2:])
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((sys.argv[1], 53))
    while True:
        query, client = server.recvfrom(4096)
        server.sendto(answer(query, names), client)


def answer(query, names):
    """RFC 1035 §4.1: the question again, and an address where there is one."""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode())
        at += 1 + query[at]
    question = query[12 : at + 5]
    kind = struct.unpack_from(">H", query, at + 1)[0]
    address = names.get(".".join(labels).lower())
    record = b""
    if address and kind == 1:
        record = struct.pack(">HHHIH", 0xC00C, 1, 1, 5, 4) + ipaddress.IPv4Address(address).packed
    flags = 0x8580 if address else 0x8583
    return query[:2] + struct.pack(">HHHHH", flags, 1, 1 if record else 0, 0, 0) + question + record


main()
