"""As much of HTTP (RFC 9112) as a router's UPnP needs: one request, one answer, the end. Pure."""

import re
from dataclasses import dataclass
from typing import Final

from clanmesh_protocol.errors import LimitError, MalformedError

ANSWER_BYTES_MAX: Final = 131_072  # descriptions have 2 to 20 kB
HEAD_BYTES_MAX: Final = 8192
TARGET_BYTES_MAX: Final = 1024
HEADERS_MAX: Final = 100
_CHUNKS_MAX: Final = 4096
_HEAD_END: Final = b"\r\n\r\n"
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] (\d{3})(?: [^\r\n]*)?\r\n")
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,8})(?:;[^\r\n]*)?\r\n")
_URL: Final = re.compile(r"(?i:http)://([0-9.]{7,15})(?::([0-9]{1,5}))?(/[\x21-\x7e]*)?")
_TARGET: Final = re.compile(r"/?[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is asked for at the router: a TCP port and a request target."""

    port: int
    target: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said. The body may be shorter than the server promised when it hung up early."""

    status: int
    body: bytes


def place_of_untrusted(url: str, host: str, base: Place | None = None) -> Place:
    """Read a URL at the one host that may be asked; one without a host goes by `base`. Raises MalformedError."""
    if len(url) > TARGET_BYTES_MAX:
        raise MalformedError("a URL that is too long")
    found = _URL.fullmatch(url)
    if found is not None:
        port = int(found[2] or 80)
        if found[1] != host or not 0 < port < 65_536:
            raise MalformedError("a URL that leads elsewhere")
        return Place(port, found[3] or "/")
    if base is None or "://" in url or not _TARGET.fullmatch(url) or url.startswith("//"):
        raise MalformedError("no URL of HTTP at an address")
    folder = base.target.partition("?")[0].rpartition("/")[0]
    return Place(base.port, url if url.startswith("/") else f"{folder}/{url}")


def request(place: Place, host: str, headers: dict[str, str] | None = None, body: bytes | None = None) -> bytes:
    """Write a request: GET, or POST when there is a body."""
    lines = [
        f"{'GET' if body is None else 'POST'} {place.target} HTTP/1.1",
        f"Host: {host}:{place.port}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
        *([f"Content-Length: {len(body)}"] if body is not None else []),
    ]
    return "\r\n".join(lines).encode("ascii") + _HEAD_END + (body or b"")


def headers_untrusted(head: bytes) -> dict[bytes, bytes]:
    """The headers below a first line, by their names in lower case; the first of each."""
    found: dict[bytes, bytes] = {}
    for line in head.split(b"\r\n", HEADERS_MAX + 1)[1 : HEADERS_MAX + 1]:
        name, _, value = line.partition(b":")
        found.setdefault(name.lower(), value.strip(b" \t"))
    return found


def read_answer_untrusted(data: bytes) -> Answer:
    """Read an answer to whose end the connection was read. Raises MalformedError or LimitError."""
    if len(data) > ANSWER_BYTES_MAX:
        raise LimitError(f"an HTTP answer of more than {ANSWER_BYTES_MAX} bytes")
    head, separator, body = data.partition(_HEAD_END)
    line = _STATUS_LINE.match(data)
    if line is None or not separator or len(head) > HEAD_BYTES_MAX:
        raise MalformedError("no answer of HTTP")
    headers = headers_untrusted(head)
    if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
        body = _joined_untrusted(body)
    elif (size := headers.get(b"content-length", b"")).isdigit() and len(size) < 8:
        body = body[: int(size)]
    return Answer(int(line[1]), body)


def is_whole_untrusted(data: bytes) -> bool:
    """Whether an answer needs no more to be read, though its server may keep the connection."""
    head, separator, body = data.partition(_HEAD_END)
    if not separator or len(head) > HEAD_BYTES_MAX:
        return len(head) > HEAD_BYTES_MAX
    headers = headers_untrusted(head)
    if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
        return body.endswith(b"0\r\n\r\n")
    size = headers.get(b"content-length", b"")
    return size.isdigit() and len(size) < 8 and len(body) >= int(size)


def _joined_untrusted(body: bytes) -> bytes:
    """Put the chunks of a body together."""
    parts: list[bytes] = []
    at = 0
    for _ in range(_CHUNKS_MAX):
        found = _CHUNK_SIZE.match(body, at)
        if found is None:
            raise MalformedError("a chunk without its size")
        size = int(found[1], 16)
        if size == 0:
            return b"".join(parts)
        parts.append(body[found.end() : found.end() + size])
        at = found.end() + size + 2
    raise LimitError(f"a body of more than {_CHUNKS_MAX} chunks")
