"""Datagrams between two members: sealed for each pair and direction, with no handshake before the first.

The key of a direction grows from both static keys, one prekey of each side, both identities and the clan. A
HELLO is sealed with the identities alone (in their Montgomery form), so that two members who never met, or who
forgot each other's prekeys, can show each other their node records; it carries nothing else.

What a datagram proves. A good seal says that the peer made it once, not when. Replay windows belong to the
random boot id of the sender's run. A boot id is *proven* when the peer, under that id, echoes the token that we
gave it; the token changes each time a boot id is proven, so no recording of an earlier run can prove anything.
Until then a datagram changes no liveness, no endpoint and no window.

Two with one key show by this. Their peers see a boot id come back that was followed by another. Each of the two
sees a peer's token change again and again, though that peer goes on under one boot id and this device proved
itself to it long ago: somebody else proves another run of this device there. A device that roams keeps its boot
id; one that restarts or was restored has a new one, once, and then counts anew.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, NamedTuple

from clanmesh_protocol.errors import ProtocolError
from clanmesh_protocol.keys import ClanId, DeviceKeys, Entropy, NodeId
from clanmesh_protocol.messages import (
    BOOT_BYTES,
    SENDER_BYTES,
    Ack,
    Frame,
    Header,
    Ping,
    Seal,
    UnknownFrame,
    encode_frames,
    parse_frames_untrusted,
    parse_header_untrusted,
)
from clanmesh_protocol.records import Node
from clanmeshd.core.limits import FORMER_BOOTS_MAX, HELLO_PLAINTEXT_BYTES
from clanmeshd.core.replay import ReplayWindow
from clanmeshd.core.seals import exchange, montgomery_private, montgomery_public, seal, unseal

TOKEN_BYTES: Final = 8
TOKEN_NONE: Final = bytes(TOKEN_BYTES)
USURPED_CHANGES: Final = 6  # of a peer's token: our start makes 1, a peer that forgot us 2, each turn of a twin 2
USURPED_PATIENCE: Final = 64  # equal tokens, about half a minute of one peer's, by which earlier changes are over
_PADDING_FRAME: Final = 0  # a type that no version will ever give a meaning


class UnknownSenderError(ProtocolError):
    """No member's id begins so."""

    code = "unknown-sender"


class UnknownPrekeyError(ProtocolError):
    """A prekey that this side, or the sender's node record here, does not have. `node` is only claimed."""

    code = "unknown-prekey"

    def __init__(self, node: NodeId) -> None:
        super().__init__("a prekey that is not known here")
        self.node = node


class SealError(ProtocolError):
    """The seal does not hold."""

    code = "seal"


class ReplayedError(ProtocolError):
    """The datagram came before, or is far behind."""

    code = "replayed"


class PairKeys(NamedTuple):
    """The keys of both directions, 32 bytes each."""

    send: bytes
    receive: bytes


class Opened(NamedTuple):
    """An authentic datagram. Unless `proven`, it may be a recording."""

    node: NodeId
    seal: Seal
    frames: list[Frame | UnknownFrame]
    boot: bytes
    counter: int
    proven: bool


_NONE: Final[Mapping[tuple[int, int], PairKeys | None]] = {}  # of a peer not spoken to yet: most, in a large clan


@dataclass(slots=True)
class _Peer:
    record: Node | None = None
    hello: PairKeys | None = None
    is_mute: bool = False  # its identity is no key to seal with
    # By (own, their prekey), at most 4 x 4 that exist. None: a key of small order, and no session is possible.
    sessions: Mapping[tuple[int, int], PairKeys | None] = field(default_factory=lambda: _NONE)
    counter: int = 0  # of datagrams sent
    boot: bytes | None = None  # proven
    window: ReplayWindow | None = None  # of that boot
    boots: int = 0  # proven so far; a part of our token
    token: bytes | None = None  # once it was worked out from them
    former: tuple[bytes, ...] = ()  # earlier boots, newest last
    their_token: bytes = TOKEN_NONE
    token_counter: int = -1  # of the proven datagram that told it; -1: none of this boot did
    token_changes: int = 0  # under this boot, since it stood still for long
    token_repeats: int = 0  # times that it was told since its last change
    proving: bool = False  # what its newest answer told is being echoed to it: by that it changes once more
    addressed: int | None = None  # the prekey of ours that its newest datagram was sealed for


class Sessions:
    """Seals and opens datagrams. Knows members and their keys; knows no time, no address and no liveness."""

    def __init__(self, keys: DeviceKeys, clan: ClanId, entropy: Entropy) -> None:
        self.boot = entropy(BOOT_BYTES)
        self._token_secret = entropy(32)
        self._clan = clan
        self._node = keys.node
        self._keys = keys
        self._prekeys = _private_prekeys(keys)
        self._sending_prekey = keys.prekeys[-1][0]
        self._identity_private = montgomery_private(keys.identity_seed)
        self._peers: dict[NodeId, _Peer] = {}
        self._counter_floor = 0
        self._boots_floor = 0
        self._by_prefix: dict[bytes, tuple[NodeId, ...]] = {}
        self._twice: list[NodeId] = []
        self._outcasts: frozenset[NodeId] = frozenset()

    # --- who there is -----------------------------------------------------------------------------------

    def set_members(self, members: Iterable[NodeId], outcasts: frozenset[NodeId] = frozenset()) -> None:
        """Say who may speak. All others are forgotten and their datagrams dropped, but for outcasts' hellos."""
        speakers = frozenset(members) - {self._node}
        self._outcasts = outcasts - speakers - {self._node}
        wanted = sorted(speakers | self._outcasts)
        # One who is forgotten may come back in this run, under the same keys: no nonce may be used twice, and no
        # token may be good again that a recording could echo. So both go on above all that were ever given out.
        gone = [peer for node, peer in self._peers.items() if node not in set(wanted)]
        self._counter_floor = max([self._counter_floor, *(peer.counter for peer in gone)])
        self._boots_floor = max([self._boots_floor, *(peer.boots + 1 for peer in gone)])
        self._peers = {node: self._peers.get(node) or self._new_peer() for node in wanted}
        self._by_prefix = {}
        for node in wanted:
            prefix = node[:SENDER_BYTES]
            self._by_prefix[prefix] = (*self._by_prefix.get(prefix, ()), node)

    def is_outcast(self, node: NodeId) -> bool:
        """Say whether a key is out of the clan and may only be told why."""
        return node in self._outcasts

    def _new_peer(self) -> _Peer:
        return _Peer(counter=self._counter_floor, boots=self._boots_floor)

    def set_record(self, node: NodeId, record: Node) -> None:
        """Take a member's keys from its node record."""
        peer = self._peers.get(node)
        if peer is not None and peer.record != record:
            peer.record = record
            peer.sessions = _NONE

    def set_keys(self, keys: DeviceKeys, sending_prekey: int) -> None:
        """Take this device's own keys after a change of prekeys, and which of them to seal with."""
        if keys != self._keys:
            for peer in self._peers.values():
                peer.sessions = _NONE
        self._keys = keys
        self._prekeys = _private_prekeys(keys)
        self._sending_prekey = sending_prekey

    def has_record(self, node: NodeId) -> bool:
        """Say whether a session with this member can be sealed."""
        peer = self._peers.get(node)
        return peer is not None and peer.record is not None

    # --- boot tokens ------------------------------------------------------------------------------------

    def token(self, node: NodeId) -> bytes:
        """The token that proves a boot id of this peer when it comes back from it."""
        peer = self._peers[node]
        if peer.token is None:
            material = node + peer.boots.to_bytes(8, "big")
            peer.token = blake2b(material, digest_size=TOKEN_BYTES, key=self._token_secret).digest()
        return peer.token

    def their_token(self, node: NodeId) -> bytes:
        """What this peer wants to hear from us; zeros while we do not know."""
        return self._peers[node].their_token

    def is_proven(self, node: NodeId) -> bool:
        """Say whether the peer's current run was ever proven to this one."""
        return self._peers[node].boot is not None

    def prove(self, opened: Opened) -> Opened:
        """Believe the datagram's boot id if one of its frames echoes our token; else give it back as it was."""
        if opened.proven or opened.seal is not Seal.SESSION:
            return opened
        token = self.token(opened.node)
        if not any(isinstance(frame, Ping | Ack) and frame.echo == token for frame in opened.frames):
            return opened
        peer = self._peers[opened.node]
        if opened.boot in peer.former:
            self._twice.append(opened.node)
        elif peer.boot is not None:
            peer.former = (*peer.former, peer.boot)[-FORMER_BOOTS_MAX:]
        peer.boot = opened.boot
        peer.boots, peer.token = peer.boots + 1, None
        peer.token_counter = -1
        peer.token_changes = peer.token_repeats = 0
        peer.proving = False
        peer.window = ReplayWindow(opened.counter)
        return opened._replace(proven=True)

    def running_twice(self) -> list[NodeId]:
        """Drain who was seen to run twice with one key: peers of whom a former run came back, or this device."""
        twice, self._twice = self._twice, []
        return twice

    def hear_token(self, opened: Opened, token: bytes, *, is_answer: bool = False) -> bool:
        """Remember what a proven datagram's Ping or Ack says the peer wants to hear.

        True: the peer's answer (`is_answer`) shows that what it answered did not prove this device's run to it.
        """
        peer = self._peers[opened.node]
        if not opened.proven or opened.counter < peer.token_counter:
            return False  # one that was overtaken tells an old token
        is_first, peer.token_counter = peer.token_counter < 0, opened.counter
        changed, peer.their_token = token != peer.their_token, token
        if not is_first:
            self._weigh_token(peer, changed=changed)
        if is_answer:
            # The first change tells a token that we could not know; the one behind it, that our echo was taken.
            peer.proving = changed and not peer.proving
        return is_answer and peer.proving

    def _weigh_token(self, peer: _Peer, *, changed: bool) -> None:
        peer.token_repeats = 0 if changed else peer.token_repeats + 1
        if peer.token_repeats >= USURPED_PATIENCE:
            peer.token_changes = 0
        peer.token_changes += changed
        if peer.token_changes >= USURPED_CHANGES:
            peer.token_changes = 0
            if self._node not in self._twice:
                self._twice.append(self._node)

    def is_newest(self, opened: Opened) -> bool:
        """Say whether no later datagram of the peer came before this one: only such a one moves its endpoint."""
        window = self._peers[opened.node].window
        return opened.proven and window is not None and opened.counter == window.highest

    def addressed(self, node: NodeId) -> int | None:
        """The id of the prekey that a member sealed with last, of those in our node record. None: unknown."""
        peer = self._peers.get(node)
        return peer.addressed if peer is not None else None

    def run_of(self, node: NodeId) -> bytes | None:
        """The boot id of a member's run that was proven last."""
        peer = self._peers.get(node)
        return peer.boot if peer is not None else None

    # --- sealing ----------------------------------------------------------------------------------------

    def seal(self, node: NodeId, frames: Iterable[Frame]) -> bytes | None:
        """Seal frames that fit one datagram. None when the member's keys are not known or of no use."""
        peer = self._peers.get(node)
        if peer is None or peer.record is None:
            return None
        number, _ = peer.record.prekeys[-1]
        keys = self._session_keys(node, peer, self._sending_prekey, number)
        if keys is None:
            return None
        header = self._header(Seal.SESSION, self._sending_prekey, number, peer)
        return seal(keys.send, header.encode(), encode_frames(frames))

    def seal_hello(self, node: NodeId, frame: Frame) -> bytes | None:
        """Seal one node record for a member of whom nothing but the identity need be known."""
        peer = self._peers.get(node)
        keys = self._hello_keys(node, peer) if peer is not None else None
        if peer is None or keys is None:
            return None
        plaintext = encode_frames([frame])
        missing = HELLO_PLAINTEXT_BYTES - len(plaintext) - 3
        if missing >= 0:
            # An answer is then exactly as long as the question, so that nobody can make us amplify.
            plaintext += bytes([_PADDING_FRAME]) + missing.to_bytes(2, "big") + bytes(missing)
        return seal(keys.send, self._header(Seal.HELLO, 0, 0, peer).encode(), plaintext)

    def _header(self, seal: Seal, own_prekey: int, their_prekey: int, peer: _Peer) -> Header:
        nonce = self.boot + peer.counter.to_bytes(8, "big")
        peer.counter += 1
        return Header(seal, own_prekey, their_prekey, self._node[:SENDER_BYTES], nonce)

    # --- opening ----------------------------------------------------------------------------------------

    def open_untrusted(self, data: bytes) -> Opened:
        """Open a datagram: prefix, key, seal, replay window, frames. Raises ProtocolError.

        Only a datagram that is authentic and proven marks its place in the window.
        """
        header = parse_header_untrusted(data)
        candidates = self._by_prefix.get(header.sender, ())
        if self._outcasts and header.seal is not Seal.HELLO:
            candidates = tuple(node for node in candidates if node not in self._outcasts)
        if not candidates:
            raise UnknownSenderError("no member's id begins so")
        node, plaintext = self._unseal_untrusted(candidates, header, data)
        frames = parse_frames_untrusted(plaintext)
        peer = self._peers[node]
        boot, counter = header.boot, header.counter
        proven = header.seal is Seal.SESSION and boot == peer.boot
        if proven:
            if peer.window is None:
                peer.window = ReplayWindow()
            if not peer.window.accept(counter):
                raise ReplayedError("this datagram came before")
            if counter == peer.window.highest:
                peer.addressed = header.receiver_prekey
        return Opened(node, header.seal, frames, boot, counter, proven)

    def _unseal_untrusted(self, candidates: Sequence[NodeId], header: Header, data: bytes) -> tuple[NodeId, bytes]:
        # Two members whose ids share 8 bytes: the seal tells them apart.
        is_readable = False
        for node in candidates:
            keys = self._keys_for(node, header)
            if keys is not None:
                is_readable = True
                plaintext = unseal(keys.receive, data)
                if plaintext is not None:
                    return node, plaintext
        if not is_readable:
            raise UnknownPrekeyError(candidates[0])
        raise SealError("the seal does not hold")

    def _keys_for(self, node: NodeId, header: Header) -> PairKeys | None:
        peer = self._peers[node]
        if header.seal is Seal.HELLO:
            return self._hello_keys(node, peer)
        return self._session_keys(node, peer, header.receiver_prekey, header.sender_prekey)

    # --- keys -------------------------------------------------------------------------------------------

    # A stranger who writes a member's name has keys asked for: what is dear is worked out once, even in vain.

    def _hello_keys(self, node: NodeId, peer: _Peer) -> PairKeys | None:
        if peer.hello is None and not peer.is_mute:
            public = montgomery_public(node)
            shared = exchange(self._identity_private, public) if public is not None else None
            peer.hello = self._derive(shared, node, b"clanmesh-hello") if shared is not None else None
            peer.is_mute = shared is None
        return peer.hello

    def _session_keys(self, node: NodeId, peer: _Peer, own_prekey: int, their_prekey: int) -> PairKeys | None:
        pair = own_prekey, their_prekey
        if pair in peer.sessions or peer.record is None:
            return peer.sessions.get(pair)
        private = self._prekeys.get(own_prekey)
        public = dict(peer.record.prekeys).get(their_prekey) if private is not None else None
        if private is None or public is None:
            return None
        keys = None
        static, prekey = exchange(self._keys.static_private, peer.record.static_key), exchange(private, public)
        if static is not None and prekey is not None:
            keys = self._derive(static + prekey, node, b"clanmesh-dgram")
        peer.sessions = {**peer.sessions, pair: keys}
        return keys

    def _derive(self, shared: bytes, node: NodeId, person: bytes) -> PairKeys:
        def key(sender: NodeId, receiver: NodeId) -> bytes:
            material = shared + sender + receiver + self._clan
            return blake2b(material, digest_size=32, person=person).digest()

        return PairKeys(send=key(self._node, node), receive=key(node, self._node))


def _private_prekeys(keys: DeviceKeys) -> dict[int, bytes]:
    """The private prekeys by their ids."""
    return {number: private for number, private, _ in reversed(keys.prekeys)}
