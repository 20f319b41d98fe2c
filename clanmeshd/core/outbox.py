"""Frames on their way out: gathered for each peer, packed into few datagrams, the urgent first."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.limits import FRAMES_PER_DATAGRAM_MAX
from clanmesh_protocol.messages import PLAINTEXT_BYTES_MAX, Frame, IHave, Want, encode_frame
from clanmesh_protocol.records import Kind
from clanmeshd.core.limits import IDS_PER_FRAME_MAX, OUTBOX_FRAMES_MAX

# The order in which records leave: what decides about trust before what rests on it, soft state last. A suspicion
# stands before the bulk, since others' probing waits for it.
_URGENCY_OF_KIND = {
    Kind.AUTHORITY: 1,
    Kind.APPROVAL: 1,
    Kind.REVOCATION: 2,
    Kind.CREDENTIAL: 3,
    Kind.REDEMPTION: 4,
    Kind.INVITE: 5,
    Kind.ACKNOWLEDGEMENT: 5,
    Kind.SUSPICION: 6,
    Kind.NODE: 7,
    Kind.HEAD: 8,
    Kind.DIRECTIVE: 8,
    Kind.SECRET: 9,
    Kind.EQUIVOCATION: 9,
}
URGENCY_PROBE = 0
URGENCY_IDS = 6
URGENCY_UNKNOWN_KIND = 10
URGENCY_STATUS = 11
URGENCY_SYNC = 12


def urgency_of(kind: int) -> int:
    """How urgent records of a kind are; 0 goes first."""
    if kind == Kind.STATUS:
        return URGENCY_STATUS
    return _URGENCY_OF_KIND.get(Kind(kind), URGENCY_UNKNOWN_KIND) if kind in _KINDS else URGENCY_UNKNOWN_KIND


_KINDS = frozenset(int(kind) for kind in Kind)


@dataclass(slots=True)
class _Ids:
    """What a peer is told and asked for, in order. The ids of `large` records are said twice, never torn apart."""

    wanted: dict[bytes, None] = field(default_factory=dict)
    small: dict[bytes, None] = field(default_factory=dict)
    large: dict[bytes, None] = field(default_factory=dict)


class Outbox:
    """Bounded for each peer: of too many frames the least urgent are dropped; what repairs loss repairs that."""

    def __init__(self) -> None:
        self._frames: dict[NodeId, dict[Frame, int]] = {}
        self._ids: dict[NodeId, _Ids] = {}
        self.dropped = 0

    def put(self, node: NodeId, frame: Frame, urgency: int) -> None:
        """Add a frame; one that waits already is not added twice."""
        frames = self._frames.setdefault(node, {})
        frames.setdefault(frame, urgency)
        if len(frames) > OUTBOX_FRAMES_MAX:
            least = max(frames, key=lambda waiting: frames[waiting])
            del frames[least]
            self.dropped += 1

    def announce(self, node: NodeId, ids: Iterable[bytes], *, is_large: bool = False) -> None:
        """Tell a peer what is here; `is_large`: no datagram can carry it."""
        waiting = self._ids.setdefault(node, _Ids())
        (waiting.large if is_large else waiting.small).update(dict.fromkeys(ids))

    def want(self, node: NodeId, ids: Iterable[bytes]) -> None:
        """Ask a peer for records."""
        self._ids.setdefault(node, _Ids()).wanted.update(dict.fromkeys(ids))

    def drain(self) -> Iterator[tuple[NodeId, list[Frame]]]:
        """Give the frames of one datagram after the other, and forget them."""
        if not self._frames and not self._ids:
            return
        for node, ids in self._ids.items():
            for chunk in _chunks(list(ids.wanted)):
                self.put(node, Want(chunk), URGENCY_IDS)
            for chunk in _chunks([short_id for short_id in ids.large for _ in range(2)] + list(ids.small)):
                self.put(node, IHave(chunk), URGENCY_IDS)
        waiting, self._frames, self._ids = self._frames, {}, {}
        for node, frames in waiting.items():
            if len(frames) == 1:  # nearly always: a ping
                yield node, list(frames)
                continue
            for packed in _pack(sorted(frames, key=lambda frame: frames[frame])):
                yield node, packed


def _chunks(ids: list[bytes]) -> Iterator[tuple[bytes, ...]]:
    for start in range(0, len(ids), IDS_PER_FRAME_MAX):
        yield tuple(ids[start : start + IDS_PER_FRAME_MAX])


def _pack(frames: Iterable[Frame]) -> Iterator[list[Frame]]:
    packed: list[Frame] = []
    size = 0
    for frame in frames:
        length = len(encode_frame(frame))
        if packed and (size + length > PLAINTEXT_BYTES_MAX or len(packed) >= FRAMES_PER_DATAGRAM_MAX):
            yield packed
            packed, size = [], 0
        packed.append(frame)
        size += length
    if packed:
        yield packed
