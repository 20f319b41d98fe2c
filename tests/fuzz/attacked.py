"""A core that damaged datagrams, frames and records come to: whatever they are, they leave nothing but counts."""

import time
from collections.abc import Callable
from typing import Final
from unittest.mock import patch

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.messages import (
    Ack,
    Digest,
    Frame,
    IHave,
    Leaf,
    PingRequest,
    RecordFrame,
    Seal,
    Want,
    encode_frame,
)
from clanmesh_protocol.signalling import Call, CallKind, Candidate, CandidateKind, NatKind, Seen, sign_call
from clanmeshd.core import sessions
from clanmeshd.core.effects import Effect, StoreAnchor, StoreKeys, StoreRecord
from tests.core.worlds import Puppet, endpoint_of, status
from tests.fuzz.scraps import scraps
from tests.hostile.stage import NOW, Stage

INPUT_S: Final = 0.25  # of CPU, for one input of a datagram's or a record's size, and a collection of cycles
STRANGE: Final = Endpoint(bytes([203, 0, 113, 9]), 4444)
_PLAINTEXT_BYTES_MAX: Final = 1000  # what a datagram has room for, and a little less
_DOORS: Final = 4


class Attacked:
    """A core of a clan of four; device 1 is up and speaks as the test makes it, device 2 was recorded before."""

    def __init__(self) -> None:
        self.stage = Stage(4)
        self.mesh = self.stage.mesh
        self.mesh.set_endpoints([endpoint_of(0)], NOW)
        self.mesh.set_status(status(), NOW)
        self.mesh.effects()
        self.member = Puppet(self.stage.clan, 1, self.mesh)
        self.member.meet(NOW)
        other = Puppet(self.stage.clan, 2, self.mesh)
        other.meet(NOW)
        hello = other.sessions.seal_hello(self.mesh.node, RecordFrame(other.record))
        assert hello is not None
        own = [record.data for record in self.mesh.ledger.records()]
        self.records = (*own, *scraps("record"))
        self.frames = tuple(encode_frame(frame) for frame in self._frames(own)) + scraps("frame")
        ping = other.seal(other.ping())
        self.datagrams = (
            hello,
            ping[:3] + bytes([ping[3] ^ 1]) + ping[4:],  # a prekey that nobody has
            *(other.seal(frame) for frame in (other.ping(), RecordFrame(own[0]), IHave((bytes(8),)))),
            *scraps("datagram"),
        )
        for data in self.datagrams:  # what is sound of them is old from now on
            self.mesh.receive(data, STRANGE, NOW)
        self.mesh.effects()

    def _frames(self, own: list[bytes]) -> list[Frame]:
        ids = tuple(bytes([number]) * 8 for number in range(20))
        return [
            *(RecordFrame(data) for data in own if len(data) <= 1000),
            self.member.ping(),
            Ack(1, bytes(8), bytes(8), bytes(16)),
            PingRequest(1, self.stage.node(2)),
            IHave(ids),
            Want(ids),
            Leaf(b"\1", ids),
            Digest(b"", tuple(bytes(8) for _ in range(64))),
            Seen(STRANGE, STRANGE),
            *(self._call(callee) for callee in (self.mesh.node, self.stage.node(2))),
        ]

    def _call(self, callee: NodeId) -> Call:
        keys, where = self.stage.clan.keys[1], [Candidate(CandidateKind.SEEN, STRANGE)]
        ask, nat = CallKind.ASK, NatKind.EASY
        clan = self.stage.clan.id
        return sign_call(keys.identity_seed, clan, keys.node, callee, 1 << 40, kind=ask, nat=nat, candidates=where)

    def state(self) -> object:
        """All that others' words can change here, and who is thought to be there."""
        return self.stage.trace(), [(peer.node, peer.state, peer.endpoint) for peer in self.mesh.peers(NOW)]

    def sealed(self, plaintext: bytes, seal: Seal) -> bytes | None:
        """What device 1 seals."""
        seals = self.member.sessions
        with patch.object(sessions, "encode_frames", lambda frames: plaintext):
            if seal is Seal.HELLO:
                return seals.seal_hello(self.mesh.node, RecordFrame(b""))
            return seals.seal(self.mesh.node, [])

    def takes(self, data: bytes) -> None:
        """An input whose first byte says at which door it comes: for `tests.fuzz.coverage_guided`."""
        door, rest = data[0] % _DOORS if data else 0, data[1:]
        if door == 3:
            self.hears_record(rest)
            return
        sealed = (
            self.sealed(rest[:_PLAINTEXT_BYTES_MAX], Seal.HELLO if door == 2 else Seal.SESSION) if door else rest
        )
        self.hears(sealed or b"")

    def hears_record(self, data: bytes) -> None:
        """The core is handed a record by device 1, in good time, and stores nothing."""
        self._traceless(lambda: self.mesh.receive_record(data, self.member.node, NOW))

    def hears(self, data: bytes, source: Endpoint = STRANGE) -> list[Effect]:
        """The core is handed a datagram, in good time, and stores nothing."""
        return self._traceless(lambda: self.mesh.receive(data, source, NOW))

    def _traceless(self, act: Callable[[], None]) -> list[Effect]:
        before, begun_s = self.state(), time.thread_time()
        act()
        effects = self.mesh.effects()
        assert time.thread_time() - begun_s < INPUT_S
        assert self.state() == before
        assert not [effect for effect in effects if isinstance(effect, StoreRecord | StoreAnchor | StoreKeys)]
        return effects
