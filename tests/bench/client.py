# SPDX-License-Identifier: Apache-2.0
"""A client that tries to connect every 10 ms, in the network of a machine: client.py PORT LOG_DIR

Prints {"down_sec", "first_connack_sec"} as JSON: from the last CONNACK to the first one of a ready node, and to the first one
of any. Ready is a node that has logged "is running now!" since this began: real ones accept clients before their plugins are
loaded. It ends then, or after TIMEOUT_SEC."""

import json
import pathlib
import socket
import sys
import time

EVERY_SEC = 0.01
ANSWER_SEC = 0.25
TIMEOUT_SEC = 900

CONNECT = bytes([0x10, 18, 0, 4]) + b"MQTT" + bytes([4, 2, 0, 60, 0, 6]) + b"downup"
DISCONNECT = bytes([0xE0, 0])


def connack(port):
    """Whether a CONNECT was accepted."""
    try:
        with socket.create_connection(("127.0.0.1", port), ANSWER_SEC) as s:
            s.sendall(CONNECT)
            answer = s.recv(4)
            s.sendall(DISCONNECT)
            return answer == b"\x20\x02\x00\x00"
    except OSError:
        return False


def is_ready(log_dir, seen):
    """Whether the node has said so in what was logged after seen, {file: size}."""
    for file in pathlib.Path(log_dir).glob("erlang.log.*"):
        try:
            with file.open("rb") as f:
                f.seek(seen.get(file.name, 0))
                if b"is running now!" in f.read():
                    return True
        except OSError:
            continue
    return False


def main(port, log_dir):
    seen = {f.name: f.stat().st_size for f in pathlib.Path(log_dir).glob("erlang.log.*")}
    begin = time.monotonic()
    if not connack(port):
        sys.exit("the node does not serve")
    print("serving", flush=True)
    last = time.monotonic()
    down = (0, last)  # the longest time without an answer, and from when
    while time.monotonic() - begin < TIMEOUT_SEC:
        tried = time.monotonic()
        if connack(port):
            now = time.monotonic()
            down = max(down, (now - last, last))
            last = now
            if down[0] > 2 * ANSWER_SEC and is_ready(log_dir, seen):
                print(json.dumps({"down_sec": now - down[1], "first_connack_sec": down[0]}))
                return
        time.sleep(max(0, EVERY_SEC - (time.monotonic() - tried)))
    sys.exit(f"no node became ready within {TIMEOUT_SEC} s")


main(int(sys.argv[1]), sys.argv[2])
