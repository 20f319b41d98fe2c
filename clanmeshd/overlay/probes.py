"""What probes prove: that a packet from WireGuard's own port reaches a member at an endpoint, and one comes back.

A candidate endpoint is only somebody's word. A probe is sent there from WireGuard's port, so through the very
mappings that WireGuard would use; the answer tells where it came from. Each packet has a MAC under a key of the
pair and direction, from the static keys of both.

- A PONG counts once, for a probe of ours that is not yet answered, and from the endpoint that was probed. It
  proves that the member was reached there just now; who forwards packets unseen is part of the path.
- A PROBE may be a recording, sent by anybody from anywhere. So it proves no path and moves nothing: it is a hint.
  A nonce is answered once as long as it is remembered, and each member's probes are answered at a bounded rate:
  by no more bytes than came.
- Strangers cost a look into a table. Who writes a member's name has a MAC worked out, at a bounded rate for each
  name; that of a PONG only if it has the nonce of a probe under way, which nobody off the path can know.

Nothing here knows a socket, a clock or a reason to probe.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from hmac import compare_digest
from typing import Final, NamedTuple

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.errors import LimitError, SignatureError
from clanmesh_protocol.keys import ClanId, Entropy, NodeId
from clanmesh_protocol.probes import ID_BYTES, MAC_BYTES, NONCE_BYTES, Kind, Packet, read_packet_untrusted
from clanmeshd.core.buckets import Buckets
from clanmeshd.core.seals import exchange
from clanmeshd.core.sessions import ReplayedError, UnknownSenderError

PROBE_LIFE_S: Final = 5.0  # an answer that comes later tells of no path that anybody wants
OUTSTANDING_MAX: Final = 1024  # probes that wait for an answer: 60 members at 16 each
ANSWERED_MAX: Final = 64  # nonces of a member's that are remembered: what it sends in some seconds of a search
ANSWERS_PER_S: Final = 20.0  # to one member: a search is a few probes to each of our endpoints
ANSWERS_BURST: Final = 60.0
CHECKS_PER_S: Final = 100.0  # MACs worked out in one member's name, 4 us each: 0.04 % of a core for each name
CHECKS_BURST: Final = 200.0
SENT_PER_S: Final = (
    10.0  # to one address, so that no hint makes the clan a nuisance: 900 bytes a second with headers
)
SENT_BURST: Final = 40.0  # a first search: openers, tries with growing pauses, and again with another TTL

_PERSON: Final = b"clanmesh-probe"


class Heard(NamedTuple):
    """A member's PROBE. Everything in it but the member may be old: a hint where that member may be."""

    node: NodeId
    source: Endpoint  # where it came from
    aimed_at: Endpoint  # where the member sent it: what it takes for our endpoint
    answer: bytes | None  # to be sent to the source; None: that member has used up what it is answered


class Proven(NamedTuple):
    """A PONG: the member was reached at `target`, and sees us at `observed`."""

    node: NodeId
    target: Endpoint
    observed: Endpoint
    rtt_s: float


@dataclass(slots=True)
class _Member:
    static_key: bytes
    send: bytes = b""  # the keys of both directions, worked out when one is wanted
    receive: bytes = b""
    is_mute: bool = False  # its static key is of small order
    answered: dict[bytes, None] = field(default_factory=dict)  # nonces, newest last


class _Outstanding(NamedTuple):
    node: NodeId
    target: Endpoint
    sent_s: float


class Probes:
    """Makes and reads the packets of one device. Times are monotonic seconds, told by the caller."""

    def __init__(self, node: NodeId, static_private: bytes, clan: ClanId, entropy: Entropy) -> None:
        self._node = node
        self._static_private = static_private
        self._clan = clan
        self._entropy = entropy
        self._members: dict[NodeId, _Member] = {}
        self._by_id: dict[bytes, tuple[NodeId, ...]] = {}
        self._outstanding: dict[bytes, _Outstanding] = {}  # by nonce, oldest first
        self._answers = Buckets[NodeId](ANSWERS_PER_S, ANSWERS_BURST)
        self._checks = Buckets[bytes](CHECKS_PER_S, CHECKS_BURST)
        self._sent = Buckets[bytes](SENT_PER_S, SENT_BURST)

    def set_members(self, static_keys: Mapping[NodeId, bytes]) -> None:
        """Say who the other members are, with their static keys; all others are strangers from now on."""
        wanted = {node: key for node, key in static_keys.items() if node != self._node}
        before, self._members = self._members, {}
        self._by_id = {}
        for node, key in wanted.items():
            known = before.get(node)
            self._members[node] = known if known is not None and known.static_key == key else _Member(key)
            self._by_id[node[:ID_BYTES]] = (*self._by_id.get(node[:ID_BYTES], ()), node)
        self._outstanding = {nonce: each for nonce, each in self._outstanding.items() if each.node in wanted}
        self._answers.retain(frozenset(wanted))
        self._checks.retain(frozenset(self._by_id))

    # --- asking -----------------------------------------------------------------------------------------

    def probe(self, node: NodeId, target: Endpoint, now_s: float) -> bytes | None:
        """Give a new PROBE of a member at an endpoint. An opener is one, too, with a TTL too small to arrive.

        None: that is no member with a usable key, or too much was sent to that address already.
        """
        member = self._member_with_keys(node)
        if member is None or not self._sent.take(target.ip, now_s):
            return None
        self._forget_old(now_s)
        nonce = self._entropy(NONCE_BYTES)
        self._outstanding[nonce] = _Outstanding(node, target, now_s)
        return self._packet(Kind.PROBE, member, node, nonce, target)

    def _forget_old(self, now_s: float) -> None:
        while self._outstanding:
            nonce, oldest = next(iter(self._outstanding.items()))
            if len(self._outstanding) < OUTSTANDING_MAX and now_s < oldest.sent_s + PROBE_LIFE_S:
                return
            del self._outstanding[nonce]

    # --- hearing ----------------------------------------------------------------------------------------

    def receive_untrusted(self, data: bytes, source: Endpoint, now_s: float) -> Heard | Proven:
        """Take a packet that came to WireGuard's port. Raises ProtocolError, and nothing has changed then.

        `unknown-sender`: no member's packet to this device; `replayed`: it counted before, or was never asked for;
        `signature`: its MAC does not hold; `limit`: too many were tried in that member's name.
        """
        packet = read_packet_untrusted(data)
        if packet.receiver != self._node[:ID_BYTES] or packet.sender not in self._by_id:
            raise UnknownSenderError("no packet of a member's to this device")
        if packet.kind is Kind.PONG:
            return self._receive_pong_untrusted(packet, data, source, now_s)
        return self._receive_probe_untrusted(packet, data, source, now_s)

    def _receive_pong_untrusted(self, packet: Packet, data: bytes, source: Endpoint, now_s: float) -> Proven:
        asked = self._outstanding.get(packet.nonce)
        if asked is None or now_s >= asked.sent_s + PROBE_LIFE_S:
            raise ReplayedError("nothing was asked, or it was answered, or is long ago")
        if asked.target != source or asked.node[:ID_BYTES] != packet.sender:
            raise ReplayedError("an answer from elsewhere than was asked")
        if not self._holds(asked.node, data):
            raise SignatureError("the MAC does not hold")
        del self._outstanding[packet.nonce]
        return Proven(asked.node, asked.target, packet.endpoint, now_s - asked.sent_s)

    def _receive_probe_untrusted(self, packet: Packet, data: bytes, source: Endpoint, now_s: float) -> Heard:
        candidates = self._by_id[packet.sender]
        if any(packet.nonce in self._members[node].answered for node in candidates):
            raise ReplayedError("it was answered")
        if not self._checks.take(packet.sender, now_s):
            raise LimitError("too many were tried in that name")
        # Two members whose ids share 8 bytes: the MAC tells them apart.
        node = next((node for node in candidates if self._holds(node, data)), None)
        if node is None:
            raise SignatureError("the MAC does not hold")
        return Heard(node, source, packet.endpoint, self._answer(node, packet.nonce, source, now_s))

    def _answer(self, node: NodeId, nonce: bytes, source: Endpoint, now_s: float) -> bytes | None:
        member = self._members[node]
        member.answered[nonce] = None
        if len(member.answered) > ANSWERED_MAX:
            del member.answered[next(iter(member.answered))]
        if not self._answers.take(node, now_s):
            return None
        return self._packet(Kind.PONG, member, node, nonce, source)

    # --- keys -------------------------------------------------------------------------------------------

    def _packet(self, kind: Kind, member: _Member, node: NodeId, nonce: bytes, endpoint: Endpoint) -> bytes:
        covered = Packet(kind, self._node[:ID_BYTES], node[:ID_BYTES], nonce, endpoint).encode()
        return covered + mac(member.send, covered)

    def _holds(self, node: NodeId, data: bytes) -> bool:
        member = self._member_with_keys(node)
        return member is not None and compare_digest(mac(member.receive, data[:-MAC_BYTES]), data[-MAC_BYTES:])

    def _member_with_keys(self, node: NodeId) -> _Member | None:
        member = self._members.get(node)
        if member is not None and not member.send and not member.is_mute:
            # Worked out once, even in vain: strangers may write this member's name.
            shared = exchange(self._static_private, member.static_key)
            member.is_mute = shared is None
            if shared is not None:
                member.send = direction_key(shared, self._node, node, self._clan)
                member.receive = direction_key(shared, node, self._node, self._clan)
        return member if member is not None and not member.is_mute else None


def direction_key(shared: bytes, sender: NodeId, receiver: NodeId, clan: ClanId) -> bytes:
    """The key of one direction of a pair, from what both static keys give together."""
    return blake2b(shared + sender + receiver + clan, digest_size=32, person=_PERSON).digest()


def mac(key: bytes, covered: bytes) -> bytes:
    """The 16 bytes at a packet's end."""
    return blake2b(covered, digest_size=MAC_BYTES, key=key).digest()
