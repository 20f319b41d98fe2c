"""One question to the daemon over its control socket, for the activator: standard library only.

A small part of msgpack: a request with no arguments, and an answer of maps, lists, texts, numbers and truths.
"""

from __future__ import annotations

import os
import time
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM, socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

SOCKET_NAME = "control.sock"
ANSWER_BYTES_MAX = 65_536  # what is asked here has a line for an answer
DEPTH_MAX = 8

_LENGTHS = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4, 0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}
_UNSIGNED = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}
_SIGNED = {0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_FLOATS = {0xCA: ">f", 0xCB: ">d"}
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


def ask(runtime: str | Path, call: str, timeout_s: float) -> Any:
    """The result of a call without arguments. Raises OSError when there is none in time, whatever the reason."""
    deadline = time.monotonic() + timeout_s
    body = b"\x83" + _text("v") + b"\x01" + _text("call") + _text(call) + _text("args") + b"\x80"
    channel = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
    try:
        channel.settimeout(timeout_s)
        channel.connect(os.path.join(runtime, SOCKET_NAME))
        channel.sendall(len(body).to_bytes(4, "big") + body)
        length = int.from_bytes(_exactly(channel, 4, deadline), "big")
        if length > ANSWER_BYTES_MAX:
            raise OSError(f"the daemon's answer has {length} bytes")
        answer, _ = read_value_untrusted(_exactly(channel, length, deadline), 0)
    finally:
        channel.close()
    if not isinstance(answer, dict) or "result" not in answer:
        raise OSError(f"the daemon refuses {call}")
    return answer["result"]


def _exactly(channel: socket, count: int, deadline: float) -> bytes:
    data = bytearray()
    while len(data) < count:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise OSError("the daemon takes too long")
        channel.settimeout(left_s)
        chunk = channel.recv(count - len(data))
        if not chunk:
            raise OSError("the daemon hung up")
        data += chunk
    return bytes(data)


def _text(value: str) -> bytes:
    data = value.encode()
    assert len(data) < 32
    return bytes([0xA0 | len(data)]) + data


def read_value_untrusted(data: bytes, at: int, depth: int = 0) -> tuple[Any, int]:
    """Read one value from `at` on; give it and where it ends. Raises OSError for what is not understood."""
    if depth > DEPTH_MAX or at >= len(data):
        raise OSError("the daemon's answer is damaged")
    code, at = data[at], at + 1
    if code < 0x80 or code >= 0xE0:
        return (code if code < 0x80 else code - 0x100), at
    if code in _CONSTANTS:
        return _CONSTANTS[code], at
    if code in _UNSIGNED or code in _SIGNED:
        size = _UNSIGNED.get(code) or _SIGNED[code]
        return int.from_bytes(_take(data, at, size), "big", signed=code in _SIGNED), at + size
    if code in _FLOATS:
        import struct

        size = struct.calcsize(_FLOATS[code])
        return struct.unpack(_FLOATS[code], _take(data, at, size))[0], at + size
    if code < 0xC0:
        kind, count = (code & 0xE0 if code >= 0xA0 else code & 0xF0), code & (0x1F if code >= 0xA0 else 0x0F)
    elif code in _LENGTHS:
        count = int.from_bytes(_take(data, at, _LENGTHS[code]), "big")
        at += _LENGTHS[code]
        kind = 0xA0 if code in (0xD9, 0xDA, 0xDB) else 0xC4 if code < 0xC7 else 0x90 if code < 0xDE else 0x80
    else:
        raise OSError("the daemon's answer is not understood")
    return _read_many(data, at, kind, count, depth)


def _read_many(data: bytes, at: int, kind: int, count: int, depth: int) -> tuple[Any, int]:
    if kind in (0xA0, 0xC4):
        part = _take(data, at, count)
        return (part.decode(errors="replace") if kind == 0xA0 else part), at + count
    values = []
    for _ in range(count if kind == 0x90 else 2 * count):
        value, at = read_value_untrusted(data, at, depth + 1)
        values.append(value)
    if kind == 0x90:
        return values, at
    return {str(key): value for key, value in zip(values[::2], values[1::2], strict=True)}, at


def _take(data: bytes, at: int, size: int) -> bytes:
    if size > len(data) - at:
        raise OSError("the daemon's answer is cut short")
    return data[at : at + size]
