"""A flood: `junk_sender ADDRESS:PORT PER_SECOND SECONDS KIND` sends useless packets, then prints how many.

`random` has no shape of WireGuard's; `shaped` has, and fits no key and no session.
"""

import os
import socket
import sys
import time

TURN_S = 0.005


def packets(kind: str) -> list[bytes]:
    """What is sent, in turn."""
    if kind == "random":
        return [os.urandom(size) for size in (1, 48, 148, 1400)]
    tail = os.urandom(1400)
    return [b"\4\0\0\0" + tail[:92], b"\1\0\0\0" + tail[:144], b"\4\0\0\0" + tail, b"\2\0\0\0" + tail[:88]]


def main(to: str, per_s: float, seconds: float, kind: str) -> None:
    """Send, at an even pace."""
    host, _, port = to.rpartition(":")
    every = packets(kind)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect((host, int(port)))
        print("go", flush=True)
        began_s, sent = time.monotonic(), 0
        while (passed_s := time.monotonic() - began_s) < seconds:
            for number in range(sent, int(passed_s * per_s)):
                sender.send(every[number % len(every)])
            sent = max(sent, int(passed_s * per_s))
            time.sleep(TURN_S)
    print(sent, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), sys.argv[4])
