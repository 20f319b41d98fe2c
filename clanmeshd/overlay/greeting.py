"""The first handshake of a pair, begun by ourselves rather than by the first packet that somebody happens to send.

A handshake that arrives before its receiver knows the peer is dropped, and WireGuard tries again only after five
seconds; two that cross kill each other and cost the same. So both sides begin one when they add a peer, the lower
address at once, the higher one a moment later and only when there is no session by then. Whichever side adds the
other last is answered.
"""

import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv6Address
from typing import Final

import trio

from clanmeshd.core.effects import SetTunnels, Tunnel
from clanmeshd.overlay.backend import Backend

STAGGER_S: Final = 0.3  # above the round trip of any path that a first handshake takes well
DISCARD_PORT: Final = 9  # RFC 863: whatever arrives there is thrown away

log = logging.getLogger(__name__)


class Greeter:
    """Knows which peers were greeted on one interface."""

    def __init__(
        self, backend: Backend, nursery: trio.Nursery, send: Callable[[bytes], None] | None = None
    ) -> None:
        self._backend = backend
        self._nursery = nursery
        self._send = send or send_anything
        self._greeted: frozenset[bytes] = frozenset()

    async def apply(self, wanted: SetTunnels) -> None:
        """Apply a wanted state, then greet the peers that are new in it. Raises OSError as the backend does."""
        await self._backend.apply(wanted)
        reachable = {tunnel.public_key: tunnel for tunnel in wanted.tunnels if tunnel.endpoint is not None}
        for key in sorted(reachable.keys() - self._greeted):
            self._nursery.start_soon(self._greet, wanted.address, reachable[key])
        self._greeted = frozenset(reachable)

    async def _greet(self, own: bytes, tunnel: Tunnel) -> None:
        await trio.sleep(0.0 if own < tunnel.address else STAGGER_S)
        with suppress(OSError):  # the interface may be gone again: the next apply tells
            state = (await self._backend.read()).get(tunnel.public_key)
            if state is None or not state.handshake_unix_s:
                self._send(tunnel.address)


def send_anything(address: bytes) -> None:
    """Send an empty datagram into the tunnel: traffic without a session begins a handshake. Raises OSError."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
        sender.sendto(b"", (str(IPv6Address(address)), DISCARD_PORT))
