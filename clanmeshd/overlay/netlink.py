"""Netlink, spoken by a socket that trio owns: framing, sequence numbers, acknowledgements, dumps.

Which messages exist is not known here. Requests are answered in order on one socket; an answer that was given
up on is recognised by its sequence number and dropped.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

import trio

NETLINK_ROUTE: Final = 0
NETLINK_GENERIC: Final = 16

NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_DUMP_INTR: Final = 0x10
NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400
NLM_F_DUMP: Final = 0x300
NLA_F_NESTED: Final = 0x8000

REPLY_TIMEOUT_S: Final = 5.0  # the kernel answers in microseconds; a loading module takes a second
DUMP_ATTEMPTS_MAX: Final = 4  # the table changed while it was read; it does not change all the time

_NLMSG_ERROR: Final = 2
_NLMSG_DONE: Final = 3
_ENDS: Final = (_NLMSG_ERROR, _NLMSG_DONE)
_NLM_F_CAPPED: Final = 0x100
_NLM_F_ACK_TLVS: Final = 0x200
_NLMSGERR_ATTR_MSG: Final = 1
_SOL_NETLINK: Final = 270
_NETLINK_CAP_ACK: Final = 10  # an error does not echo the request, which may hold a key
_NETLINK_EXT_ACK: Final = 11  # it says in words what was wrong instead
_NETLINK_GET_STRICT_CHK: Final = 12  # the kernel filters dumps, so a router's full table is never copied to us
_KERNEL: Final = (0, 0)  # its port id, and no multicast group
_ATTRIBUTE_TYPE_MASK: Final = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
_RECEIVE_BYTES: Final = 65_536  # the kernel makes dump messages no larger than 32 KiB
_HEADER: Final = struct.Struct("=IHHII")  # length, type, flags, sequence, port id
_ATTRIBUTE: Final = struct.Struct("=HH")  # length, type


class Request(NamedTuple):
    """One message to the kernel, without header."""

    kind: int
    flags: int  # beside NLM_F_REQUEST and NLM_F_ACK, which every request has
    body: bytes


class Message(NamedTuple):
    """One message of the kernel's."""

    kind: int
    flags: int
    sequence: int
    body: bytes


def frame(request: Request, sequence: int) -> bytes:
    """Put a header before a request and pad it to a multiple of 4 bytes."""
    flags = request.flags | NLM_F_REQUEST | NLM_F_ACK
    header = _HEADER.pack(_HEADER.size + len(request.body), request.kind, flags, sequence, 0)
    return _padded(header + request.body)


def parse_messages(data: bytes) -> Iterator[Message]:
    """Cut what one read returned into messages. Raises OSError(EBADMSG)."""
    while data:
        if len(data) < _HEADER.size:
            raise _malformed("a netlink message without a whole header")
        length, kind, flags, sequence, _port = _HEADER.unpack_from(data)
        if not _HEADER.size <= length <= len(data):
            raise _malformed(f"a netlink message of {length} bytes in {len(data)}")
        yield Message(kind, flags, sequence, data[_HEADER.size : length])
        data = data[_aligned(length) :]


def attribute(kind: int, payload: bytes) -> bytes:
    """Encode one attribute with its padding."""
    return _padded(_ATTRIBUTE.pack(_ATTRIBUTE.size + len(payload), kind) + payload)


def parse_attributes(data: bytes) -> dict[int, bytes]:
    """Cut attributes apart; the last one of a type counts. Raises OSError(EBADMSG)."""
    return dict(_attributes(data))


def parse_list(data: bytes) -> Iterator[bytes]:
    """Cut nested attributes apart of which only the order counts. Raises OSError(EBADMSG)."""
    return (payload for _kind, payload in _attributes(data))


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        if len(data) - at < _ATTRIBUTE.size:
            raise _malformed("a netlink attribute without a whole header")
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if not _ATTRIBUTE.size <= length <= len(data) - at:
            raise _malformed(f"a netlink attribute of {length} bytes in {len(data) - at}")
        yield kind & _ATTRIBUTE_TYPE_MASK, data[at + _ATTRIBUTE.size : at + length]
        at += _aligned(length)


class NetlinkSocket:
    """Requests to one netlink family. All methods raise OSError with the kernel's errno."""

    def __init__(self, family: int) -> None:
        self._socket = trio.socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, family)
        for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        self._sequence = 0
        self._lock = trio.Lock()

    def close(self) -> None:
        """Close the socket; a waiting request raises trio.ClosedResourceError."""
        self._socket.close()

    async def ask(self, *requests: Request) -> list[bytes]:
        """Send requests in one system call and return the bodies of what came before their acknowledgements.

        The kernel works on all of them before the call returns, so our death can't come between two.
        The first failure is raised, after all have been answered.
        """
        async with self._lock:
            with _deadline():
                return _bodies(await self._exchange(requests))

    async def dump(self, request: Request) -> list[bytes]:
        """Read a table whole; a dump that the kernel calls inconsistent is read again."""
        whole = request._replace(flags=request.flags | NLM_F_DUMP)
        async with self._lock:
            for _ in range(DUMP_ATTEMPTS_MAX):
                with _deadline():
                    messages = await self._exchange([whole])
                if not any(message.flags & NLM_F_DUMP_INTR for message in messages):
                    return _bodies(messages)
        raise OSError(errno.EAGAIN, "the table changed under every attempt to read it")

    async def _exchange(self, requests: Sequence[Request]) -> list[Message]:
        first = self._sequence + 1
        self._sequence += len(requests)
        sequences = range(first, first + len(requests))
        await self._socket.sendto(b"".join(map(frame, requests, sequences)), _KERNEL)
        waiting = set(sequences)
        replies: list[Message] = []
        failure: OSError | None = None
        while waiting:
            for message in await self._receive():
                if message.sequence not in waiting:
                    continue  # the answer to a request that was cancelled
                replies.append(message)
                if message.kind in _ENDS:
                    waiting.discard(message.sequence)
                    failure = failure or _failure_of(message)
        if failure is not None:
            raise failure
        return replies

    async def _receive(self) -> list[Message]:
        data, _ancillary, flags, sender = await self._socket.recvmsg(_RECEIVE_BYTES)
        if flags & socket.MSG_TRUNC:
            raise _malformed(f"a netlink message of more than {_RECEIVE_BYTES} bytes")
        if sender != _KERNEL:
            return []  # not from the kernel
        return list(parse_messages(data))


def _failure_of(message: Message) -> OSError | None:
    """The error in an acknowledgement or at the end of a dump, with the kernel's words when it has some."""
    if len(message.body) < 4:
        return None
    (code,) = struct.unpack_from("=i", message.body)
    if code >= 0:
        return None
    return OSError(-code, _words_of(message) or os.strerror(-code))


def _words_of(message: Message) -> str:
    if not message.flags & _NLM_F_ACK_TLVS:
        return ""
    echoed = _HEADER.size if message.kind == _NLMSG_ERROR else 0
    if echoed and not message.flags & _NLM_F_CAPPED:
        return ""
    words = parse_attributes(message.body[4 + echoed :]).get(_NLMSGERR_ATTR_MSG, b"")
    return words.rstrip(b"\0").decode(errors="replace")


@contextmanager
def _deadline() -> Iterator[None]:
    try:
        with trio.fail_after(REPLY_TIMEOUT_S):
            yield
    except trio.TooSlowError:
        raise TimeoutError(errno.ETIMEDOUT, "the kernel did not answer") from None


def _bodies(messages: list[Message]) -> list[bytes]:
    return [message.body for message in messages if message.kind not in _ENDS]


def _padded(data: bytes) -> bytes:
    return data + bytes(_aligned(len(data)) - len(data))


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def _malformed(what: str) -> OSError:
    return OSError(errno.EBADMSG, what)
