"""The tree in which a new commit spreads: everybody is in it once, and nobody is asked by many."""

from collections import Counter

import pytest

from clanmesh_protocol.keys import NodeId
from clanmeshd.core.spreading import FAN_OUT, RELAYS_EACH_MAX, sources

COMMIT = bytes(range(20))


def people(count: int) -> list[NodeId]:
    return [NodeId(number.to_bytes(32, "big")) for number in range(1, count + 1)]


@pytest.mark.parametrize("size", [2, 3, 4, 5, 20, 127, 1000])
def test_each_is_asked_by_two_at_most(size: int) -> None:
    nodes = people(size)
    author = nodes[size // 2]
    asked = Counter(sources(COMMIT, author, node, nodes)[0] for node in nodes if node != author)
    assert sum(asked.values()) == size - 1
    assert max(asked.values()) <= FAN_OUT
    assert asked[author] == min(FAN_OUT, size - 1)


@pytest.mark.parametrize("size", [2, 20, 300])
def test_every_way_leads_up_to_the_author(size: int) -> None:
    """Whoever waits for one that waits for another, comes to the author in the end."""
    nodes = people(size)
    author = nodes[0]
    above = {node: sources(COMMIT, author, node, nodes)[0] for node in nodes[1:]}
    for node in nodes[1:]:
        steps, at = 0, node
        while at != author:
            at, steps = above[at], steps + 1
            assert steps <= size.bit_length()


@pytest.mark.parametrize("size", [2, 3, 20, 300])
def test_others_are_there_when_the_first_is_gone(size: int) -> None:
    nodes = people(size)
    for node in nodes[1:]:
        asked = sources(COMMIT, nodes[0], node, nodes)
        assert node not in asked
        assert len(set(asked)) == len(asked) <= RELAYS_EACH_MAX
        assert nodes[0] in asked
        assert len(asked) > 1 or size == 2


def test_who_is_in_the_middle_changes_with_the_commit() -> None:
    nodes = people(20)
    asked = Counter(
        sources(bytes([number] * 20), nodes[0], node, nodes)[0] for number in range(50) for node in nodes[1:]
    )
    assert len(asked) == 20
    assert max(asked[node] for node in nodes[1:]) < 100


def test_a_view_without_the_author_or_oneself() -> None:
    nodes = people(5)
    assert sources(COMMIT, nodes[0], nodes[1], []) == (nodes[0],)
    assert nodes[0] in sources(COMMIT, nodes[0], nodes[1], nodes[2:])
