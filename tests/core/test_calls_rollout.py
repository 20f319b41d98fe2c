"""`rollout-pause` and its like: who may, what it does everywhere, and what is refused."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from clanmesh_protocol.records import Resolution, Verb
from clanmeshd.core.directives import standing
from clanmeshd.core.effects import Order
from tests.core.households import Device, Household

A, B, C = (bytes([number]) * 20 for number in (0xA1, 0xB2, 0xC3))


@pytest.fixture
async def house(tmp_path: Path) -> Household:
    made = Household(tmp_path)
    await made.join("nas", "phone")
    await made.admins("nas")
    for device in made:
        sees(device)
    return made


def sees(device: Device, *tips: bytes, target: bytes | None = A) -> None:
    """What a device's rollout knows."""
    fork = tuple((tip, f"signer {tip.hex()[:2]}") for tip in tips)
    device.clan.rollout = SimpleNamespace(target=target, fork=fork, complaint=None)  # type: ignore[assignment]


async def orders(house: Household) -> list[Order]:
    """The orders that all devices see alike."""
    await house.share()
    seen = [standing(device.mesh.authority, device.mesh.ledger) for device in house]
    assert all(each == seen[0] for each in seen)
    return list(seen[0])


async def test_a_pause_of_one_admin_is_ended_by_another(house: Household) -> None:
    assert (await house["desk"].call("rollout-pause", reason="holidays"))["state"] == "paused"
    [order] = await orders(house)
    assert (order.verb, order.by, order.reason) == (Verb.PAUSE, "desk", "holidays")
    [notice] = [each for each in (await house["phone"].call("status"))["notices"] if each["kind"] == "paused"]
    assert notice["what"] == "desk paused the rollout (holidays)"
    assert (await house["nas"].call("rollout-resume"))["state"] == "resumed"
    assert await orders(house) == []
    assert (await house["desk"].call("rollout-resume"))["state"] == "not-paused"


async def test_who_is_no_admin_gives_no_orders(house: Household) -> None:
    for name in ("pause", "resume", "promote", "resolve"):
        assert (await house["phone"].refused(f"rollout-{name}", head=A.hex())).kind == "denied"
    assert (await house["phone"].refused("rollout-retry", everywhere=True)).kind == "denied"
    assert await orders(house) == []


@pytest.mark.parametrize("reason", ["x" * 129, "two\nlines", "\x1b[2J"])
async def test_a_reason_is_one_short_sentence(house: Household, reason: str) -> None:
    assert (await house["desk"].refused("rollout-pause", reason=reason)).kind == "usage"


async def test_the_wanted_commit_is_promoted(house: Household) -> None:
    assert (await house["desk"].call("rollout-promote"))["commit"] == A.hex()
    assert (await house["nas"].call("rollout-promote", commit="a1a1"))["commit"] == A.hex()
    assert [(order.verb, order.commit) for order in await orders(house)] == [(Verb.PROMOTE, A)] * 2


@pytest.mark.parametrize("commit", ["b2b2", "a1", "", "main"])
async def test_no_other_commit_is_promoted(house: Household, commit: str) -> None:
    assert (await house["desk"].refused("rollout-promote", commit=commit)).kind == "not-found"


async def test_before_a_first_push_there_is_nothing_to_promote(house: Household) -> None:
    sees(house["desk"], target=None)
    assert (await house["desk"].refused("rollout-promote")).kind == "refused"


async def test_a_retry_everywhere_is_an_order_with_a_number_of_its_own(house: Household) -> None:
    for _ in range(2):
        assert (await house["desk"].call("rollout-retry", everywhere=True))["commit"] == A.hex()
        [order] = await orders(house)
        assert (order.verb, order.commit) == (Verb.RETRY, A)


async def test_an_admin_ends_a_fork_for_all(house: Household) -> None:
    sees(house["desk"], A, B, C)
    status = await house["desk"].call("status")
    [problem] = [each for each in status["problems"] if each["kind"] == "fork"]
    assert "a1a1a1a1a1a1 by signer a1 and b2b2b2b2b2b2 by signer b2 and c3" in problem["what"]
    assert "rollout resolve" in problem["remedy"]
    answer = await house["desk"].call("rollout-resolve", head="b2b2")
    assert (answer["head"], answer["left"]) == (B.hex(), [A.hex(), C.hex()])
    assert answer["decision"]["state"] == "done", "one admin is enough"
    await house.share()
    for device in house:
        assert device.mesh.authority.resolutions == (Resolution("main", B, (A, C)),)


async def test_a_fork_of_many_heads_is_ended_by_several_calls(house: Household) -> None:
    tips = [bytes([number]) * 20 for number in range(1, 31)]
    stands = tips[3]
    while len(tips) > 1:
        sees(house["desk"], *tips)
        answer = await house["desk"].call("rollout-resolve", head=stands.hex())
        assert answer["decision"]["state"] == "done"
        tips = [tip for tip in tips if tip.hex() not in answer["left"]]
    assert tips == [stands]
    assert sum(len(each.abandoned) for each in house["desk"].mesh.authority.resolutions) == 29


async def test_without_a_fork_there_is_nothing_to_end(house: Household) -> None:
    assert (await house["desk"].refused("rollout-resolve", head=A.hex())).kind == "refused"
    sees(house["desk"], A, B)
    assert (await house["desk"].refused("rollout-resolve", head=C.hex())).kind == "not-found"
