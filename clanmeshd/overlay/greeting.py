"""The first handshake of a pair, begun by ourselves rather than by the first packet that somebody happens to send.

A handshake that arrives before its receiver knows the peer is dropped, and WireGuard tries again only after five
seconds; two that cross kill each other and cost the same. So both sides begin one when they add a peer, the lower
address at once, the higher one a moment later and only when there is no session by then. Whichever side adds the
other last is answered. The same is done when a peer is to be reached elsewhere, as long as there was no session: a
little later, for traffic may have begun a handshake on either side, unless the other side waits for this one.

A handshake may be lost all the same, or cross another one. Where the other side is known to wait for it, and there
is no session a moment later, the peer is made anew: of a new one WireGuard knows no handshake to wait after. Not
one that has slept, though: the packet that woke it waits there, and would be lost.

A new key, our own or a peer's, ends that symmetry. Peers hear of it only once WireGuard has it: until then they
leave its handshakes unanswered, and WireGuard keeps what is to be sent. After a handshake in vain it is silent for
five seconds: we provoke one at once, so that it cannot cross the one that the peer begins when it hears.

Where a session was lost because somebody else took our interface or its peers away, the peer still believes in it;
so once all is put right this side begins a new one.
"""

import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv6Address
from typing import Final

import trio

from clanmeshd.core.effects import SetTunnels, Tunnel
from clanmeshd.overlay.backend import Backend

STAGGER_S: Final = 0.3  # above the round trip of any path that a first handshake takes well
MOVED_S: Final = 0.15  # longer than a handshake that traffic has begun, on either side, since both learnt the way
PROVOKED_S: Final = 0.01  # WireGuard makes a handshake of a packet: 0.2 ms for each peer
RENEWED_S: Final = 1.0  # then, above the round trip of any path, and below the five seconds by far
DISCARD_PORT: Final = 9  # RFC 863: whatever arrives there is thrown away

log = logging.getLogger(__name__)


class Greeter:
    """Knows which peers were greeted on one interface."""

    def __init__(
        self,
        backend: Backend,
        nursery: trio.Nursery,
        send: Callable[[bytes], None] | None = None,
        applied: Callable[[SetTunnels], Awaitable[None]] | None = None,
    ) -> None:
        self._backend = backend
        self._nursery = nursery
        self._send = send or send_anything
        self._applied = applied
        self._private_key: bytes | None = None
        self._greeted: dict[bytes, Tunnel] = {}  # by public key
        self._applying = trio.Lock()
        self._wanted: SetTunnels | None = None
        self._slept: set[bytes] = set()  # public keys

    async def apply(self, wanted: SetTunnels) -> None:
        """Apply a wanted state, then greet the peers that are new in it. Raises OSError as the backend does.

        `applied` hears of each private key once WireGuard has it and has tried in vain to greet with it.
        """
        async with self._applying:
            self._wanted = wanted
            await self._backend.apply(wanted)
        await self._announce(wanted)
        tunnels, bell = {each.public_key: each for each in wanted.tunnels}, wanted.bell
        asleep = {key for key, each in tunnels.items() if bell is not None and each.endpoint == bell}
        self._slept = tunnels.keys() & (self._slept | asleep)
        reachable = {key: each for key, each in tunnels.items() if each.endpoint not in (None, bell)}
        for key in sorted(self._backend.take_lost() & reachable.keys()):
            with suppress(OSError):
                self._send(reachable[key].address)
        known = {tunnel.address for tunnel in self._greeted.values()}
        for key, tunnel in sorted(reachable.items()):
            before = self._greeted.get(key)
            if before is None or before.endpoint != tunnel.endpoint:
                is_new_key = before is None and tunnel.address in known
                begins = wanted.address < tunnel.address or is_new_key
                first_s = 0.0 if before is None or tunnel.begins else MOVED_S
                self._nursery.start_soon(self._greet, tunnel, first_s + (0.0 if begins else STAGGER_S))
        self._greeted = reachable

    async def _announce(self, wanted: SetTunnels) -> None:
        before, self._private_key = self._private_key, wanted.private_key
        if before == wanted.private_key:
            return
        if before is not None:
            for tunnel in wanted.tunnels:
                with suppress(OSError):
                    self._send(tunnel.address)
            await trio.sleep(PROVOKED_S)
        if self._applied is not None:
            await self._applied(wanted)

    async def _greet(self, tunnel: Tunnel, after_s: float) -> None:
        await trio.sleep(after_s)
        with suppress(OSError):  # the interface may be gone again: the next apply tells
            if await self._has_session(tunnel):
                return
            self._send(tunnel.address)
            if not tunnel.begins or tunnel.public_key in self._slept:
                return
            await trio.sleep(RENEWED_S)
            if await self._renew(tunnel):
                self._send(tunnel.address)

    async def _has_session(self, tunnel: Tunnel) -> bool:
        """By its key, or by the one that takes its place."""
        peers = await self._backend.read()
        keys = (tunnel.public_key, tunnel.following)
        return any(key is not None and key in peers and peers[key].handshake_unix_s > 0 for key in keys)

    async def _renew(self, tunnel: Tunnel) -> bool:
        """Make a peer anew, unless it is elsewhere, gone, or has a session by now."""
        async with self._applying:
            wanted = self._wanted
            if wanted is None or tunnel not in wanted.tunnels or await self._has_session(tunnel):
                return False
            others = tuple(each for each in wanted.tunnels if each.public_key != tunnel.public_key)
            await self._backend.apply(replace(wanted, tunnels=others))
            await self._backend.apply(wanted)
            return True


def send_anything(address: bytes) -> None:
    """Send an empty datagram into the tunnel: traffic without a session begins a handshake. Raises OSError."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
        sender.sendto(b"", (str(IPv6Address(address)), DISCARD_PORT))
