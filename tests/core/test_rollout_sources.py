"""Whom a device asks for a commit: those who say they have it, those who pass it on, and its author."""

from clanmesh_protocol.keys import ClanId, NodeId
from clanmeshd.core.effects import HeadClaim, Holder, SetRollout
from clanmeshd.rollout.following import sources_of

NEW, OTHER = bytes([1] * 20), bytes([2] * 20)


def node(number: int) -> NodeId:
    return NodeId(bytes([number] * 32))


def holder(number: int, *commits: bytes) -> Holder:
    return Holder(node(number), (), frozenset(commits))


def asked(holders: list[Holder], relays: list[Holder]) -> list[int]:
    head = HeadClaim(node(9), "main", None, NEW, b"")
    wanted = SetRollout(ClanId(bytes(16)), "a", (), (), (), (head,), tuple(holders), relays=tuple(relays))
    return [each.node[0] for each in sources_of(NEW, wanted)]


def test_who_has_it_comes_before_who_will_have_it_and_the_author_last() -> None:
    holders = [holder(9, NEW), holder(3, NEW), holder(4, OTHER), holder(2, NEW)]
    assert asked(holders, [holder(5, NEW), holder(9, NEW)]) == [3, 2, 5, 9]


def test_who_stands_below_the_author_asks_it_first() -> None:
    assert asked([holder(9, NEW)], [holder(9, NEW), holder(5, NEW)]) == [9, 5]


def test_relays_of_another_commit_are_no_relays() -> None:
    assert asked([holder(9, NEW)], [holder(5, OTHER), holder(6, NEW)]) == [6, 9]
