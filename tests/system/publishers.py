# SPDX-License-Identifier: Apache-2.0
"""Clients that publish without a break: publishers.py HOST PORT N

N clients connect, each again as soon as its connection is gone, and publish 1, 2, 3 … to load/CLIENT, at QoS 1 and retained:
the next one only when the last one was acknowledged. Ends at the end of standard input and prints {"acked": {client: last
number}, "refused", "lost": connections, "pause_sec": the longest time between two acknowledgements of a client} as JSON.
Refused is who is let in neither by the load balancer nor by a node."""

import json
import socket
import sys
import threading
import time

EVERY_SEC = 0.02
ANSWER_SEC = 10

over = threading.Event()
lock = threading.Lock()
told = {"acked": {}, "refused": 0, "lost": 0, "pause_sec": 0.0}


def text(s):
    return len(s).to_bytes(2, "big") + s.encode()


def packet(kind, body):
    assert len(body) < 128
    return bytes([kind, len(body)]) + body


def answer(s, expected):
    got = b""
    while len(got) < 4:
        part = s.recv(4 - len(got))
        if not part:
            raise ConnectionResetError
        got += part
    if got != expected:
        raise ConnectionRefusedError(got)


def connect(address, client):
    s = socket.create_connection(address, ANSWER_SEC)
    s.sendall(packet(0x10, text("MQTT") + bytes([4, 2, 0, 60]) + text(client)))
    answer(s, b"\x20\x02\x00\x00")
    return s


def publish(s, client, number):
    packet_id = number % 65535 + 1
    s.sendall(packet(0x33, text(f"load/{client}") + packet_id.to_bytes(2, "big") + str(number).encode()))
    answer(s, b"\x40\x02" + packet_id.to_bytes(2, "big"))


def run(address, client):
    number, acked_at = 1, time.monotonic()
    while not over.is_set():
        try:
            s = connect(address, client)
        except OSError:
            with lock:
                told["refused"] += 1
            time.sleep(0.1)
            continue
        try:
            while not over.is_set():
                publish(s, client, number)
                now = time.monotonic()
                with lock:
                    told["acked"][client] = number
                    told["pause_sec"] = max(told["pause_sec"], now - acked_at)
                number, acked_at = number + 1, now
                time.sleep(EVERY_SEC)
        except OSError:
            with lock:
                told["lost"] += 1
        s.close()


def main(host, port, n):
    threads = [threading.Thread(target=run, args=((host, port), f"c{i}")) for i in range(n)]
    for t in threads:
        t.start()
    sys.stdin.read()
    over.set()
    for t in threads:
        t.join()
    print(json.dumps(told))


main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
