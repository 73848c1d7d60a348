# SPDX-License-Identifier: Apache-2.0
"""A client that sends itself a message at QoS 1 every 10 ms until SIGTERM, in the network of a machine: roundtrips.py PORT

Prints {"n", "median_msec", "p99_msec", "max_msec"} as JSON: from the PUBLISH to the broker to that from it."""

import json
import signal
import socket
import sys
import time

EVERY_SEC = 0.01
TOPIC = b"bench/roundtrips"

CONNECT = bytes([0x10, 22, 0, 4]) + b"MQTT" + bytes([4, 2, 0, 60, 0, 10]) + b"roundtrips"
SUBSCRIBE = bytes([0x82, 5 + len(TOPIC), 0, 1, 0, len(TOPIC)]) + TOPIC + bytes([0])


def publish(number):
    body = bytes([0, len(TOPIC)]) + TOPIC + (number % 65535 + 1).to_bytes(2, "big") + number.to_bytes(4, "big")
    return bytes([0x32, len(body)]) + body


def packets(stream):
    """(type, body) of all that comes; every one is shorter than 128 bytes."""
    while True:
        head = stream.read(2)
        if len(head) < 2:
            sys.exit("the broker has closed the connection")
        yield head[0] >> 4, stream.read(head[1])


def main(port):
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    msec = []
    with socket.create_connection(("127.0.0.1", port), 30) as s, s.makefile("rb") as stream:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        came = packets(stream)
        s.sendall(CONNECT)
        if next(came) != (2, b"\0\0"):
            sys.exit("the broker did not accept the client")
        s.sendall(SUBSCRIBE)
        if next(came)[0] != 9:
            sys.exit("the broker did not accept the subscription")
        print("serving", flush=True)
        while not stopped:
            begin = time.monotonic()
            s.sendall(publish(len(msec)))
            while True:
                kind, body = next(came)
                if kind == 3 and int.from_bytes(body[-4:], "big") == len(msec):
                    break
            msec.append((time.monotonic() - begin) * 1000)
            time.sleep(max(0, EVERY_SEC - (time.monotonic() - begin)))
    msec.sort()
    print(json.dumps({"n": len(msec), "median_msec": msec[len(msec) // 2], "p99_msec": msec[len(msec) * 99 // 100], "max_msec": msec[-1]}))


main(int(sys.argv[1]))
