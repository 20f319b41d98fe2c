"""Asks members to relay for this device, keeps what they agreed to alive, and tells where WireGuard is to send.

Which member is asked, when it is given up, and what is used of several ways, is for others to decide: they say
`ask` and `drop`, and hear `ready` and `failed`. A relay's word is not believed further than it must be: WireGuard
sends to an address at which the relay itself has just answered, or that it has published.
"""

import logging
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from typing import Final, Protocol

import trio

from clanmesh_protocol.binds import make_bind
from clanmesh_protocol.endpoints import Endpoint, is_candidate
from clanmesh_protocol.errors import MalformedError, ProtocolError
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.stream_relay import Relayed, Release, WantRelay
from clanmesh_protocol.streams import Purpose
from clanmeshd.core.effects import Holder
from clanmeshd.net import stream
from clanmeshd.net.link import Link
from clanmeshd.relays.carrying import Carrier

ANSWER_S: Final = 3.0  # from the first packet to the relay's answer: a connection and two round trips
RENEWALS: Final = 3  # tries within a lifetime: at a half, at three quarters, and once more
AGAIN_S_MIN: Final = 10.0  # between two requests, however short a lifetime the relay names: each is a connection
HEARD_PAUSES_S: Final = (0.2, 0.4)  # for a relay to hear of a key that the asker has from its owner already
BINDS_S: Final = (0.0, 0.1, 0.3)  # after an answer, one after the other: two may be lost
RELEASE_S: Final = 2.0  # for a word of farewell; a relay that does not hear it finds out by itself
LOCAL_BATCH_MAX: Final = 64  # packets that WireGuard has sent, read at once
PACKET_BYTES_MAX: Final = 9216  # as a relay's port reads them

log = logging.getLogger(__name__)

Bind = Callable[[Endpoint, bytes], None]  # send a packet from WireGuard's own port


class Told(Protocol):
    """Who hears what came of asking. `node` is the other one of the pair, `via` the relay."""

    def ready(self, node: NodeId, via: NodeId, endpoint: Endpoint, shared: tuple[Endpoint, ...]) -> None:
        """It relays: WireGuard here is to send to `endpoint`, the peer's to one of `shared`."""
        ...

    def failed(self, node: NodeId, via: NodeId, code: str, why: str) -> None:
        """It does not relay, or no longer. `code` is the relay's own, or `broken`."""
        ...


class Connect(Protocol):
    """Opens streams to members."""

    def connect(self, holder: Holder, purpose: Purpose) -> AbstractAsyncContextManager[stream.Stream]:
        """Raises OSError, ProtocolError."""
        ...


@dataclass(slots=True)
class Asker:
    """What this device has asked of relays. `run` it, then ask.

    `inside` is the clan's prefix: the tunnel does not go through itself. `bind` is there where this device can
    send from WireGuard's own port; without it a session that is under way goes on with its next handshake.
    """

    reach: Connect
    told: Told
    tunnel_port: int
    inside: bytes
    bind: Bind | None = None
    _kept: dict[tuple[NodeId, NodeId], trio.CancelScope] = field(default_factory=dict)
    _nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep what was asked for, until cancelled."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    def ask(self, node: NodeId, relay: Holder, *, carried: bool) -> None:
        """Have a member relay between this device and `node`; again, to ask anew at once.

        `carried`: WireGuard's packets travel on the stream, since no UDP leaves this network.
        """
        assert self._nursery is not None, "asked before `run`"
        self._forget(node, relay.node)
        scope = self._kept[node, relay.node] = trio.CancelScope()
        self._nursery.start_soon(self._keep, node, relay, carried, scope)

    def drop(self, node: NodeId, relay: Holder) -> None:
        """Give a relay back."""
        assert self._nursery is not None, "dropped before `run`"
        if self._forget(node, relay.node):
            self._nursery.start_soon(self._release, node, relay)

    def _forget(self, node: NodeId, via: NodeId) -> bool:
        scope = self._kept.pop((node, via), None)
        if scope is not None:
            scope.cancel()
        return scope is not None

    # --- one relay of one pair --------------------------------------------------------------------------

    async def _keep(self, node: NodeId, relay: Holder, carried: bool, scope: trio.CancelScope) -> None:
        code, why = "broken", ""
        with scope:
            try:
                await self._until_heard_of(self._carry if carried else self._renew, node, relay)
            except* (OSError, ProtocolError, trio.TooSlowError) as failed:
                error = first_of(failed)
                code = error.refusal if isinstance(error, stream.StreamRefused) else "broken"
                why = str(error) or "no answer"
        if self._kept.get((node, relay.node)) is scope and not scope.cancelled_caught:
            del self._kept[node, relay.node]
            log.debug("a relay has failed: %s (%s)", why, code)
            self.told.failed(node, relay.node, code, why)

    async def _until_heard_of(
        self, ask: Callable[[NodeId, Holder], Awaitable[None]], node: NodeId, relay: Holder
    ) -> None:
        """Ask, and again in a moment where the relay does not know both tunnel keys yet."""
        for pause_s in HEARD_PAUSES_S:
            try:
                await ask(node, relay)
            except stream.StreamRefused as refused:
                if refused.refusal != "unknown-key":
                    raise
                await trio.sleep(pause_s)
            else:
                return
        await ask(node, relay)

    async def _renew(self, node: NodeId, relay: Holder) -> None:
        """A port of UDP: asked for anew before its time is over. Raises what the last try does."""
        told: tuple[Endpoint, ...] = ()
        failures = 0
        while True:
            try:
                answer, usable = await self._ask_once(node, relay)
            except (OSError, trio.TooSlowError):
                failures += 1
                if not told or failures >= RENEWALS:
                    raise
            else:
                failures, lifetime_s = 0, answer.lifetime_s
                if usable != told:
                    told = usable
                    self.told.ready(node, relay.node, usable[0], usable)
                await self._show(usable[0], answer.token)
            await trio.sleep(max(AGAIN_S_MIN, lifetime_s / 2 ** (failures + 1)))

    async def _ask_once(self, node: NodeId, relay: Holder) -> tuple[Relayed, tuple[Endpoint, ...]]:
        with trio.fail_after(ANSWER_S):
            async with self.reach.connect(relay, Purpose.RELAY) as channel:
                return await self._agree(channel, node, relay, carried=False)

    async def _agree(
        self, channel: stream.Stream, node: NodeId, relay: Holder, *, carried: bool
    ) -> tuple[Relayed, tuple[Endpoint, ...]]:
        await channel.send(WantRelay(node, carried))
        answer = await channel.receive()
        if not isinstance(answer, Relayed):
            raise MalformedError("a WANT RELAY is answered with RELAYED or REFUSE")
        usable = tuple(self._usable_untrusted(answer, relay, channel.link.peer_ip))
        if not usable and not carried:
            raise MalformedError("a relay without an address that is its own")
        return answer, usable

    def _usable_untrusted(self, answer: Relayed, relay: Holder, answered: bytes) -> Iterator[Endpoint]:
        """The relay's endpoints that are its own as far as this device knows; where it has just answered first."""
        known = {answered, *(each.ip for each in relay.endpoints)}
        own = [each for each in answer.endpoints if each.ip in known]
        if answered not in {each.ip for each in own} and answer.endpoints:
            own.append(Endpoint(answered, answer.endpoints[0].port))
        for each in sorted(own, key=lambda each: each.ip != answered):
            if is_candidate(each.ip) and not each.ip.startswith(self.inside):
                yield each

    async def _show(self, endpoint: Endpoint, token: bytes) -> None:
        """Show the relay where WireGuard sends from: it cannot tell that from a session under way."""
        if self.bind is None:
            return
        for number, pause_s in enumerate(BINDS_S, 1):
            await trio.sleep(pause_s)
            self.bind(endpoint, make_bind(token, number))

    async def _release(self, node: NodeId, relay: Holder) -> None:
        with suppress(OSError, ProtocolError), trio.move_on_after(RELEASE_S):
            async with self.reach.connect(relay, Purpose.RELAY) as channel:
                await channel.send(Release(node))
                await channel.receive()

    # --- where no UDP passes ----------------------------------------------------------------------------

    async def _carry(self, node: NodeId, relay: Holder) -> None:
        """WireGuard sends to a socket of ours on this machine; the stream takes it from there."""
        async with self.reach.connect(relay, Purpose.RELAY) as channel:
            with trio.fail_after(ANSWER_S):
                _, usable = await self._agree(channel, node, relay, carried=True)
            with _local_socket() as local:
                self.told.ready(node, relay.node, Endpoint(bytes((127, 0, 0, 1)), local.getsockname()[1]), usable)
                await _bridge(channel.link, local, ("127.0.0.1", self.tunnel_port))
        raise stream.StreamBroken("the relay has ended the stream")


def first_of(group: BaseException) -> BaseException:
    """One error of a group, however deep."""
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group


async def _bridge(link: Link, local: socket.socket, wireguard: tuple[str, int]) -> None:
    """Pass packets between WireGuard and a stream until the stream ends. Raises StreamBroken, ProtocolError."""
    carrier = Carrier(link)

    def deliver(packet: bytes) -> None:
        with suppress(OSError):  # WireGuard's buffer is full, or it is about to start
            local.sendto(packet, wireguard)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(_read, local, wireguard, carrier)
        await carrier.run(deliver)
        nursery.cancel_scope.cancel()


async def _read(local: socket.socket, wireguard: tuple[str, int], carrier: Carrier) -> None:
    """Take what WireGuard sends. Other programs of this machine have no business here."""
    while True:
        await trio.lowlevel.wait_readable(local)
        for _ in range(LOCAL_BATCH_MAX):
            try:
                packet, source = local.recvfrom(PACKET_BYTES_MAX)
            except OSError:  # nothing more, or word that nobody listens at WireGuard's port
                break
            if source == wireguard:
                carrier.offer(packet)


def _local_socket() -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.setblocking(False)
    opened.bind(("127.0.0.1", 0))
    return opened
