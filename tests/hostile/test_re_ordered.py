"""The same words in another order come to the same, and words before their time wait or lapse."""

from itertools import permutations

import pytest

from clanmesh_protocol.keys import fingerprint_slot
from clanmesh_protocol.records import AdminAdd, Revocation, Setting, SignerAdd
from tests.core.worlds import status
from tests.hostile.rules import hostile
from tests.hostile.stage import SIGNER, Stage


def story(stage: Stage) -> list[bytes]:
    """A proposal, a name under it, one that follows it, and what rests on it."""
    added = stage.operation(1, SignerAdd(SIGNER), stage.genesis)
    named = [stage.approval(2, added), stage.acknowledgement(2, added)]
    return [added, *named, stage.operation(1, Setting("a", "b"), stage.read(added))]


@hostile("Who may say what", "authority/settled")
@pytest.mark.parametrize("order", list(permutations(range(4))), ids=lambda order: "".join(map(str, order)))
def test_each_order_comes_to_the_same(order: tuple[int, ...]) -> None:
    stage, straight = Stage(4, admins=3), Stage(4, admins=3)
    said = story(stage)
    stage.hears(*[said[place] for place in order])
    straight.hears(*said)
    assert stage.authority.head == straight.authority.head == stage.read(said[-1]).id
    assert stage.authority.chain == straight.authority.chain
    foreign = [{r.id for r in s.mesh.ledger.records() if r.author != s.node(0)} for s in (stage, straight)]
    assert foreign[0] == foreign[1]


@hostile("Who may say what", "authority/chain-parent-unknown")
def test_an_operation_without_its_parent_waits() -> None:
    stage = Stage(4, admins=2)
    parent = stage.operation(1, Setting("a", "1"))
    child = stage.operation(1, Setting("a", "2"), stage.read(parent))
    stage.keeps_head(child)
    stage.takes(parent)
    assert stage.authority.head == stage.read(child).id


@hostile("Who may say what", "authority/approval-two-wait")
def test_a_name_under_what_nobody_has_seen_waits() -> None:
    stage = Stage(4, admins=3)
    proposed = stage.operation(1, AdminAdd(stage.node(3), 1))
    stage.keeps_head(stage.approval(2, proposed))
    stage.takes(proposed)
    assert stage.authority.is_admin(stage.node(3))


@hostile("Who may say what", "authority/approval-by-the-one-added")
def test_who_is_not_an_admin_yet_has_no_say_in_it() -> None:
    stage = Stage(4, admins=2)
    proposed = stage.operation(1, AdminAdd(stage.node(2), 1))
    stage.refuses(stage.approval(2, proposed), code="unauthorized")
    stage.takes(proposed)
    stage.refuses(stage.approval(2, proposed), code="unauthorized")
    assert not stage.authority.is_admin(stage.node(2))


@hostile("Who may say what", "authority/chain-behind-a-proposal")
def test_nothing_rests_on_a_proposal() -> None:
    stage = Stage(4, admins=2)
    proposed = stage.operation(1, AdminAdd(stage.node(2), 1000))
    stage.keeps_head(proposed, stage.operation(1, Setting("a", "b"), stage.read(proposed)))
    assert [pending.id for pending in stage.authority.pending] == [stage.read(proposed).id]


@hostile("Who may say what", "ledger/removed")
def test_a_revocation_before_what_its_subject_said() -> None:
    stage = Stage()
    said = stage.says(2, status(1))
    slot = fingerprint_slot(stage.node(2))
    stage.takes(stage.says(0, Revocation(stage.node(2), "lost"), slot=slot))
    stage.refuses(said, code="unauthorized")


@hostile("Records", "ledger/no-genesis")
def test_words_of_one_who_is_no_member_yet_are_kept_aside_and_few() -> None:
    stage = Stage(credentialed=3)
    for number in range(300):
        stage.hears(stage.says(3, status(number)))
    assert stage.mesh.counters["unauthorized"] == 300
    before = stage.mesh.counters["unauthorized"]
    stage.takes(stage.credential(0, 3, "late"))
    assert stage.node(3) in stage.authority.members
    assert stage.mesh.counters["unauthorized"] == before
