"""Kinds of useless datagrams, for `bench.garbage`: random ones, forged ones, and copies of real ones.

Each kind is a list to be sent in turn. What is random in them comes from the dice that the caller throws.
"""

import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from random import Random
from typing import Final

from clanctl.demo.lab import Lab, Node
from clanctl.demo.network import network_words
from clanmesh_protocol.keys import ClanId, NodeId, make_device_keys, node_from_text_untrusted
from clanmesh_protocol.limits import (
    DATAGRAM_BYTES_MAX,
    DATAGRAM_HEADER_BYTES,
    DATAGRAM_TAG_BYTES,
    DATAGRAM_VERSION,
    PORT_DEFAULT,
)
from clanmesh_protocol.messages import MAGIC, NONCE_BYTES, SENDER_BYTES, RecordFrame, Seal
from clanmeshd.core.sessions import Sessions

DIFFERENT: Final = 8192  # datagrams of a kind: four times what a port remembers of a flood
COPIES_MAX: Final = 200  # of recorded datagrams

_ABSENT_S: Final = 9.0  # of a daemon that is killed: pings to it fail, and hellos go with every fourth
_READ_BYTES: Final = 4096
_IPV4, _IPV6, _UDP = 0x0800, 0x86DD, 17
_PACKET_HOST: Final = 0  # a packet for this machine, and not one that it sends
_IPV6_HEADER_BYTES, _UDP_HEADER_BYTES = 40, 8

# A packet socket sees the network that it was made in; so one is made there and handed over.
_MAKE_SOCKET: Final = (
    "import socket\n"
    "made = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.ntohs(3))\n"
    "socket.send_fds(socket.socket(fileno=0), [b'.'], [made.fileno()])\n"
)


def forged(target: NodeId, members: Sequence[NodeId], dice: Random) -> dict[str, list[bytes]]:
    """Junk by a stranger who knows the ids of members. The ciphertexts are random, or of another clan."""
    senders = [node[:SENDER_BYTES] for node in members]
    strangers = [dice.randbytes(SENDER_BYTES) for _ in range(DIFFERENT)]
    return {
        "random bytes": [dice.randbytes(_size(dice, 0)) for _ in range(DIFFERENT)],
        "unknown senders": [_lead(Seal.SESSION, sender, dice) + _sealed(dice) for sender in strangers],
        "sessions of nobody": [_of_member(Seal.SESSION, senders, dice) + _sealed(dice) for _ in range(DIFFERENT)],
        "hellos cut short": [_cut(hello, dice) for hello in _hellos(target, senders, dice)],
        "hellos of another clan": _hellos(target, senders, dice),
    }


def _size(dice: Random, least: int) -> int:
    return dice.randint(least, DATAGRAM_BYTES_MAX - DATAGRAM_HEADER_BYTES)


def _sealed(dice: Random) -> bytes:
    return dice.randbytes(_size(dice, DATAGRAM_TAG_BYTES))


def _lead(seal: Seal, sender: bytes, dice: Random) -> bytes:
    prekeys = bytes([dice.randrange(4), dice.randrange(4)])
    return bytes([MAGIC, DATAGRAM_VERSION, seal]) + prekeys + sender + dice.randbytes(NONCE_BYTES)


def _of_member(seal: Seal, senders: Sequence[bytes], dice: Random) -> bytes:
    return _lead(seal, dice.choice(senders), dice)


def _hellos(target: NodeId, senders: Sequence[bytes], dice: Random) -> list[bytes]:
    """Whole hellos that somebody made for the target in a clan of its own, under the name of a member."""
    keys, clan = make_device_keys(dice.randbytes, 0), ClanId(dice.randbytes(16))
    sessions = Sessions(keys, clan, dice.randbytes)
    sessions.set_members([target])
    hellos = [sessions.seal_hello(target, RecordFrame(dice.randbytes(500))) for _ in range(DIFFERENT)]
    at = DATAGRAM_HEADER_BYTES - NONCE_BYTES - SENDER_BYTES
    return [
        hello[:at] + dice.choice(senders) + hello[at + SENDER_BYTES :] for hello in hellos if hello is not None
    ]


def _cut(data: bytes, dice: Random) -> bytes:
    return data[: dice.randrange(1, len(data))]


# --- copies of real ones -----------------------------------------------------------------------------------


def recorded(lab: Lab, target: Node, seconds: float) -> dict[str, list[bytes]]:
    """What others sent to a machine: before it was started anew, as it was away, and in its present run.

    Leaves it running. Raises LabError.
    """
    with _packets_of(target) as packets:
        former = _listen(packets, seconds)
        lab.kill(target)
        absent = _listen(packets, _ABSENT_S)
        lab.start_daemon(target)
        present = _listen(packets, seconds)
    hellos = [data for data in absent if data[2] == Seal.HELLO]
    sessions = [data for data in (*former, *absent) if data[2] == Seal.SESSION]
    copies = {"copies of today": present, "copies of before": sessions, "copies of hellos": hellos}
    return {name: found[-COPIES_MAX:] for name, found in copies.items()}


def _packets_of(node: Node) -> socket.socket:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        words = [*network_words(node.pid), sys.executable, "-S", "-c", _MAKE_SOCKET]
        subprocess.run(words, stdin=theirs.fileno(), check=True)
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    return socket.socket(fileno=descriptors[0])


def _listen(packets: socket.socket, seconds: float) -> list[bytes]:
    found: list[bytes] = []
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        packets.settimeout(left)
        try:
            data, source = packets.recvfrom(_READ_BYTES)
        except TimeoutError:
            break
        datagram = _datagram(data, source[1]) if source[2] == _PACKET_HOST else None
        if datagram is not None and len(datagram) > DATAGRAM_HEADER_BYTES and datagram[0] == MAGIC:
            found.append(datagram)
    return found


def _datagram(packet: bytes, protocol: int) -> bytes | None:
    """The payload of a UDP packet to the port of the gossip."""
    if protocol == _IPV4 and packet[9] == _UDP:
        segment = packet[4 * (packet[0] & 15) :]
    elif protocol == _IPV6 and packet[6] == _UDP:
        segment = packet[_IPV6_HEADER_BYTES:]
    else:
        return None
    return segment[_UDP_HEADER_BYTES:] if int.from_bytes(segment[2:4], "big") == PORT_DEFAULT else None


def ids(lab: Lab, nodes: Sequence[Node]) -> Mapping[str, NodeId]:
    """The identities of machines, by name."""
    return {node.name: node_from_text_untrusted(lab.call(node, "status")["id"]) for node in nodes}
