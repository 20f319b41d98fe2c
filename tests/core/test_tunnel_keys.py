"""When a tunnel key changes, and in which steps."""

from dataclasses import replace
from random import Random

import pytest

from clanmesh_protocol.keys import DeviceKeys, NodeId, make_device_keys
from clanmeshd.core.limits import (
    PREKEY_LIFE_S,
    PREKEY_SETTLE_S,
    TUNNEL_APPLY_S_MAX,
    TUNNEL_KEY_DAYS,
    TUNNEL_LEARN_S_MAX,
    TUNNEL_SETTLE_S,
    TUNNEL_TURN_S_MAX,
)
from clanmeshd.core.prekeys import sending_prekey
from clanmeshd.core.tunnel_keys import (
    SETTING,
    Fellow,
    Rotation,
    announcing,
    begun,
    dated,
    is_due,
    life_days,
    switched,
)

DAY_S = 86_400
MADE_S = 1_790_000_000
FIRST, LAST = NodeId(bytes(32)), NodeId(b"\xff" * 32)


@pytest.fixture
def rng() -> Random:
    return Random("tunnel keys")


@pytest.fixture
def keys(rng: Random) -> DeviceKeys:
    return make_device_keys(rng.randbytes, MADE_S)


@pytest.fixture
def changing(keys: DeviceKeys, rng: Random) -> DeviceKeys:
    return begun(keys, rng.randbytes, MADE_S)


def _fellow(
    keys: DeviceKeys, node: NodeId = LAST, *, knows: bool = True, key: bytes = b"one", changing: bool = False
) -> Fellow:
    return Fellow(node, keys.prekeys[-1 if knows else 0][0], key, changing)


def _steps(
    rotation: Rotation, keys: DeviceKeys, fellows: list[Fellow], from_s: float, to_s: float
) -> float | None:
    """Step whenever it is due; when the next key is to be applied."""
    now_s = from_s
    while now_s <= to_s:
        assert not rotation.step(keys, fellows, now_s, MADE_S + now_s)
        if rotation.applying:
            return now_s
        assert rotation.next_deadline() > now_s
        now_s = rotation.next_deadline()
    return None


# --- when ---


@pytest.mark.parametrize(
    ("text", "days"),
    [("", TUNNEL_KEY_DAYS), ("7", 7), ("0", 0), ("-1", TUNNEL_KEY_DAYS), ("x", 30), ("²", 30), ("99999", 30)],
)
def test_the_clans_setting_says_how_long_a_key_lives(text: str, days: int) -> None:
    assert life_days({SETTING: text} if text else {}) == days


def test_a_key_is_changed_once_it_is_old(keys: DeviceKeys) -> None:
    assert not is_due(keys, {}, MADE_S + 26.9 * DAY_S)
    assert is_due(keys, {}, MADE_S + 30 * DAY_S)
    assert is_due(keys, {SETTING: "1"}, MADE_S + DAY_S)
    assert not is_due(keys, {SETTING: "0"}, MADE_S + 10_000 * DAY_S)


def test_nothing_is_due_while_a_change_is_under_way(changing: DeviceKeys) -> None:
    assert not is_due(changing, {}, MADE_S + 60 * DAY_S)


def test_devices_of_one_evening_do_not_change_in_one(rng: Random) -> None:
    everyone = [make_device_keys(rng.randbytes, MADE_S) for _ in range(50)]
    due = sum(is_due(keys, {}, MADE_S + 28.5 * DAY_S) for keys in everyone)
    assert 10 < due < 40


def test_a_key_without_an_age_or_of_a_wrong_clock_is_young_from_now_on(keys: DeviceKeys) -> None:
    for made in (0, MADE_S + 400 * DAY_S):
        assert dated(replace(keys, tunnel_made_unix_s=made), MADE_S).tunnel_made_unix_s == MADE_S
    early = MADE_S - PREKEY_LIFE_S / 2  # the clock was set back a little
    assert dated(keys, early) is keys


# --- keys ---


def test_a_change_brings_one_new_tunnel_key_and_one_new_prekey(keys: DeviceKeys, changing: DeviceKeys) -> None:
    assert changing.tunnel_seed == keys.tunnel_seed
    assert changing.tunnel_next is not None
    assert [number for number, _, _ in changing.prekeys] == [0, 1]
    done = switched(changing, MADE_S + 5)
    assert (done.tunnel_seed, done.tunnel_number) == (changing.tunnel_next.seed, keys.tunnel_number + 1)
    assert (done.tunnel_next, done.tunnel_made_unix_s) == (None, MADE_S + 5)
    assert done.identity_seed == keys.identity_seed


def test_no_private_key_is_ever_shown(changing: DeviceKeys) -> None:
    assert changing.tunnel_next is not None
    assert repr(changing.tunnel_next.seed)[2:10] not in repr(changing.tunnel_next) + repr(changing)


def test_only_prekeys_as_young_as_the_next_key_show_that_it_is_known(keys: DeviceKeys, rng: Random) -> None:
    changing = begun(keys, rng.randbytes, MADE_S)
    assert announcing(changing) == {1}
    older = changing
    for number in range(2, 6):
        older = replace(older, prekeys=(*older.prekeys, (number, bytes(32), MADE_S))[-4:])
    assert announcing(older) == {2, 3, 4, 5}  # the one that came with the key has made room


def test_who_is_too_young_for_a_settled_prekey_seals_with_the_oldest(keys: DeviceKeys, rng: Random) -> None:
    changing = begun(begun(keys, rng.randbytes, MADE_S + 5), rng.randbytes, MADE_S + 10)
    assert sending_prekey(changing, MADE_S + 11) == 0, "peers have read of no other"
    assert sending_prekey(changing, MADE_S + 10 + PREKEY_SETTLE_S) == 2


# --- steps ---


def test_a_device_alone_changes_at_once(changing: DeviceKeys) -> None:
    rotation = Rotation()
    rotation.begin(0.0)
    assert _steps(rotation, changing, [], 0.0, 60.0) == pytest.approx(TUNNEL_SETTLE_S, abs=0.3)


def test_it_waits_for_those_who_are_up_but_not_for_ever(changing: DeviceKeys) -> None:
    rotation = Rotation()
    rotation.begin(0.0)
    ignorant = [_fellow(changing), _fellow(changing, FIRST, knows=False)]
    assert _steps(rotation, changing, ignorant, 0.0, TUNNEL_LEARN_S_MAX - 10.0) is None
    assert _steps(rotation, changing, ignorant, TUNNEL_LEARN_S_MAX, TUNNEL_LEARN_S_MAX + 60.0) is not None


def test_it_goes_on_as_soon_as_all_know(changing: DeviceKeys) -> None:
    rotation = Rotation()
    rotation.begin(0.0)
    assert _steps(rotation, changing, [_fellow(changing, knows=False)], 0.0, 9.0) is None
    applied_s = _steps(rotation, changing, [_fellow(changing)], 10.0, 60.0)
    assert applied_s == pytest.approx(10.0 + TUNNEL_SETTLE_S, abs=0.3)


def test_one_after_another_and_nobody_starves(changing: DeviceKeys) -> None:
    rotation = Rotation()
    rotation.begin(0.0)
    ahead, behind = _fellow(changing, FIRST, changing=True), _fellow(changing, LAST, changing=True)
    assert _steps(rotation, changing, [ahead, behind], 0.0, TUNNEL_TURN_S_MAX - 1.0) is None
    assert _steps(rotation, changing, [ahead, behind], TUNNEL_TURN_S_MAX, TUNNEL_TURN_S_MAX + 10.0) is not None


def test_the_next_one_waits_until_the_one_before_has_settled(changing: DeviceKeys) -> None:
    rotation = Rotation()
    rotation.begin(0.0)
    assert _steps(rotation, changing, [_fellow(changing, FIRST, changing=True)], 0.0, 9.0) is None
    applied_s = _steps(rotation, changing, [_fellow(changing, FIRST, key=b"two")], 10.0, 60.0)
    assert applied_s == pytest.approx(10.0 + TUNNEL_SETTLE_S, abs=0.3)


def test_without_a_wireguard_that_answers_it_ends_all_the_same(changing: DeviceKeys) -> None:
    rotation = Rotation()
    rotation.begin(0.0)
    applied_s = _steps(rotation, changing, [], 0.0, 10.0)
    assert applied_s is not None
    assert not rotation.step(changing, [], applied_s + 1.0, MADE_S)
    assert rotation.step(changing, [], applied_s + TUNNEL_APPLY_S_MAX, MADE_S)
