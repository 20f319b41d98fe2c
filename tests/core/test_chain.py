"""What each operation does to the state of the authority, and how much weight it needs. A table."""

import pytest

from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.limits import ADMINS_MAX, SETTINGS_MAX
from clanmesh_protocol.records import (
    Admin,
    AdminAdd,
    AdminRemove,
    AdminReplace,
    AuthorityOp,
    Checkpoint,
    RecoveryReplace,
    Setting,
    SignerAdd,
    Thresholds,
    Unknown,
)
from clanmeshd.core.chain import Chain, after, operation_number


def key(number: int) -> NodeId:
    return NodeId(bytes([number]) * 32)


DESK, ATTIC, NAS, PHONE = (key(number) for number in range(1, 5))
RECOVERY, OTHER = bytes([9]) * 32, bytes([8]) * 32
TWO = Chain(name="family", admins=(Admin(DESK, 2), Admin(ATTIC, 1)), recovery=RECOVERY)


def admins(chain: Chain) -> list[tuple[NodeId, int]]:
    return [(admin.node, admin.weight) for admin in chain.admins]


def test_a_new_admin_is_the_least_senior_and_one_that_is_there_keeps_its_place() -> None:
    assert admins(after(TWO, AdminAdd(NAS, 5))) == [(DESK, 2), (ATTIC, 1), (NAS, 5)]
    assert admins(after(TWO, AdminAdd(DESK, 7))) == [(DESK, 7), (ATTIC, 1)]


def test_a_removed_admin_is_pinned_and_never_comes_back() -> None:
    removed = after(TWO, AdminRemove(DESK))
    assert admins(removed) == [(ATTIC, 1)]
    assert removed.pinned == {DESK}
    assert after(removed, AdminAdd(DESK, 9)) == removed
    assert after(after(removed, AdminAdd(NAS, 1)), AdminReplace(NAS, DESK)) == after(removed, AdminAdd(NAS, 1))


@pytest.mark.parametrize("operation", [AdminRemove(NAS), AdminReplace(NAS, PHONE), AdminReplace(DESK, ATTIC)])
def test_who_is_no_admin_cannot_be_removed_and_an_admin_is_no_successor(operation: AuthorityOp) -> None:
    assert after(TWO, operation) == TWO


def test_the_last_admin_stays() -> None:
    alone = Chain(admins=(Admin(DESK, 1),))
    assert after(alone, AdminRemove(DESK)) == alone
    assert admins(after(alone, AdminReplace(DESK, NAS))) == [(NAS, 1)]


def test_a_successor_takes_place_and_weight() -> None:
    replaced = after(TWO, AdminReplace(DESK, NAS))
    assert admins(replaced) == [(NAS, 2), (ATTIC, 1)]
    assert replaced.pinned == {DESK}


def test_admins_are_bounded() -> None:
    full = Chain(admins=tuple(Admin(key(number), 1) for number in range(1, ADMINS_MAX + 1)))
    assert after(full, AdminAdd(key(200), 1)) == full
    assert after(full, AdminAdd(key(1), 2)) != full


def test_replacing_the_recovery_key_pins_the_old_one() -> None:
    replaced = after(TWO, RecoveryReplace(OTHER))
    assert (replaced.recovery, replaced.pinned) == (OTHER, {RECOVERY})
    assert after(replaced, RecoveryReplace(RECOVERY)) == replaced
    assert after(TWO, RecoveryReplace(RECOVERY)) == TWO
    none = after(TWO, RecoveryReplace(None))
    assert (none.recovery, none.pinned) == (None, {RECOVERY})


def test_settings_are_set_taken_back_and_bounded() -> None:
    chain = TWO
    for number in range(SETTINGS_MAX + 1):
        chain = after(chain, Setting(f"s{number}", "1"))
    assert len(chain.settings) == SETTINGS_MAX
    assert after(chain, Setting("s0", "2")).settings["s0"] == "2"
    assert "s0" not in after(chain, Setting("s0", "")).settings


@pytest.mark.parametrize(
    ("weights", "govern", "need"),
    [
        ((1,), 0, 1),
        ((1, 1), 0, 2),
        ((1, 1, 1), 0, 2),
        ((1, 1, 1, 1), 0, 3),
        ((5, 1, 1), 0, 4),
        ((1, 1, 1), 3, 3),
        ((1, 1, 1), 1, 2),
        ((1, 1, 1), 99, 3),
    ],
)
def test_governing_needs_over_half_of_the_weight_or_more(weights: tuple[int, ...], govern: int, need: int) -> None:
    listed = tuple(Admin(key(number + 1), weight) for number, weight in enumerate(weights))
    assert Chain(admins=listed, govern=govern).need(AdminRemove.OP) == need


@pytest.mark.parametrize(
    ("routine", "operation", "need"),
    [
        (1, Checkpoint.OP, 1),
        (2, Setting.OP, 2),
        (0, Setting.OP, 1),
        (99, 200, 3),
        (1, 100, 2),
        (1, SignerAdd.OP, 2),
    ],
)
def test_routine_operations_need_the_routine_threshold_known_or_not(
    routine: int, operation: int, need: int
) -> None:
    chain = after(TWO, Thresholds(0, routine))
    assert chain.need(operation) == need


def test_an_operation_of_a_later_version_changes_nothing_but_has_its_number() -> None:
    later = Unknown(bytes.fromhex("92cc9601"))
    assert operation_number(later) == 150
    assert after(TWO, later) == TWO
