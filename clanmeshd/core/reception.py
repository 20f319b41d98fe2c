"""What comes in by datagram: opened, judged for what it proves, and each part given to whom it concerns.

From a datagram that proves nothing yet only three things are taken: a ping (answered where it came from, by no
more bytes), an ack (which may prove it), and records, whose signatures speak for themselves.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import Final

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.errors import MalformedError, ProtocolError, StaleError
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.messages import (
    Ack,
    Digest,
    Frame,
    IHave,
    IndirectResult,
    Leaf,
    Ping,
    PingRequest,
    RecordFrame,
    Seal,
    UnknownFrame,
    Want,
)
from clanmesh_protocol.records import SINGLE_SLOT, Kind, Node, Record, Status, Suspicion, parse_untrusted
from clanmesh_protocol.signalling import Call, Seen
from clanmesh_protocol.signing import Verified
from clanmeshd.core.arrival import Arrival
from clanmeshd.core.gossip import Gossip
from clanmeshd.core.intake import KnownError
from clanmeshd.core.meeting import Meeting
from clanmeshd.core.membership import Membership
from clanmeshd.core.outcasts import Outcasts
from clanmeshd.core.sessions import Opened, Sessions, UnknownPrekeyError
from clanmeshd.core.suggestions import Suggestions
from clanmeshd.core.traffic import Traffic
from clanmeshd.core.wanted import overlay_address


class Worth(IntEnum):
    """What a datagram was good for. Nothing is false."""

    NOTHING = 0  # it was nobody's: there is nothing to conclude from it, and nothing to send
    SOMETHING = 1  # it may be a recording
    PROVEN = 2  # a member sent it now, from where it came


_WORDS_TO_OUTCASTS: Final = frozenset({Kind.REVOCATION, Kind.AUTHORITY, Kind.APPROVAL})


class Reception:
    """Takes datagrams. Raises nothing: what is wrong with one is counted, by the error's code."""

    def __init__(
        self,
        own: NodeId,
        sessions: Sessions,
        traffic: Traffic,
        membership: Membership,
        gossip: Gossip,
        suggestions: Suggestions,
        meeting: Meeting,
        arrival: Arrival,
        count: Callable[[ProtocolError], None],
    ) -> None:
        self._own = own
        self._sessions = sessions
        self._traffic = traffic
        self._membership = membership
        self._gossip = gossip
        self._suggestions = suggestions
        self._meeting = meeting
        self._arrival = arrival
        self._count = count
        self.outcasts = Outcasts(gossip.ledger)

    def receive(self, data: bytes, source: Endpoint, now_s: float) -> Worth:
        """Take one datagram."""
        try:
            opened = self._sessions.prove(self._sessions.open_untrusted(data))
        except UnknownPrekeyError as error:
            self._count(error)
            greeted = self._traffic.hello_to_the_deaf(error.node, self.own_record(), now_s)
            return Worth.SOMETHING if greeted else Worth.NOTHING
        except ProtocolError as error:
            self._count(error)
            return Worth.NOTHING
        if opened.seal is Seal.HELLO:
            self._hear_hello(opened, source, len(data), now_s)
            return Worth.SOMETHING
        if opened.proven:
            if self._sessions.is_newest(opened):
                self._traffic.paths.prove(opened.node, source, now_s)
                self._suggestions.settle(source)
            self._membership.heard(opened.node, now_s)
            self._arrival.heard(opened.node, now_s)
        answerable_bytes = len(data)  # of one datagram all answers together, however many pings are in it
        for frame in opened.frames:
            try:
                answerable_bytes -= self._hear_untrusted(frame, opened, source, answerable_bytes, now_s)
            except ProtocolError as error:
                self._count(error)
        return Worth.PROVEN if opened.proven else Worth.SOMETHING

    def own_record(self) -> Record | None:
        """This device's node record."""
        entry = self._gossip.ledger.get(self._own, Kind.NODE, SINGLE_SLOT)
        return entry.value if entry is not None else None

    def heed(self, verified: Verified[Record], control_port: int, now_s: float) -> None:
        """A member's word about itself, or about others, is new: it changes where it is looked for, and how."""
        author = verified.value.author
        match verified.content:
            case Node() as content:
                self._sessions.set_record(author, content)
                port = content.endpoints[0].port if content.endpoints else control_port
                overlay = Endpoint(overlay_address(self._gossip.ledger.clan, author), port)
                self._traffic.paths.set_listed(author, content.endpoints, overlay)
                self._membership.set_probeable(author, now_s)
            case Status():
                self._membership.set_incarnation(author, verified.value.seq, now_s)
            case Suspicion(suspects=suspects):
                self._membership.suspected(author, suspects, now_s)

    # --- frames -----------------------------------------------------------------------------------------

    def _hear_untrusted(
        self, frame: Frame | UnknownFrame, opened: Opened, source: Endpoint, answerable_bytes: int, now_s: float
    ) -> int:
        """Take one frame; how many bytes were answered to its source."""
        match frame:
            case Ping():
                self._hear_token(opened, frame, now_s)
                root = self._gossip.ledger.root()
                beside = self._meeting.word(opened.node, source, now_s) if opened.proven else None
                return self._traffic.ack(opened, frame, root, source, answerable_bytes, now_s, beside)
            case RecordFrame(data=data):
                self._gossip.take_untrusted(data, opened.node, now_s)
            case _ if opened.proven:
                self._hear_proven(frame, opened, source, now_s)
        return 0

    def _hear_proven(self, frame: Frame | UnknownFrame, opened: Opened, source: Endpoint, now_s: float) -> None:
        node = opened.node
        match frame:
            case Ack(number=number, root=root):
                round_trip_s = self._membership.acked(node, number, now_s)
                if round_trip_s is not None:
                    self._traffic.paths.answered(node, source, round_trip_s, now_s)
                    alike = root == self._gossip.ledger.root()
                    self._arrival.answered(node, now_s - round_trip_s, is_alike=alike)
                self._hear_token(opened, frame, now_s)
            case PingRequest(number=number, target=target):
                self._membership.asked(node, number, NodeId(target), now_s)
            case IndirectResult(number=number, reached=reached):
                self._membership.vouched(node, number, reached=reached, now_s=now_s)
            case IHave():
                self._gossip.hear_ihave(node, frame, now_s)
            case Want():
                self._gossip.hear_want(node, frame, now_s)
            case Digest():
                self._gossip.hear_digest(node, frame, now_s)
            case Leaf():
                self._gossip.hear_leaf(node, frame, now_s)
            case Seen() | Call():
                self._meeting.hear_untrusted(frame, node, now_s)

    def _hear_token(self, opened: Opened, frame: Ping | Ack, now_s: float) -> None:
        if not opened.proven:
            return
        node = opened.node
        if self._sessions.hear_token(opened, frame.token, is_answer=isinstance(frame, Ack)):
            # What we sent did not prove us, since the peer has started anew: do it now, not at the next probe.
            self._membership.ping(node, now_s)
        self._gossip.hear_root(node, frame.root, now_s)

    # --- hellos -----------------------------------------------------------------------------------------

    def _hear_hello(self, opened: Opened, source: Endpoint, question_bytes: int, now_s: float) -> None:
        if self._sessions.is_outcast(opened.node):
            word = self.outcasts.word(opened.node, self._gossip.authority)
            self._traffic.answer_hello(opened.node, word, source, question_bytes, now_s)
            return
        try:
            shown = self._take_hello_untrusted(opened, now_s)
        except ProtocolError as error:
            self._count(error)
            return
        if self._traffic.has_greeted(opened.node, now_s):
            self._membership.greeted(opened.node, now_s)
        answered = self._traffic.answer_hello(opened.node, shown, source, question_bytes, now_s)
        self._traffic.paths.hint(opened.node, source, question_bytes - answered)

    def _take_hello_untrusted(self, opened: Opened, now_s: float) -> Record | None:
        """Take the node record of a hello: the peer's own, or ours as the peer knows it.

        Or one of the words that put this device out, so that it knows why nobody else answers. Gives the record to
        answer with: this device's own, or a newer one of the peer's, which it must have forgotten; None: do not.
        """
        ledger = self._gossip.ledger
        frames = [frame for frame in opened.frames if isinstance(frame, RecordFrame)]
        if len(frames) != 1:
            raise MalformedError("a hello carries one node record")
        record = parse_untrusted(frames[0].data, ledger.clan)
        if record.kind in _WORDS_TO_OUTCASTS:
            self._gossip.take_untrusted(record.data, opened.node, now_s)
            return None
        if record.kind != Kind.NODE or record.author not in (opened.node, self._own):
            raise MalformedError("a hello carries the node record of one of the two")
        try:
            self._gossip.take_untrusted(record.data, opened.node, now_s)
        except KnownError:
            pass
        except StaleError:
            current = ledger.get(*record.register)
            if current is not None and record.author == opened.node:
                return current.value
        return self.own_record()
