"""The sending side: frames for a member become sealed datagrams to its endpoints."""

from collections.abc import Iterable

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.messages import Ack, Frame, Ping, RecordFrame
from clanmesh_protocol.records import Record
from clanmesh_protocol.signalling import Seen
from clanmeshd.core.buckets import Buckets
from clanmeshd.core.effects import SendDatagram
from clanmeshd.core.limits import (
    HELLO_ANSWER_INTERVAL_S,
    HELLO_INTERVAL_S,
    UNPROVEN_ACKS_BURST,
    UNPROVEN_ACKS_PER_S,
)
from clanmeshd.core.outbox import URGENCY_PROBE, Outbox
from clanmeshd.core.paths import Paths
from clanmeshd.core.sessions import Opened, Sessions


class Traffic:
    """Owns the paths and the outbox, and gives the datagrams to send.

    Before a peer's run is proven nothing larger than the question goes to an address that only the question named.
    """

    def __init__(self, sessions: Sessions) -> None:
        self.paths = Paths()
        self.outbox = Outbox()
        self._sessions = sessions
        self._datagrams: list[SendDatagram] = []
        self._unproven_acks: Buckets[NodeId] = Buckets(UNPROVEN_ACKS_PER_S, UNPROVEN_ACKS_BURST)
        self._hello_s: dict[NodeId, float] = {}  # the last one to each, asked or not
        self._greeted_s: dict[NodeId, float] = {}  # the last one that was no answer

    def retain(self, members: frozenset[NodeId]) -> None:
        """Forget all others."""
        self.paths.retain(members)
        self._unproven_acks.retain(members)
        for told_s in (self._hello_s, self._greeted_s):
            for node in told_s.keys() - members:
                del told_s[node]

    def drain(self) -> list[SendDatagram]:
        """Give all datagrams that wait, probes first."""
        for node, frames in self.outbox.drain():
            endpoint = self.paths.best(node)
            if endpoint is not None:
                self._send(node, frames, endpoint)
        datagrams, self._datagrams = self._datagrams, []
        return datagrams

    def _send(self, node: NodeId, frames: Iterable[Frame], endpoint: Endpoint) -> None:
        data = self._sessions.seal(node, frames)
        if data is not None and self.paths.spend(node, endpoint, len(data)):
            self._datagrams.append(SendDatagram(data, endpoint))

    def tell_at_once(self, node: NodeId, record: Record) -> None:
        """Give a member a record now: it may be forgotten before the next drain."""
        endpoint = self.paths.best(node)
        if endpoint is not None:
            self._send(node, [RecordFrame(record.data)], endpoint)

    # --- probes -----------------------------------------------------------------------------------------

    def ping(self, node: NodeId, number: int, root: bytes, endpoints: Iterable[Endpoint]) -> None:
        """Ping a member at some endpoints."""
        for endpoint in endpoints:
            self._send(node, [self._ping(node, number, root)], endpoint)

    def ping_with_the_rest(self, node: NodeId, number: int, root: bytes) -> None:
        """Ping a member at its best endpoint, in one datagram with what else waits for it."""
        self.outbox.put(node, self._ping(node, number, root), URGENCY_PROBE)

    def _ping(self, node: NodeId, number: int, root: bytes) -> Ping:
        return Ping(number, self._sessions.token(node), self._sessions.their_token(node), root)

    def ack(
        self,
        opened: Opened,
        ping: Ping,
        root: bytes,
        source: Endpoint,
        answerable_bytes: int,
        now_s: float,
        beside: Seen | None = None,
    ) -> int:
        """Answer a ping where it came from: always when it is proven, else seldom and by so many bytes at most.

        Gives the bytes of the answer. What is said `beside` is for a proven peer alone.
        """
        node = opened.node
        ack = Ack(ping.number, self._sessions.token(node), ping.token, root)
        if not opened.proven and not self._unproven_acks.take(node, now_s):
            return 0
        data = self._sessions.seal(node, [ack] if beside is None else [ack, beside])
        if data is None or not (opened.proven or len(data) <= answerable_bytes):
            return 0
        self._datagrams.append(SendDatagram(data, source))
        return len(data)

    # --- hellos -----------------------------------------------------------------------------------------

    def hello(self, node: NodeId, record: Record | None, endpoints: Iterable[Endpoint], now_s: float) -> None:
        """Show a member a node record, under the identities alone. The caller keeps the pace."""
        if record is None:
            return
        self._hello_s[node] = self._greeted_s[node] = now_s
        for endpoint in endpoints:
            data = self._sessions.seal_hello(node, RecordFrame(record.data))
            if data is not None and self.paths.spend(node, endpoint, len(data)):
                self._datagrams.append(SendDatagram(data, endpoint))

    def hello_to_the_deaf(self, node: NodeId, record: Record | None, now_s: float) -> bool:
        """A datagram that claims to be this member's cannot be read here: show the member our keys.

        Seldom, and never where the datagram came from, unless the member itself has stood for that address: a
        stranger who knows 8 bytes of an id shall not point us at others. False: not now, or nobody knows where.
        """
        surest = self.paths.surest(node)
        if surest is None or now_s < self._hello_s.get(node, -HELLO_INTERVAL_S) + HELLO_INTERVAL_S:
            return False  # a newcomer's own hello is right behind its first ping, and is to be answered
        self.hello(node, record, [surest], now_s)
        return True

    def has_greeted(self, node: NodeId, now_s: float) -> bool:
        """Whether a hello of a member, that says itself where it is, may be its answer to one of ours."""
        is_lately = now_s < self._greeted_s.get(node, -HELLO_ANSWER_INTERVAL_S) + HELLO_ANSWER_INTERVAL_S
        return is_lately and self.paths.surest(node) is not None

    def answer_hello(
        self, node: NodeId, record: Record | None, source: Endpoint, question_bytes: int, now_s: float
    ) -> int:
        """Answer a hello, which may be a recording, by one as long at most. Gives the bytes of the answer."""
        if record is None or now_s < self._hello_s.get(node, -HELLO_ANSWER_INTERVAL_S) + HELLO_ANSWER_INTERVAL_S:
            return 0
        self._hello_s[node] = now_s
        data = self._sessions.seal_hello(node, RecordFrame(record.data))
        if data is None or len(data) > question_bytes:
            return 0
        self._datagrams.append(SendDatagram(data, source))
        return len(data)
