"""What comes before its sender has proven itself is answered, where it came from, by no more bytes than it has.

Each kind of such a datagram comes to a core of its own from an address that nobody stands for, as a recording or a
forgery would; the bytes back are counted, at once and for some seconds more.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import pytest

from clanmesh_protocol import messages
from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import ClanId, NodeId, fingerprint_slot, make_device_keys
from clanmesh_protocol.limits import DATAGRAM_BYTES_MAX, DATAGRAM_HEADER_BYTES, DATAGRAM_TAG_BYTES
from clanmesh_protocol.messages import (
    MAGIC,
    Ack,
    Digest,
    Frame,
    Header,
    IHave,
    IndirectResult,
    Leaf,
    Ping,
    PingRequest,
    RecordFrame,
    Seal,
    Want,
    encode_frames,
)
from clanmesh_protocol.records import SINGLE_SLOT, Kind, Revocation
from clanmesh_protocol.signalling import Call, CallKind, Candidate, CandidateKind, NatKind, Seen, sign_call
from clanmesh_protocol.signing import sign_record
from clanmeshd.core.author import node_content
from clanmeshd.core.effects import SendDatagram
from clanmeshd.core.limits import HELLO_ANSWER_INTERVAL_S, HELLO_INTERVAL_S
from clanmeshd.core.mesh import Mesh
from clanmeshd.core.seals import seal
from clanmeshd.core.sessions import Sessions
from tests.core.worlds import START_SEQ, Puppet, datagrams, endpoint_of, found, instant, make_mesh, status

CLAN = found(4)
MET_S = 1.0
LATER_S = 60.0  # of silence of the member's, for whom its core then looks wherever it might be
STRANGE = Endpoint(bytes([203, 0, 113, 9]), 4444)
IDS = tuple(bytes([number]) * 8 for number in range(60))
PREFIX_AT = 5  # in the header: where the sender's id begins


@dataclass
class Target:
    """A core of a clan of four who are all up, and what a stranger may have recorded of the first of them."""

    mesh: Mesh = field(init=False)
    member: Puppet = field(init=False)
    former: Puppet = field(init=False)  # the same member in another run, which nobody has proven
    now_s: float = MET_S

    def __post_init__(self) -> None:
        self.mesh = make_mesh(CLAN, 0)
        self.mesh.set_endpoints([endpoint_of(0)], instant(0.0))
        self.mesh.set_status(status(), instant(0.0))
        self.mesh.effects()
        others = [Puppet(CLAN, index, self.mesh) for index in (1, 2, 3)]
        for other in others:
            other.meet(instant(MET_S))
        self.member = others[0]
        self.former = Puppet(CLAN, 1, self.mesh, run=7)

    def answers(self, data: bytes) -> list[SendDatagram]:
        """What is sent of its own accord and in answer, for some seconds."""
        self.mesh.receive(data, STRANGE, instant(self.now_s))
        sent = datagrams(self.mesh.effects())
        end_s = self.now_s + LATER_S
        while (due_s := self.mesh.next_deadline()) <= end_s:
            self.mesh.handle_deadline(instant(max(due_s, self.now_s)))
            sent += datagrams(self.mesh.effects())
        self.now_s = end_s
        return sent

    def rests(self, seconds: float) -> None:
        """Time passes, until a hello may be answered again."""
        self.now_s += seconds

    def bytes_back(self, data: bytes) -> int:
        """How many bytes of answers go where a datagram came from."""
        return sum(len(sent.data) for sent in self.answers(data) if sent.destination == STRANGE)

    def hello(self, record: bytes) -> bytes:
        """A hello by the member."""
        hello = self.former.sessions.seal_hello(self.mesh.node, RecordFrame(record))
        assert hello is not None
        return hello


def unproven(*frames: Frame) -> Callable[[Target], bytes]:
    """Frames in a session that proves nothing."""
    return lambda target: target.former.seal(*frames)


def pings(count: int, *more: Frame) -> Callable[[Target], bytes]:
    """As many pings as one datagram has room for, each with a number of its own."""
    return lambda target: target.former.seal(*(target.former.ping(number) for number in range(count)), *more)


def _own_record(index: int, seq: int) -> bytes:
    return CLAN.sign(index, status(9), slot=SINGLE_SLOT, seq=START_SEQ + seq)


def _old_node_record(target: Target) -> bytes:
    """A hello with an older node record: the newer one is given back."""
    content = node_content(CLAN.keys[1], CLAN.id, [target.member.at], 0)
    return target.hello(
        sign_record(
            CLAN.keys[1].identity_seed, CLAN.id, content, kind=Kind.NODE, slot=SINGLE_SLOT, seq=START_SEQ + 1
        )
    )


def _of_one_who_is_out(target: Target) -> bytes:
    node = target.member.node
    hello = target.hello(target.member.record)
    target.mesh.publish(Revocation(node, "lost"), slot=fingerprint_slot(node), now=instant(MET_S))
    target.mesh.effects()
    return hello


def _short_hello(target: Target) -> bytes:
    """A hello that another implementation did not pad."""
    sessions = target.former.sessions
    keys = sessions._hello_keys(target.mesh.node, sessions._peers[target.mesh.node])
    assert keys is not None
    header = Header(Seal.HELLO, 0, 0, target.member.node[:8], bytes(16))
    return seal(keys.send, header.encode(), encode_frames([RecordFrame(target.member.record)]))


def _foreign(target: Target) -> bytes:
    dice = Random(3)
    sessions = Sessions(make_device_keys(dice.randbytes, 0), ClanId(dice.randbytes(16)), dice.randbytes)
    sessions.set_members([target.mesh.node])
    hello = sessions.seal_hello(target.mesh.node, RecordFrame(dice.randbytes(400)))
    assert hello is not None
    return hello


def _under_a_members_name(target: Target) -> bytes:
    hello = _foreign(target)
    return hello[:PREFIX_AT] + target.member.node[:8] + hello[PREFIX_AT + 8 :]


def _unknown_prekey(target: Target) -> bytes:
    lead = bytes([MAGIC, 1, Seal.SESSION, 250, 250]) + target.member.node[:8]
    return lead + bytes(DATAGRAM_HEADER_BYTES - len(lead) + DATAGRAM_TAG_BYTES)


def _replayed(target: Target) -> bytes:
    data = target.member.seal(target.member.ping())
    target.mesh.receive(data, target.member.at, instant(MET_S))
    target.mesh.effects()
    return data


def _call(callee: NodeId) -> Call:
    keys = CLAN.keys[1]
    return sign_call(
        keys.identity_seed,
        CLAN.id,
        keys.node,
        callee,
        START_SEQ + 99,
        kind=CallKind.ASK,
        nat=NatKind.EASY,
        candidates=[Candidate(CandidateKind.SEEN, STRANGE)],
    )


KINDS: dict[str, Callable[[Target], bytes]] = {
    "nothing": lambda target: b"",
    "random bytes": lambda target: Random(1).randbytes(500),
    "the largest": lambda target: Random(1).randbytes(DATAGRAM_BYTES_MAX),
    "a header alone": lambda target: target.member.seal(target.member.ping())[:DATAGRAM_HEADER_BYTES],
    "a hello of another clan": _foreign,
    "a hello under a member's name": _under_a_members_name,
    "a prekey that nobody has": _unknown_prekey,
    "a copy of today": _replayed,
    "a ping": pings(1),
    "two pings": pings(2),
    "as many pings as there is room for": pings(28),
    "a ping with a record": lambda target: pings(1, RecordFrame(_own_record(1, 900)))(target),
    "a record of the member's": lambda target: target.former.seal(RecordFrame(_own_record(1, 900))),
    "a record of another's": lambda target: target.former.seal(RecordFrame(_own_record(2, 900))),
    "an old record": lambda target: target.former.seal(RecordFrame(_own_record(0, 1))),
    "an ack": unproven(Ack(1, bytes(8), bytes(8), bytes(16))),
    "a ping request": unproven(PingRequest(1, CLAN.keys[2].node)),
    "an indirect result": unproven(IndirectResult(1, True)),
    "ids": unproven(IHave(IDS)),
    "wants": lambda target: target.former.seal(Want(tuple(r.id[:8] for r in target.mesh.ledger.records()))),
    "a digest": unproven(Digest(b"", tuple(bytes(8) for _ in range(64)))),
    "a leaf": unproven(Leaf(b"\1", IDS)),
    "what it sees": unproven(Seen(STRANGE, STRANGE)),
    "a call": lambda target: target.former.seal(_call(target.mesh.node)),
    "a call for another": lambda target: target.former.seal(_call(CLAN.keys[2].node)),
    "a hello": lambda target: target.hello(target.member.record),
    "a hello with an old record": _old_node_record,
    "a hello with our own record": lambda target: target.hello(_node_of(target)),
    "a hello without padding": _short_hello,
    "a hello of one who is out": _of_one_who_is_out,
}
ANSWERED = {"a ping", "two pings", "as many pings as there is room for", "a hello", "a hello of one who is out"}


def _node_of(target: Target) -> bytes:
    entry = target.mesh.ledger.get(target.mesh.node, Kind.NODE, SINGLE_SLOT)
    assert entry is not None
    return entry.value.data


@pytest.mark.parametrize("kind", KINDS)
def test_no_answer_is_larger_than_its_question(kind: str) -> None:
    target = Target()
    data = KINDS[kind](target)
    target.rests(HELLO_ANSWER_INTERVAL_S)
    back = target.bytes_back(data)
    assert back <= len(data)
    assert back > 0 or kind not in ANSWERED, "a kind that is answered shows that answers are counted"


def test_every_frame_is_among_the_kinds() -> None:
    """A frame that a later version adds must be looked at here, too."""
    frames = {each for each in vars(messages).values() if isinstance(each, type) and hasattr(each, "TYPE")}
    assert frames == {Ping, Ack, PingRequest, IndirectResult, RecordFrame, IHave, Want, Digest, Leaf, Seen, Call}
    assert set(ANSWERED) <= set(KINDS)


def test_what_goes_to_the_member_itself_for_a_strangers_sake_is_one_hello() -> None:
    """A short datagram with a prekey that nobody has points us at the member: seldom, and nowhere else."""
    target = Target()
    data, hellos = _unknown_prekey(target), []
    end_s = target.now_s + 4 * HELLO_INTERVAL_S
    while target.now_s < end_s:
        target.mesh.receive(data, STRANGE, instant(target.now_s))
        hellos += [sent for sent in datagrams(target.mesh.effects()) if sent.data[2] == Seal.HELLO]
        target.now_s += 0.01
    assert {sent.destination for sent in hellos} == {target.member.at}
    assert len(hellos) <= 5
