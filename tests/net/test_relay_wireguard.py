"""Two wireguard-go that reach each other by way of a relay alone, in network namespaces."""

from collections.abc import Iterator

import pytest

from tests.net.relayed_machines import PING_S, Stage, apart, state
from tests.net.test_wireguard import pytestmark as needs_wireguard
from tests.net.wireguard_machines import PORT, eventually
from tests.net.wireguard_scenarios import ping

pytestmark = needs_wireguard

FULL_BYTES = 1420 - 48  # of the overlay's MTU, less the headers of IPv6 and ICMP
FIRST_REPLY_S = 2.0
FLOOD_PER_S, FLOOD_S = 10_000, 2.0  # half of it for the kernel to drop, half of it for us
JUNK_S = 2e-5  # of CPU for a packet that has the shape of WireGuard's, on a machine where others work


@pytest.fixture
def stage() -> Iterator[Stage]:
    with apart() as made:
        yield made


def test_full_packets_pass_and_nothing_is_answered_in_between(stage: Stage) -> None:
    relay = stage.relayed()
    before = state(relay)
    assert stage.lost(20, 0.01, FULL_BYTES) == 0
    after = state(relay)
    assert after["packets"] - before["packets"] >= 40
    assert after["dropped"] == before["dropped"]
    assert stage.one("read")[stage.other.public_key.hex()]["endpoint"] == f"{stage.middle.underlay}:51873"


def test_one_that_roams_goes_on_within_the_session(stage: Stage) -> None:
    stage.relayed()
    key = stage.one.public_key.hex()
    before = stage.other("read")[key]["handshake_unix_s"]
    stage.other.run("wg", "set", "clan0", "listen-port", str(PORT + 100))  # as a router that forgot a mapping
    eventually(lambda: ping(stage.other, stage.one), within_s=PING_S)
    eventually(lambda: ping(stage.one, stage.other), within_s=PING_S)
    assert stage.other("read")[key]["handshake_unix_s"] == before


def test_a_session_that_began_directly_goes_on_by_way_of_a_relay(stage: Stage) -> None:
    stage.direct()
    key = stage.one.public_key.hex()
    before = stage.other("read")[key]["handshake_unix_s"]
    stage.cut()
    assert stage.lost(1, 1.0) == 1
    stage.relayed()
    assert stage.first_reply_s < FIRST_REPLY_S
    assert stage.other("read")[key]["handshake_unix_s"] == before


def test_a_flood_of_junk_costs_the_pair_nothing(stage: Stage) -> None:
    relay = stage.relayed()
    before = state(relay)
    floods = stage.flood(FLOOD_PER_S, FLOOD_S)
    assert stage.lost(100, FLOOD_S / 100) <= 2  # a machine may be busy
    sent = sum(int(flood.line()) for flood in floods)
    after = state(relay)
    assert sent > FLOOD_PER_S * FLOOD_S / 2  # else it was none
    dropped = after["dropped"] - before["dropped"]
    assert 0 < dropped <= sent * 0.6, "the random half is for the kernel to drop"
    assert after["cpu_s"] - before["cpu_s"] < JUNK_S * dropped + 0.3


def test_where_no_udp_passes_a_stream_carries_it(stage: Stage) -> None:
    rules = "table ip f { chain o { type filter hook output priority 0; oifname wire meta l4proto udp drop; }; }"
    stage.one.run("nft", rules)
    relay = stage.relayed(carried=[stage.one])
    assert stage.first_reply_s < FIRST_REPLY_S
    assert stage.lost(20, 0.01, FULL_BYTES) == 0
    assert stage.one("read")[stage.other.public_key.hex()]["endpoint"].startswith("127.0.0.1:")
    assert state(relay)["pairs"] == 1


def test_a_relay_that_dies_is_told_of_at_once_by_who_is_carried(stage: Stage) -> None:
    relay = stage.relay()
    asked = stage.ask(stage.one, stage.other, carried=True)
    assert asked.line().startswith("ready")
    relay.end()
    assert asked.line().startswith("failed broken")
    again = stage.ask(stage.one, stage.other)
    assert again.line().startswith("failed broken")


def test_a_pair_ends_with_the_stream_that_wanted_it(stage: Stage) -> None:
    relay = stage.relay()
    asked = stage.ask(stage.one, stage.other, carried=True)
    assert asked.line().startswith("ready")
    assert state(relay)["pairs"] == 1
    asked.end()
    eventually(lambda: state(relay)["pairs"] == 0, within_s=5)
