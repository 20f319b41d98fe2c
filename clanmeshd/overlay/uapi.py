"""WireGuard's cross-platform configuration protocol, as text. Pure.

Values are read strictly. Keys that are not known are skipped: the protocol lets a program add some.
"""

import errno
import socket
from functools import lru_cache
from typing import Final

from clanmesh_protocol.endpoints import MAPPED_PREFIX, Endpoint
from clanmeshd.overlay.device import Network, Peer, WireGuard
from clanmeshd.overlay.plan import Configure, SetPeer
from clanmeshd.sockets import family_of

GET: Final = b"get=1\n\n"
END: Final = b"\n\n"  # of a request and of an answer

_KEY_DIGITS: Final = 64
_PORT_MAX: Final = 65_535
_KEEPALIVE_S_MAX: Final = 65_535
_COUNTER_MAX: Final = (1 << 64) - 1
_NUMBER_DIGITS_MAX: Final = 20
_TEXTS_CACHED_MAX: Final = 2048  # the same addresses and endpoints are read at each check


def encode_configure(change: Configure) -> bytes:
    """The request that makes a change. It never says `replace_peers`, which would end every session."""
    lines = ["set=1"]
    if change.private_key is not None:
        lines.append(f"private_key={change.private_key.hex()}")
    if change.listen_port is not None:
        lines.append(f"listen_port={change.listen_port}")
    for key in change.removed:
        lines += [f"public_key={key.hex()}", "remove=true"]
    for peer in change.peers:
        lines += _peer_lines(peer)
    return "\n".join(lines).encode() + END


def decode_result(answer: bytes) -> None:
    """Check the answer to a change. Raises OSError with the errno in it, or EBADMSG."""
    _errno_checked(_text(answer))


Known = dict[str, tuple[bytes, Peer]]  # what is said of a peer, and what that means


def decode_device(answer: bytes, known: Known | None = None) -> WireGuard:
    """Read the answer to `GET`. Raises OSError with the errno in it, or EBADMSG.

    `known` is of the answer before, and becomes that of this one: what is said again is not read again.
    """
    text = _errno_checked(_text(answer))
    head, *sections = ("\n" + text).split("\npublic_key=")
    private_key: bytes | None = None
    listen_port = 0
    for key, value in map(_pair, head.split()):
        if key == "private_key":
            private_key = _key(value)
        elif key == "listen_port":
            listen_port = _number(value, _PORT_MAX)
    before = known or {}
    now: Known = {section: before.get(section) or _peer(section) for section in sections}
    if known is not None:
        known.clear()
        known.update(now)
    return WireGuard(private_key or None, listen_port, dict(now.values()))


def _peer_lines(peer: SetPeer) -> list[str]:
    lines = [f"public_key={peer.public_key.hex()}"]
    if peer.present:
        lines.append("update_only=true")
    if peer.endpoint is not None:
        lines.append(f"endpoint={peer.endpoint}")
    if peer.keepalive_s is not None:
        lines.append(f"persistent_keepalive_interval={peer.keepalive_s}")
    if peer.allowed is not None:
        lines.append("replace_allowed_ips=true")
        lines += [f"allowed_ip={_network_text(network)}" for network in sorted(peer.allowed)]
    return lines


def _peer(section: str) -> tuple[bytes, Peer]:
    """Read one peer from its key's value to the next key."""
    public_key, *lines = section.split("\n")
    allowed: list[Network] = []
    endpoint: Endpoint | None = None
    numbers = {"persistent_keepalive_interval": 0, "last_handshake_time_sec": 0, "rx_bytes": 0, "tx_bytes": 0}
    for line in lines:
        key, separator, value = line.partition("=")
        if key in numbers:
            numbers[key] = _number(value, _COUNTER_MAX)
        elif key == "allowed_ip":
            allowed.append(_network(value))
        elif key == "endpoint":
            endpoint = _endpoint(value)
        elif not separator:
            raise _malformed(f"a line without a key: {line[:32]!r}")
    if numbers["persistent_keepalive_interval"] > _KEEPALIVE_S_MAX:
        raise _malformed("a keepalive interval beyond its range")
    return _key(public_key), Peer(
        frozenset(allowed),
        numbers["persistent_keepalive_interval"],
        endpoint,
        numbers["last_handshake_time_sec"],
        numbers["rx_bytes"],
        numbers["tx_bytes"],
    )


def _text(answer: bytes) -> str:
    if not answer.endswith(END):
        raise _malformed("an answer without its end")
    try:
        return answer[: -len(END)].decode("ascii")
    except UnicodeDecodeError:
        raise _malformed("an answer that is not ASCII") from None


def _errno_checked(text: str) -> str:
    """The lines before `errno`, which must be the last one and 0."""
    lines, _, last = text.rpartition("\n")
    key, value = _pair(last)
    if key != "errno":
        raise _malformed("an answer that does not end with its errno")
    failure = -_number(value.removeprefix("-"), _PORT_MAX) if value.startswith("-") else _number(value, _PORT_MAX)
    if failure:
        # wireguard-go answers with negative numbers, boringtun with positive ones.
        code = abs(failure)
        raise OSError(code, f"WireGuard refused the change: {_explained(code)}")
    return lines


def _explained(code: int) -> str:
    return errno.errorcode.get(code, f"error {code}")


def _pair(line: str) -> tuple[str, str]:
    key, separator, value = line.partition("=")
    if not separator or not key:
        raise _malformed(f"a line without a key: {line[:32]!r}")
    return key, value


def _key(value: str) -> bytes:
    if len(value) != _KEY_DIGITS:
        raise _malformed(f"a key of {len(value)} digits")
    try:
        return bytes.fromhex(value)
    except ValueError:
        raise _malformed("a key that is not hexadecimal") from None


def _number(value: str, at_most: int) -> int:
    if value == "0":  # most are
        return 0
    if not value.isdecimal() or len(value) > _NUMBER_DIGITS_MAX or int(value) > at_most:
        raise _malformed(f"a number beyond its range: {value[:32]!r}")
    return int(value)


@lru_cache(maxsize=_TEXTS_CACHED_MAX)
def _network(value: str) -> Network:
    text, separator, bits = value.partition("/")
    ip = _ip(text)
    if not separator:
        raise _malformed("an AllowedIP without its prefix length")
    return Network(ip, _number(bits, 8 * len(ip)))


def _network_text(network: Network) -> str:
    return f"{socket.inet_ntop(family_of(network.ip), network.ip)}/{network.bits}"


@lru_cache(maxsize=_TEXTS_CACHED_MAX)
def _endpoint(value: str) -> Endpoint:
    host, separator, port = value.rpartition(":")
    if not separator:
        raise _malformed(f"an endpoint without a port: {value[:64]!r}")
    ip = _ip(host.removeprefix("[").removesuffix("]").partition("%")[0])
    if len(ip) == 16 and ip.startswith(MAPPED_PREFIX):
        ip = ip[len(MAPPED_PREFIX) :]
    return Endpoint(ip, _number(port, _PORT_MAX))


def _ip(text: str) -> bytes:
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except OSError:
        raise _malformed(f"an address that is none: {text[:64]!r}") from None


def _malformed(what: str) -> OSError:
    return OSError(errno.EBADMSG, f"the userspace WireGuard sent {what}")
