"""Asks resolvers, as a program on a machine of a laboratory: one line of JSON for each question.

    python -m tests.net.dns_asker SERVER udp|tcp NAME KIND [NAME KIND...]
    python -m tests.net.dns_asker SERVER udp until NAME KIND SECONDS    asks until there is an answer

The latter says `ready` first. Each line has `code`, `values` (addresses or names), `bytes` and `ms`; a question
without an answer has `code` null.
"""

import json
import socket
import struct
import sys
import time
from typing import Any, Final

from clanmeshd.dns import HEADER, Kind, Reader
from clanmeshd.naming.zone import name_of, text_of

PORT: Final = 53
TIMEOUT_S: Final = 2.0
POLL_S: Final = 0.01
OPTIONS: Final = struct.pack("!BHHIH", 0, 41, 1232, 0, 0)


def question(name: str, kind: int, number: int) -> bytes:
    """A message that asks one thing."""
    labels = b"".join(bytes([len(label)]) + label for label in name_of(name))
    return HEADER.pack(number, 0x0100, 1, 0, 0, 1) + labels + b"\0" + struct.pack("!HH", kind, 1) + OPTIONS


def told(answer: bytes) -> dict[str, Any]:
    """What an answer says."""
    _, flags, questions, answers, *_ = HEADER.unpack_from(answer)
    reader = Reader(answer, HEADER.size)
    for _ in range(questions):
        reader.question()
    records = [reader.record() for _ in range(answers)]
    values = [
        socket.inet_ntop(socket.AF_INET6, each.value) if each.kind == Kind.AAAA else text_of(each.target)
        for each in records
    ]
    return {"code": flags & 0xF, "values": values, "bytes": len(answer)}


def ask(server: str, transport: str, name: str, kind: str, number: int) -> dict[str, Any]:
    """Ask once."""
    data, stream = question(name, Kind[kind], number), transport == "tcp"
    begun_s = time.perf_counter()
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM) as asker:
        asker.settimeout(TIMEOUT_S)
        try:
            asker.connect((server, PORT))
            asker.sendall(struct.pack("!H", len(data)) + data if stream else data)
            answer = asker.recv(4096)
        except OSError as error:
            return {"code": None, "why": str(error), "values": [], "ms": 0.0}
    ms = (time.perf_counter() - begun_s) * 1000
    return {**told(answer[2:] if stream else answer), "ms": round(ms, 2)}


def main(server: str, transport: str, *words: str) -> None:
    """Ask what the words say."""
    if words[0] == "until":
        _, name, kind, seconds = words
        deadline_s = time.monotonic() + float(seconds)
        print("ready", flush=True)
        while not (answer := ask(server, transport, name, kind, 1))["values"] and time.monotonic() < deadline_s:
            time.sleep(POLL_S)
        print(json.dumps({**answer, "unix_s": time.time()}))
        return
    for number, (name, kind) in enumerate(zip(words[::2], words[1::2], strict=True), 1):
        print(json.dumps(ask(server, transport, name, kind, number)))


if __name__ == "__main__":
    main(*sys.argv[1:])
