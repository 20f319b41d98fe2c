"""Who may have a port at a relay, for how long, and how much passes."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clanmesh_protocol.endpoints import endpoint
from clanmesh_protocol.keys import NodeId
from clanmeshd.core.buckets import Budget
from clanmeshd.overlay.relay import IDLE_S, LIFETIME_S, NotRelayed, Quotas, Relay
from clanmeshd.relays.own import is_on_the_internet, is_willing

OWN, *MEMBERS = (NodeId(bytes([number]) * 32) for number in range(8))
ALICE, BOB, CAROL, DAVE = MEMBERS[:4]
NOW_S = 1000.0


def keys_of(node: NodeId) -> Sequence[bytes]:
    """WireGuard's key of a member."""
    return () if node == DAVE else (node,)


def entropy(count: int) -> bytes:
    """The same bytes each time."""
    return b"e" * count


def relay(**quotas: float) -> Relay:
    """A relay with other quotas."""
    return Relay(OWN, entropy, NOW_S, Quotas(**quotas))  # type: ignore[arg-type]


def refusal(made: Relay, asker: NodeId, peer: NodeId, now_s: float = NOW_S) -> str:
    """The code that a request is refused with."""
    with pytest.raises(NotRelayed) as refused:
        made.grant(asker, peer, keys_of, now_s)
    assert str(refused.value)
    return refused.value.code


def test_both_ask_for_one_pair() -> None:
    made = relay()
    pair, token = made.grant(ALICE, BOB, keys_of, NOW_S)
    assert token == b"e" * 32
    assert made.grant(BOB, ALICE, keys_of, NOW_S)[0] is pair
    assert made.grant(ALICE, BOB, keys_of, NOW_S)[0] is pair
    assert len(made.pairs) == 1


@pytest.mark.parametrize(("asker", "peer"), [(ALICE, ALICE), (ALICE, OWN), (OWN, ALICE)])
def test_no_pair(asker: NodeId, peer: NodeId) -> None:
    assert refusal(relay(), asker, peer) == "no-pair"


def test_whose_key_is_not_known() -> None:
    assert refusal(relay(), ALICE, DAVE) == "unknown-key"
    assert refusal(relay(), DAVE, ALICE) == "unknown-key"


def test_a_pair_ends_unless_it_is_asked_for_again() -> None:
    made = relay()
    made.grant(ALICE, BOB, keys_of, NOW_S)
    made.grant(BOB, ALICE, keys_of, NOW_S + LIFETIME_S / 2)
    made.expire(NOW_S + LIFETIME_S)
    assert len(made.pairs) == 1
    made.expire(NOW_S + 1.5 * LIFETIME_S)
    assert not made.pairs


def test_one_that_releases_leaves_it_to_the_other() -> None:
    made = relay()
    made.grant(ALICE, BOB, keys_of, NOW_S)
    made.grant(BOB, ALICE, keys_of, NOW_S)
    made.release(ALICE, BOB, NOW_S)
    assert made.pairs
    made.release(BOB, ALICE, NOW_S)
    assert not made.pairs
    made.release(BOB, ALICE, NOW_S)
    made.release(BOB, OWN, NOW_S)


def test_when_all_ports_are_taken_an_idle_pair_gives_way() -> None:
    made = relay(pairs=2)
    old, _ = made.grant(ALICE, BOB, keys_of, NOW_S)
    new, _ = made.grant(ALICE, CAROL, keys_of, NOW_S)
    made.spend(new, 100, NOW_S + 1)
    assert refusal(made, BOB, CAROL, NOW_S + IDLE_S - 1) == "full"
    made.grant(ALICE, BOB, keys_of, NOW_S + IDLE_S)  # what is there already needs no room
    made.grant(BOB, CAROL, keys_of, NOW_S + IDLE_S)
    assert old not in made.pairs.values()
    assert new in made.pairs.values()


def test_no_member_takes_all() -> None:
    made = relay(pairs_per_member=2)
    made.grant(ALICE, BOB, keys_of, NOW_S)
    made.grant(ALICE, CAROL, keys_of, NOW_S)
    assert refusal(made, ALICE, MEMBERS[4]) == "full"
    made.grant(MEMBERS[4], ALICE, keys_of, NOW_S)  # that one asks for itself


def test_who_is_removed_is_relayed_no_more() -> None:
    made = relay()
    made.grant(ALICE, BOB, keys_of, NOW_S)
    kept, _ = made.grant(ALICE, CAROL, keys_of, NOW_S)
    before = kept.side(CAROL).keys
    made.retain({ALICE, CAROL}, lambda node: (b"new" * 10 + node[:2],))
    assert list(made.pairs.values()) == [kept]
    assert kept.side(CAROL).keys != before
    made.retain({ALICE, CAROL}, lambda node: ())
    assert kept.side(CAROL).keys


def test_a_pair_passes_no_more_than_its_share() -> None:
    made = relay(pair_bytes_per_s=1000.0, all_bytes_per_s=1500.0)
    one, _ = made.grant(ALICE, BOB, keys_of, NOW_S)
    other, _ = made.grant(ALICE, CAROL, keys_of, NOW_S)
    made.spend(one, 300, NOW_S)
    assert not made.has_room(one, NOW_S)
    assert made.has_room(other, NOW_S)
    made.spend(other, 200, NOW_S)
    assert not made.has_room(other, NOW_S)  # not its own share, but that of all
    assert made.has_room(one, NOW_S + 1)


def test_what_was_used_is_counted() -> None:
    made = relay()
    pair, _ = made.grant(ALICE, BOB, keys_of, NOW_S)
    pair.side(ALICE).packets, pair.side(ALICE).bytes = 2, 300
    pair.side(BOB).packets, pair.side(BOB).bytes = 1, 100
    assert made.used() == (3, 400)


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(0, 5000)), max_size=100))
def test_a_budget_holds(spent: list[tuple[float, int]]) -> None:
    """Whatever the pace, no more passes than the rate allows, a burst, and the last that was counted late."""
    budget, now_s, passed = Budget(1000.0, 500.0, NOW_S), NOW_S, 0
    for pause_s, size in spent:
        now_s += pause_s
        if budget.has_room(now_s):
            budget.spend(size)
            passed += size
    assert passed <= 500 + 1000 * (now_s - NOW_S) + 5000 + 1e-6


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["grant", "release", "expire"]),
            st.sampled_from(MEMBERS),
            st.sampled_from(MEMBERS),
            st.floats(0, 200),
        ),
        max_size=80,
    )
)
def test_the_table_is_bounded(steps: list[tuple[str, NodeId, NodeId, float]]) -> None:
    """Whoever asks for what: no more pairs than ports, none of one with itself, none unwanted."""
    made, now_s = relay(pairs=3, pairs_per_member=2), NOW_S
    for step, one, other, pause_s in steps:
        now_s += pause_s
        if step == "grant":
            try:
                made.grant(one, other, keys_of, now_s)
            except NotRelayed:
                continue
        elif step == "release":
            made.release(one, other, now_s)
        else:
            made.expire(now_s)
        assert len(made.pairs) <= 3
        assert all(len(name) == 2 for name in made.pairs)
    made.expire(now_s + LIFETIME_S)
    assert not made.pairs


@pytest.mark.parametrize(
    ("setting", "tags", "is_public", "willing"),
    [
        ("auto", [], False, False),
        ("auto", [], True, True),
        ("auto", ["relay"], False, True),
        (False, ["relay"], True, False),
        (True, [], False, True),
    ],
)
def test_who_relays(setting: bool | str, tags: list[str], is_public: bool, willing: bool) -> None:
    assert is_willing(setting, tags, is_public=is_public) is willing


@pytest.mark.parametrize(
    ("addresses", "public"),
    [
        ([], False),
        (["192.168.1.7", "10.0.0.7", "100.64.0.7"], False),
        (["192.168.1.7", "9.9.9.9"], True),
        (["2620:fe::fe"], False),  # as at home, behind a router's firewall
    ],
)
def test_who_can_be_reached_from_everywhere(addresses: list[str], public: bool) -> None:
    assert is_on_the_internet(endpoint(address, 51871) for address in addresses) is public
