"""The messages of the kernel's WireGuard, declared on pyroute2's message classes. Pure.

Only `pyroute2.netlink` is imported, past the package's own `__init__`, which would import all of the library:
0.4 MB of memory instead of 12. pyroute2's own declaration of these messages is not used since it brings
asyncio along (3 MB), and its base64 and text forms of keys and addresses.
"""

import errno
import importlib
import importlib.util
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any, Final

from clanmesh_protocol.endpoints import Endpoint
from clanmeshd.overlay.device import Network, Peer, WireGuard
from clanmeshd.overlay.netlink import parse_attributes, parse_list
from clanmeshd.overlay.plan import Configure, SetPeer
from clanmeshd.sockets import family_of

PEERS_PER_MESSAGE: Final = 64  # about 9 KB; all peers are one attribute, which can't be larger than 64 KiB

_WG_CMD_GET_DEVICE, _WG_CMD_SET_DEVICE = 0, 1
_WG_GENL_VERSION: Final = 1
_WGPEER_F_REMOVE_ME, _WGPEER_F_REPLACE_ALLOWEDIPS, _WGPEER_F_UPDATE_ONLY = 1, 2, 4
_KEY_BYTES: Final = 32
_NO_KEY: Final = bytes(_KEY_BYTES)
_GENL_HEADER_BYTES: Final = 4
_NLMSG_HEADER_BYTES: Final = 16
_SOCKADDR_IN: Final = struct.Struct("=H2s4s8x")
_SOCKADDR_IN6: Final = struct.Struct("=H2s4x16s4x")
# What is read, by the numbers of linux/wireguard.h: what is sent has its names below.
_DEVICE_PRIVATE_KEY, _DEVICE_LISTEN_PORT, _DEVICE_PEERS = 3, 6, 8
_PEER_PUBLIC_KEY, _PEER_ENDPOINT, _PEER_KEEPALIVE_INTERVAL, _PEER_LAST_HANDSHAKE_TIME = 1, 4, 5, 6
_PEER_RX_BYTES, _PEER_TX_BYTES, _PEER_ALLOWEDIPS = 7, 8, 9
_ALLOWEDIP_IPADDR, _ALLOWEDIP_CIDR_MASK = 2, 3
_SECONDS: Final = struct.Struct("=q")  # the first half of a timespec


Known = dict[bytes, tuple[bytes, Peer]]  # what is said of a peer, and what that means


def _netlink_classes() -> ModuleType:
    """Import `pyroute2.netlink` without running `pyroute2/__init__.py`; a later full import works as ever."""
    spec = importlib.util.find_spec("pyroute2")
    if "pyroute2" in sys.modules or spec is None:
        return importlib.import_module("pyroute2.netlink")
    sys.modules["pyroute2"] = importlib.util.module_from_spec(spec)
    try:
        return importlib.import_module("pyroute2.netlink")
    finally:
        del sys.modules["pyroute2"]


_netlink: Final[Any] = _netlink_classes()


class _Device(_netlink.genlmsg):  # type: ignore[misc]
    """`enum wgdevice_attribute` of linux/wireguard.h; the position is the number."""

    prefix = "WGDEVICE_A_"
    nla_map = (
        ("WGDEVICE_A_UNSPEC", "none"),
        ("WGDEVICE_A_IFINDEX", "uint32"),
        ("WGDEVICE_A_IFNAME", "asciiz"),
        ("WGDEVICE_A_PRIVATE_KEY", "cdata"),
        ("WGDEVICE_A_PUBLIC_KEY", "cdata"),
        ("WGDEVICE_A_FLAGS", "uint32"),
        ("WGDEVICE_A_LISTEN_PORT", "uint16"),
        ("WGDEVICE_A_FWMARK", "uint32"),
        ("WGDEVICE_A_PEERS", "*peer"),
    )

    class peer(_netlink.nla):  # type: ignore[misc]  # noqa: N801 - named by the map above
        """`enum wgpeer_attribute`."""

        prefix = "WGPEER_A_"
        nla_flags = _netlink.NLA_F_NESTED
        nla_map = (
            ("WGPEER_A_UNSPEC", "none"),
            ("WGPEER_A_PUBLIC_KEY", "cdata"),
            ("WGPEER_A_PRESHARED_KEY", "cdata"),
            ("WGPEER_A_FLAGS", "uint32"),
            ("WGPEER_A_ENDPOINT", "cdata"),
            ("WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL", "uint16"),
            ("WGPEER_A_LAST_HANDSHAKE_TIME", "cdata"),
            ("WGPEER_A_RX_BYTES", "uint64"),
            ("WGPEER_A_TX_BYTES", "uint64"),
            ("WGPEER_A_ALLOWEDIPS", "*allowed_ip"),
            ("WGPEER_A_PROTOCOL_VERSION", "uint32"),
        )

        class allowed_ip(_netlink.nla):  # type: ignore[misc]  # noqa: N801 - named by the map above
            """`enum wgallowedip_attribute`."""

            prefix = "WGALLOWEDIP_A_"
            nla_flags = _netlink.NLA_F_NESTED
            nla_map = (
                ("WGALLOWEDIP_A_UNSPEC", "none"),
                ("WGALLOWEDIP_A_FAMILY", "uint16"),
                ("WGALLOWEDIP_A_IPADDR", "cdata"),
                ("WGALLOWEDIP_A_CIDR_MASK", "uint8"),
            )


def encode_get(interface: str) -> bytes:
    """The body of the request that dumps a device."""
    return _encode(_WG_CMD_GET_DEVICE, [("WGDEVICE_A_IFNAME", interface)])


def encode_configure(interface: str, change: Configure) -> Iterator[bytes]:
    """The bodies of the requests that make a change, in order.

    The flag that replaces all peers is never set: it would end the sessions of those that stay.
    """
    peers = [_removal(key) for key in change.removed] + [_peer(peer) for peer in change.peers]
    head: list[tuple[str, Any]] = [("WGDEVICE_A_IFNAME", interface)]
    settings: list[tuple[str, Any]] = []
    if change.private_key is not None:
        settings.append(("WGDEVICE_A_PRIVATE_KEY", change.private_key))
    if change.listen_port is not None:
        settings.append(("WGDEVICE_A_LISTEN_PORT", change.listen_port))
    for start in range(0, max(len(peers), 1), PEERS_PER_MESSAGE):
        some = peers[start : start + PEERS_PER_MESSAGE]
        yield _encode(_WG_CMD_SET_DEVICE, head + settings + ([("WGDEVICE_A_PEERS", some)] if some else []))
        settings = []


def decode_device(bodies: Sequence[bytes], known: Known | None = None) -> WireGuard:
    """Read the answers of a dump. Raises OSError(EBADMSG).

    A peer whose AllowedIPs did not fit one message goes on in the next one, with nothing else of it repeated.
    `known` is of the dump before, and becomes that of this one: what is said again is not read again.
    """
    private_key: bytes | None = None
    listen_port = 0
    peers: dict[bytes, Peer] = {}
    now: Known = {}
    before = known or {}
    for body in bodies:
        device = parse_attributes(body[_GENL_HEADER_BYTES:])
        listen_port = int.from_bytes(device.get(_DEVICE_LISTEN_PORT, b""), sys.byteorder) or listen_port
        private_key = device.get(_DEVICE_PRIVATE_KEY) or private_key
        for said in parse_list(device.get(_DEVICE_PEERS, b"")):
            key, peer = now[said] = before.get(said) or _decode_peer(said)
            peers[key] = replace(peers[key], allowed=peers[key].allowed | peer.allowed) if key in peers else peer
    if known is not None:
        known.clear()
        known.update(now)
    return WireGuard(private_key if private_key != _NO_KEY else None, listen_port, peers)


def _encode(command: int, attributes: list[tuple[str, Any]]) -> bytes:
    message = _Device()
    message["cmd"] = command
    message["version"] = _WG_GENL_VERSION
    message["attrs"] = attributes
    message.encode()
    return bytes(message.data[_NLMSG_HEADER_BYTES:])


def _removal(key: bytes) -> dict[str, Any]:
    return {"attrs": [("WGPEER_A_PUBLIC_KEY", key), ("WGPEER_A_FLAGS", _WGPEER_F_REMOVE_ME)]}


def _peer(peer: SetPeer) -> dict[str, Any]:
    flags = _WGPEER_F_UPDATE_ONLY if peer.present else 0
    attributes: list[tuple[str, Any]] = [("WGPEER_A_PUBLIC_KEY", peer.public_key)]
    if peer.endpoint is not None:
        attributes.append(("WGPEER_A_ENDPOINT", _sockaddr(peer.endpoint)))
    if peer.keepalive_s is not None:
        attributes.append(("WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL", peer.keepalive_s))
    if peer.allowed is not None:
        flags |= _WGPEER_F_REPLACE_ALLOWEDIPS
        attributes.append(("WGPEER_A_ALLOWEDIPS", [_allowed_ip(network) for network in sorted(peer.allowed)]))
    attributes.append(("WGPEER_A_FLAGS", flags))
    return {"attrs": attributes}


def _allowed_ip(network: Network) -> dict[str, Any]:
    return {
        "attrs": [
            ("WGALLOWEDIP_A_FAMILY", int(family_of(network.ip))),
            ("WGALLOWEDIP_A_IPADDR", network.ip),
            ("WGALLOWEDIP_A_CIDR_MASK", network.bits),
        ]
    }


def _sockaddr(endpoint: Endpoint) -> bytes:
    port = endpoint.port.to_bytes(2, "big")
    if len(endpoint.ip) == 16:
        return _SOCKADDR_IN6.pack(socket.AF_INET6, port, endpoint.ip)
    return _SOCKADDR_IN.pack(socket.AF_INET, port, endpoint.ip)


def _decode_peer(said: bytes) -> tuple[bytes, Peer]:
    found = parse_attributes(said)
    key = found.get(_PEER_PUBLIC_KEY, b"")
    handshake = found.get(_PEER_LAST_HANDSHAKE_TIME, bytes(_SECONDS.size))
    if len(key) != _KEY_BYTES or len(handshake) < _SECONDS.size:
        raise _malformed()
    return key, Peer(
        allowed=frozenset(map(_decode_allowed, parse_list(found.get(_PEER_ALLOWEDIPS, b"")))),
        keepalive_s=_number(found.get(_PEER_KEEPALIVE_INTERVAL)),
        endpoint=_decode_sockaddr(found.get(_PEER_ENDPOINT, b"")),
        handshake_unix_s=_SECONDS.unpack_from(handshake)[0],
        rx_bytes=_number(found.get(_PEER_RX_BYTES)),
        tx_bytes=_number(found.get(_PEER_TX_BYTES)),
    )


def _decode_allowed(said: bytes) -> Network:
    found = parse_attributes(said)
    ip = found.get(_ALLOWEDIP_IPADDR, b"")
    if len(ip) not in (4, 16):
        raise _malformed()
    return Network(ip, _number(found.get(_ALLOWEDIP_CIDR_MASK)))


def _decode_sockaddr(address: bytes) -> Endpoint | None:
    if not address:
        return None
    layout = _SOCKADDR_IN6 if len(address) >= _SOCKADDR_IN6.size else _SOCKADDR_IN
    if len(address) < layout.size:
        raise _malformed()
    _family, port, ip = layout.unpack_from(address)
    return Endpoint(ip, int.from_bytes(port, "big"))


def _number(payload: bytes | None) -> int:
    return int.from_bytes(payload or b"", sys.byteorder)


def _malformed() -> OSError:
    return OSError(errno.EBADMSG, "a WireGuard message that can't be read")
