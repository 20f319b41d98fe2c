"""What is: a WireGuard device, its peers and its network interface, as the system reports them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from clanmesh_protocol.endpoints import Endpoint

ADDRESS_BITS: Final = 128
SESSION_S: Final = 180  # WireGuard's REJECT_AFTER_TIME: no session is older


class OverlayUnavailable(OSError):
    """The overlay can't be had here, or not in this way: what, why and what a person can do about it.

    An OSError, since it is the world's fault and worth another try later.
    """

    def __init__(self, what: str, why: str, remedy: str) -> None:
        super().__init__(f"{what}: {why}")
        self.what = what
        self.why = why
        self.remedy = remedy


class Network(NamedTuple):
    """An IPv6 address and the length of its prefix in bits."""

    ip: bytes  # 16
    bits: int


class TunnelState(NamedTuple):
    """What WireGuard knows of one peer. It is evidence for the core, never a claim of the peer's."""

    endpoint: Endpoint | None
    handshake_unix_s: int  # of the last completed one; 0: never
    rx_bytes: int
    tx_bytes: int


@dataclass(frozen=True, slots=True)
class Peer:
    """One configured peer."""

    allowed: frozenset[Network] = frozenset()  # IPv4 ones carry 4 bytes
    keepalive_s: int = 0
    endpoint: Endpoint | None = None
    handshake_unix_s: int = 0
    rx_bytes: int = 0
    tx_bytes: int = 0


def may_have_session(peer: Peer | TunnelState, now_unix_s: float) -> bool:
    """Whether something may pass without another handshake."""
    return now_unix_s - peer.handshake_unix_s < SESSION_S


@dataclass(frozen=True, slots=True)
class WireGuard:
    """The cryptographic half of a device. `private_key` is None when none was set."""

    private_key: bytes | None = field(default=None, repr=False)
    listen_port: int = 0
    peers: Mapping[bytes, Peer] = field(default_factory=dict)  # by public key


@dataclass(frozen=True, slots=True)
class Link:
    """The network half: an interface, its IPv6 addresses and the routes through it that are ours."""

    index: int
    kind: str  # `wireguard`, `tun`, …
    alias: str
    mtu: int
    up: bool
    addresses: frozenset[Network] = frozenset()  # without link-local ones
    routes: Mapping[Network, int] = field(default_factory=dict)  # the MTU of each in bytes; 0: the interface's


@dataclass(frozen=True, slots=True)
class Device:
    """Both halves of what is there now."""

    link: Link
    wireguard: WireGuard
