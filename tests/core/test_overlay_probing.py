"""Probing, on a port that only remembers: answers by itself, tells what it learnt, has openers go far enough."""

from random import Random

from clanmesh_protocol.endpoints import Endpoint, endpoint
from clanmesh_protocol.keys import ClanId, NodeId, exchange_public
from clanmeshd.overlay.openers import TTL_MIN
from clanmeshd.overlay.probes import Heard, Probes, Proven
from clanmeshd.overlay.probing import Learnt, Probing
from clanmeshd.overlay.rawpackets import Arrival
from clanmeshd.overlay.rawport import RawPort
from tests.core.test_overlay_openers import CARRIER, PORT, ipv4

CLAN = ClanId(bytes(16))
NODES = tuple(NodeId(bytes([number]) * 32) for number in (1, 2))
STATIC = {node: bytes([node[0] + 7]) * 32 for node in NODES}
AT = {NODES[0]: endpoint("203.0.113.1", PORT), NODES[1]: endpoint("198.51.100.1", PORT)}
LOCAL = bytes([10, 0, 0, 2])


class Port(RawPort):
    """What would have left, with its TTL and the address that it was to leave from."""

    def __init__(self, node: NodeId) -> None:
        super().__init__(PORT, node, {})
        self.sent: list[tuple[bytes, Endpoint, int | None, bytes | None]] = []

    def send(
        self, data: bytes, destination: Endpoint, *, ttl: int | None = None, local: bytes | None = None
    ) -> None:
        self.sent.append((data, destination, ttl, local))


class Device:
    """One of two members."""

    def __init__(self, node: NodeId) -> None:
        self.port = Port(node)
        self.learnt: list[Learnt] = []
        probes = Probes(node, STATIC[node], CLAN, Random(node[0]).randbytes)
        self.probing = Probing(probes, self.port, self.learnt.append)
        self.probing.set_members({each: exchange_public(STATIC[each]) for each in NODES})

    def hear(self, data: bytes, source: Endpoint) -> None:
        """A packet comes."""
        self.probing._take(Arrival(data, source, LOCAL))


def pair() -> tuple[Device, Device]:
    return Device(NODES[0]), Device(NODES[1])


async def test_a_probe_is_answered_from_where_it_came_to_and_both_learn() -> None:
    one, other = pair()
    assert one.probing.probe(NODES[1], AT[NODES[1]])
    [(question, target, ttl, local)] = one.port.sent
    assert (target, ttl, local) == (AT[NODES[1]], None, None)
    other.hear(question, AT[NODES[0]])
    [(answer, back, ttl, local)] = other.port.sent
    assert (back, ttl, local) == (AT[NODES[0]], None, LOCAL)
    one.hear(answer, target)
    assert [type(each) for each in (*one.learnt, *other.learnt)] == [Proven, Heard]


async def test_before_wireguard_has_a_member_its_probe_is_heard_and_not_answered() -> None:
    """An answer would have it begin a handshake that nobody takes, and wait five seconds for the next."""
    one, other = pair()
    held: set[NodeId] = set()
    other.probing.awaits = held.__contains__
    one.probing.probe(NODES[1], AT[NODES[1]])
    other.hear(one.port.sent[0][0], AT[NODES[0]])
    assert [type(each) for each in other.learnt] == [Heard]
    assert other.port.sent == []
    held.add(NODES[0])
    one.probing.probe(NODES[1], AT[NODES[1]])
    other.hear(one.port.sent[1][0], AT[NODES[0]])
    assert len(other.port.sent) == 1


async def test_what_is_refused_is_counted_and_nothing_is_said() -> None:
    one, other = pair()
    one.probing.probe(NODES[1], AT[NODES[1]])
    question = one.port.sent[0][0]
    for data in (b"", question[:-1] + b"!", question, question):
        other.hear(data, AT[NODES[0]])
    assert dict(other.probing.counters) == {"malformed": 1, "signature": 1, "replayed": 1}
    assert len(other.port.sent) == len(other.learnt) == 1


async def test_an_opener_that_dies_inside_goes_out_again_and_the_next_ones_further() -> None:
    one, _ = pair()
    assert one.probing.open(NODES[1], AT[NODES[1]])
    quoted = ipv4(17, LOCAL, AT[NODES[1]].ip, PORT.to_bytes(2, "big") * 2 + bytes(4))
    one.probing._take_died(ipv4(1, CARRIER, LOCAL, bytes([11]) + bytes(7) + quoted))
    one.probing.open(NODES[1], AT[NODES[1]])
    assert [ttl for _, _, ttl, _ in one.port.sent] == [TTL_MIN, TTL_MIN + 1, TTL_MIN + 1]
    assert {target for _, target, _, _ in one.port.sent} == {AT[NODES[1]]}
    one.probing.moved()
    one.probing.open(NODES[1], AT[NODES[1]])
    assert one.port.sent[-1][2] == TTL_MIN


async def test_nothing_leaves_for_a_stranger() -> None:
    one, _ = pair()
    stranger = NodeId(bytes([9]) * 32)
    assert not one.probing.probe(stranger, AT[NODES[1]])
    assert not one.probing.open(stranger, AT[NODES[1]])
    assert one.port.sent == []
