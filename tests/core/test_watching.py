"""Who watches whom."""

from collections import Counter
from itertools import pairwise
from random import Random

import pytest

from clanmesh_protocol.keys import NodeId
from clanmeshd.core.limits import WATCHED, WATCHED_ALL_MAX
from clanmeshd.core.watching import watched_by


def members(count: int) -> list[NodeId]:
    return [NodeId(Random(number).randbytes(32)) for number in range(count)]


@pytest.mark.parametrize("count", [WATCHED_ALL_MAX + 2, 20, 301])
def test_each_watches_as_many_as_watch_it(count: int) -> None:
    nodes = members(count)
    watched = {node: watched_by(node, [other for other in nodes if other != node]) for node in nodes}
    assert all(len(those) == WATCHED and node not in those for node, those in watched.items())
    assert set(Counter(each for those in watched.values() for each in those).values()) == {WATCHED}


def test_in_a_small_clan_everybody_watches_everybody() -> None:
    nodes = members(WATCHED_ALL_MAX + 1)
    assert watched_by(nodes[0], nodes[1:]) == frozenset(nodes[1:])
    assert watched_by(nodes[0], []) == frozenset()


def test_a_new_member_changes_little() -> None:
    nodes = members(200)
    before = [watched_by(nodes[0], nodes[1:count]) for count in range(100, 200)]
    changed = sum(one != other for one, other in pairwise(before))
    assert changed < 20
