"""Junk in the shapes of WireGuard's messages and of probes, for `bench.siege`.

Each kind is a list to be sent in turn; neighbours are of one size, so that they may leave together. What is random
in them comes from the dice that the caller throws. `public_key` is WireGuard's of a device that the junk is for.
"""

from collections.abc import Sequence
from hashlib import blake2s
from random import Random
from typing import Final

from clanmesh_protocol.endpoints import endpoint
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.probes import ID_BYTES, MAC_BYTES, NONCE_BYTES, Kind, Packet
from clanmeshd.overlay.wireguard_packets import (
    COOKIE,
    COOKIE_BYTES,
    DATA,
    INITIATION,
    INITIATION_BYTES,
    RESPONSE,
    RESPONSE_BYTES,
    mac1_key,
)

DIFFERENT: Final = 1024  # of a kind: the ports of WireGuard and of relays remember no packets
SIDE_BY_SIDE: Final = 50  # of one size
_RANDOM_SIZES: Final = (16, 48, 92, 148, 500, 1200)
_DATA_BYTES: Final = (32, 96, 1232)
_MACS_BYTES, _MAC_BYTES = 32, 16


def tunnel_kinds(public_key: bytes, dice: Random) -> dict[str, list[bytes]]:
    """For WireGuard's port, and for a relay's: of no shape, of each message's, and handshakes that fit a key."""
    shaped = [(INITIATION, INITIATION_BYTES), (RESPONSE, RESPONSE_BYTES), (COOKIE, COOKIE_BYTES)]
    shaped += [(DATA, size) for size in _DATA_BYTES]
    return {
        "random bytes": _turns([(b"", size) for size in _RANDOM_SIZES], dice),
        "of WireGuard's shapes": _turns(shaped, dice),
        "data alone": _turns([(DATA, size) for size in _DATA_BYTES], dice),
        "handshakes with no key": _turns([(INITIATION, INITIATION_BYTES)], dice),
        "handshakes with the key": [_fitting(public_key, dice) for _ in range(DIFFERENT)],
    }


def probe_kinds(target: NodeId, members: Sequence[NodeId], dice: Random) -> dict[str, list[bytes]]:
    """For the socket that probes arrive at: for another device, by nobody, and in the names of members."""
    strangers = [dice.randbytes(ID_BYTES) for _ in range(DIFFERENT)]
    receiver = target[:ID_BYTES]
    return {
        "for others": [_probe(Kind.PROBE, members[0][:ID_BYTES], each, dice) for each in strangers],
        "by nobody": [_probe(Kind.PROBE, each, receiver, dice) for each in strangers],
        "in a member's name": [_of_member(Kind.PROBE, members, receiver, dice) for _ in range(DIFFERENT)],
        "answers in a member's name": [_of_member(Kind.PONG, members, receiver, dice) for _ in range(DIFFERENT)],
    }


def _turns(shapes: Sequence[tuple[bytes, int]], dice: Random) -> list[bytes]:
    made: list[bytes] = []
    while len(made) < DIFFERENT:
        for lead, size in shapes:
            made += [lead + dice.randbytes(size - len(lead)) for _ in range(SIDE_BY_SIDE)]
    return made


def _fitting(public_key: bytes, dice: Random) -> bytes:
    """An initiation of which all that can be told without a private key is right."""
    body = INITIATION + dice.randbytes(INITIATION_BYTES - len(INITIATION) - _MACS_BYTES)
    mac1 = blake2s(body, digest_size=_MAC_BYTES, key=mac1_key(public_key)).digest()
    return body + mac1 + bytes(_MAC_BYTES)


def _of_member(kind: Kind, members: Sequence[NodeId], receiver: bytes, dice: Random) -> bytes:
    return _probe(kind, dice.choice(members)[:ID_BYTES], receiver, dice)


def _probe(kind: Kind, sender: bytes, receiver: bytes, dice: Random) -> bytes:
    packet = Packet(kind, sender, receiver, dice.randbytes(NONCE_BYTES), endpoint("192.0.2.1", 51_872))
    return packet.encode() + dice.randbytes(MAC_BYTES)
