"""A stranger floods a real daemon: it goes on as if nothing were, and its neighbours notice nothing."""

import os
from collections.abc import Iterator
from random import Random

import pytest

from bench.flood import Flood, Flooded
from bench.garbage import Exchange, Watched
from bench.junk import forged, ids
from bench.world import all_up
from clanctl.demo.lab import Lab
from clanmesh_protocol.limits import PORT_DEFAULT
from tests.clock import Stopwatch, wait_until
from tests.net.clan_of_daemons import PATIENCE_S, Clan

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root: run `sudo make test`")

RATE_PER_S = 10_000.0
SECONDS = 2.0
CPU_PERCENT_MAX = 40.0  # on whatever else the machine does; without pauses it is over 60
TRIES = 3  # of a flood in which the machine does not stand still
KINDS = ("random bytes", "hellos of another clan")


@pytest.fixture(scope="module")
def clan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clan]:
    with Lab(tmp_path_factory.mktemp("garbage")) as lab:
        yield Clan(lab, 'overlay = "none"\n', "alpha", "beta", "gamma")


def flooded_by(clan: Clan, kind: str) -> tuple[Watched, Flooded]:
    """What was seen of a flood, and of who sent it."""
    lab, [*others, target] = clan.lab, clan.nodes
    stranger = lab.nodes.get("stranger") or lab.add_node("stranger")
    known, exchange = ids(lab, clan.nodes), Exchange(lab, clan.nodes)
    junk = forged(known[target.name], [known[node.name] for node in others], Random(1))[kind]
    where = target.place.ipv4.partition("/")[0], PORT_DEFAULT
    flood = Flood.begin(lab, stranger, where, junk, RATE_PER_S, SECONDS + 1.0)
    return exchange.watch(SECONDS), flood.finish()


@pytest.mark.parametrize("kind", KINDS)
def test_a_flood_is_cheap_silent_and_disturbs_nobody(clan: Clan, kind: str) -> None:
    lab, target = clan.lab, clan.nodes[-1]
    for _ in range(TRIES):
        assert wait_until(lambda: all_up(lab, clan.nodes), PATIENCE_S)
        before = lab.call(target, "status")["counters"]
        with Stopwatch() as watch:
            seen, flooded = flooded_by(clan, kind)
        after = lab.call(target, "status")["counters"]
        if not watch.paused_s:
            break  # while the machine stands still there is no flood, and whoever wakes up first doubts the rest
    assert flooded.sent >= RATE_PER_S * SECONDS / 2, "the flooder got nothing done"
    assert (flooded.heard, flooded.heard_bytes) == (0, 0), "nothing is answered"
    taken, muted = (after[name] - before[name] for name in ("datagrams-received", "muted"))
    assert taken + muted >= RATE_PER_S * SECONDS / 2
    assert seen.cpu_percent <= CPU_PERCENT_MAX
    assert (seen.lost, seen.doubts) == (0, 0), "every update came, and nobody was doubted"
    assert len(seen.crossings_s) >= 4
    assert wait_until(lambda: all_up(lab, clan.nodes), PATIENCE_S)
