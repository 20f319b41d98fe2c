"""mDNS for real: processes in network namespaces that the test wires together, and the pure parts beside it."""

import hashlib
import hmac
from itertools import pairwise

import pytest

from clanmesh_protocol.endpoints import Endpoint, endpoint
from clanmeshd.net.discovery import (
    ENDPOINTS_PER_TAG_MAX,
    HEARD_MAX,
    REPEAT_FIRST_S,
    REPEAT_S_MAX,
    Sighting,
    Sightings,
    make_tag,
    nonce_of_tag_untrusted,
)
from tests.net.mdns_machines import (
    FOUND_WITHIN_S,
    OTHER_SECRET,
    PORT,
    SECRET,
    STOPPED_WITHIN_S,
    machines,
    name,
    neighbours,
    wire,
)

SEARCH_S = 5.0  # of a joiner: longer than a machine stands still

# --- tags and memory, without a network ----------------------------------------------------------------


def test_a_tag_is_nonce_and_truncated_hmac() -> None:
    nonce = bytes(range(8))
    expected = nonce + hmac.new(SECRET, nonce, hashlib.blake2b).digest()[:16]
    assert make_tag(SECRET, nonce) == expected.hex()
    assert nonce_of_tag_untrusted(SECRET, expected.hex().encode()) == nonce


@pytest.mark.parametrize(
    "tag",
    [
        None,
        b"",
        make_tag(OTHER_SECRET, bytes(8)).encode(),
        make_tag(SECRET, bytes(8)).encode()[:-2],
        make_tag(SECRET, bytes(8)).encode() + b"00",
        b"zz" * 24,
        b"\xff" * 48,
        b"00" * 24,
        (b"01" + make_tag(SECRET, bytes(8)).encode()[2:]),
    ],
)
def test_every_other_tag_is_nobodys(tag: bytes | None) -> None:
    assert nonce_of_tag_untrusted(SECRET, tag) is None


def _sighting(nonce: int, *hosts: str, name: str = "a") -> Sighting:
    return Sighting(name, nonce.to_bytes(8, "big"), tuple(endpoint(host, PORT) for host in hosts))


def test_an_endpoint_is_suggested_once_and_then_ever_more_rarely() -> None:
    sightings = Sightings()
    assert sightings.next_at_s == float("inf")
    here = endpoint("192.0.2.1", PORT)
    assert sightings.note(_sighting(1, "192.0.2.1"), 100.0) == [here]
    assert sightings.note(_sighting(1, "192.0.2.1"), 100.5) == []
    moments = []
    for _ in range(8):
        now = sightings.next_at_s
        assert sightings.due(now - 0.001) == []
        assert sightings.due(now) == [here]
        moments.append(now)
    pauses = [later - earlier for earlier, later in pairwise(moments)]
    assert moments[0] == 100.0 + REPEAT_FIRST_S
    assert pauses == sorted(pauses)
    assert pauses[-1] == REPEAT_S_MAX


def test_who_says_goodbye_is_no_longer_suggested() -> None:
    sightings = Sightings()
    sightings.note(_sighting(1, "192.0.2.1", name="a"), 0.0)
    sightings.note(_sighting(2, "192.0.2.2", name="b"), 0.0)
    assert sightings.note(Sighting("a", None, ()), 1.0) == []
    assert sightings.due(1000.0) == [endpoint("192.0.2.2", PORT)]


def test_a_copied_tag_leads_to_few_places() -> None:
    """An attacker who repeats somebody's tag cannot make us send to the whole world."""
    sightings = Sightings()
    suggested: list[Endpoint] = []
    for number in range(100):
        suggested += sightings.note(_sighting(1, f"192.0.2.{number}", name=f"service-{number}"), 0.0)
    assert len(suggested) == ENDPOINTS_PER_TAG_MAX
    assert len(sightings.due(1000.0)) == ENDPOINTS_PER_TAG_MAX


def test_places_where_no_peer_can_be_are_not_suggested() -> None:
    hosts = ("127.0.0.1", "::1", "169.254.1.1", "fe80::1", "224.0.0.251", "ff02::fb", "0.0.0.0", "255.255.255.255")
    assert Sightings().note(_sighting(1, *hosts), 0.0) == []
    assert Sightings().note(Sighting("a", bytes(8), (Endpoint(bytes([192, 0, 2, 1]), 0),)), 0.0) == []


def test_the_memory_is_bounded_and_forgets_the_most_silent() -> None:
    sightings = Sightings()
    for number in range(2 * HEARD_MAX):
        sightings.note(_sighting(number, "192.0.2.1", name=str(number)), 0.0)
        sightings.note(_sighting(0, "192.0.2.2", name="0"), 0.0)
    assert len(sightings.due(1000.0)) == HEARD_MAX + 1  # the first one has two endpoints, and was heard all along


# --- real machines -------------------------------------------------------------------------------------


def test_two_machines_find_each_other_and_stop_at_once() -> None:
    with neighbours() as (one, other):
        name(one, "2001:db8::1/64")
        one.run()
        other.run()
        one.until("suggest", f"192.0.2.2:{PORT}")
        other.until("suggest", f"192.0.2.1:{PORT}")
        taken_s = []
        for machine in (one, other):
            machine("stop")
            left = machine.until("ended")
            taken_s.append(left["ended"])
            assert left["threads"] == []
            assert left["descriptors"] <= 3  # the pipes and wakeups of trio's own idle workers
        assert min(taken_s) < STOPPED_WITHIN_S, taken_s  # in the other one the machine may have paused
        assert f"[2001:db8::1]:{PORT}" in [line.get("suggest") for line in other.lines]
        assert f"192.0.2.1:{PORT}" not in [line.get("suggest") for line in one.lines]  # never itself


def test_another_clan_on_the_same_lan_stays_unknown() -> None:
    with neighbours() as (one, other):
        one.run()
        other.run(OTHER_SECRET)
        assert other.hears_nothing("suggest", for_s=2.0)
        other("secret", secret=SECRET.hex())  # it rotates, and nothing else happens
        other.until("suggest", f"192.0.2.1:{PORT}")
        one.until("suggest", f"192.0.2.2:{PORT}")


def test_one_that_was_away_when_the_secret_changed_is_heard_and_hears_nothing_new() -> None:
    with neighbours() as (member, away):
        member.run(OTHER_SECRET, b"older" * 3 + b"!", SECRET)
        away.run(SECRET)
        member.until("suggest", f"192.0.2.2:{PORT}")
        assert away.hears_nothing("suggest", for_s=1.0)


def test_a_joiner_finds_members_and_announces_nothing() -> None:
    with neighbours() as (member, joiner):
        member.run()
        joiner("find", secret=SECRET.hex(), timeout_s=SEARCH_S)
        joiner.until("found", f"192.0.2.1:{PORT}")
        joiner.until("found", None, within_s=SEARCH_S + FOUND_WITHIN_S)
        assert [line for line in member.lines if "suggest" in line] == []
        assert member.hears_nothing("suggest", for_s=0.2)


def test_without_a_network_it_says_why_and_works_once_there_is_one() -> None:
    with machines(2) as (one, other):
        one.run()
        assert "no network that can multicast" in one.until("report")["report"]
        one("find", secret=SECRET.hex(), timeout_s=1.0)
        one.until("found", None)
        wire(one, other)
        name(one, "192.0.2.1/24")
        name(other, "192.0.2.2/24")
        other.run()
        one.until("report", None)
        other.until("suggest", f"192.0.2.1:{PORT}")
        one.ip("link", "delete", "lan")
        assert "no network that can multicast" in one.until("report")["report"]
        one("stop")
        assert one.until("ended")["threads"] == []


def test_a_new_address_is_announced_under_a_new_tag() -> None:
    with neighbours() as (one, other):
        one.run()
        other.run()
        other.until("suggest", f"192.0.2.1:{PORT}")
        one.ip("address", "flush", "dev", "lan")
        name(one, "192.0.2.77/24")
        other.until("suggest", f"192.0.2.77:{PORT}")
        one.until("suggest", f"192.0.2.2:{PORT}")


def test_a_stop_in_the_middle_of_a_start_leaves_nothing() -> None:
    with machines(1) as (one,):
        one.ip("link", "add", "lan", "type", "veth", "peer", "name", "far")
        one.ip("link", "set", "far", "up")
        one.ip("link", "set", "lan", "up")
        name(one, "192.0.2.1/24")
        one.run()
        one("stop")
        left = one.until("ended")
        assert left["threads"] == []
        assert left["descriptors"] <= 3


GARBAGE = """
import os, random, socket, struct
dice = random.Random(7)
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
out.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
out.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
out.bind(("192.0.2.9", 5353))
out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("192.0.2.9"))
kind = b"\\x09_clanmesh\\x04_udp\\x05local\\x00"
def record(name, number, data):
    return name + struct.pack("!HHIH", number, 0x8001, 120, len(data)) + data
def send(*records):
    head = struct.pack("!HHHHHH", 0, 0x8400, 0, len(records), 0, 0)
    out.sendto(head + b"".join(records), ("224.0.0.251", 5353))
for number in range(300):
    out.sendto(dice.randbytes(dice.randrange(600)), ("224.0.0.251", 5353))
    label = dice.randbytes(dice.choice([1, 8, 63]))
    own = bytes([len(label)]) + label + kind
    tag = b"t=" + dice.choice([b"", b"00" * 24, dice.randbytes(48), b"\\xff" * 48])
    text = bytes([len(tag)]) + tag
    place = struct.pack("!HHH", 0, 0, dice.randrange(65536)) + own
    send(record(kind, 12, own))
    send(record(kind, 12, own), record(own, 33, place), record(own, 16, text), record(own, 1, os.urandom(4)))
    send(record(kind, 12, own[: dice.randrange(len(own))]), record(own, 16, dice.randbytes(9)))
"""


def test_nonsense_on_the_lan_changes_nothing() -> None:
    """Random datagrams, odd names, cut records and wrong tags: no suggestion, and still able to find a member."""
    with machines(2) as (one, other):
        wire(one, other)
        name(one, "192.0.2.1/24")
        name(other, "192.0.2.9/24")
        one.run()
        other.python(GARBAGE)
        assert one.hears_nothing("suggest", for_s=1.5)  # it asks again after a second
        other.run()
        one.until("suggest", f"192.0.2.9:{PORT}")
        one("stop")
        assert one.until("ended")["threads"] == []
