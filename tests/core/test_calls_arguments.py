"""What a person or a script may type: each call answers or refuses in one line, and never falls over."""

import random
from pathlib import Path

import pytest
import trio

from clanmesh_protocol.control import WRITES, Fault, Request
from clanmesh_protocol.keys import node_text
from clanmeshd import calls
from tests.core.households import Device, Household
from tests.seeds import seeds

CALLS = (
    "admin-approve",
    "admin-list",
    "admin-pending",
    "admin-propose",
    "admin-recover",
    "events",
    "invite-confirm",
    "invite-list",
    "invite-revoke",
    "peers",
    "remove",
    "rename",
    "renew",
    "rollout-pause",
    "rollout-promote",
    "rollout-resolve",
    "rollout-resume",
    "signer-add",
    "signer-remove",
    "status",
    "tag",
)
KEYS = ("node", "name", "id", "key", "operation", "weight", "by", "govern", "routine", "value", "commit", "none")
MORE_KEYS = ("drill", "add", "remove", "new_key", "distrust_s", "reason", "days", "after", "line", "head")
OPERATIONS = ("add", "remove", "replace", "thresholds", "recovery", "setting", "checkpoint")
ROUNDS = 120


def test_every_call_is_there() -> None:
    assert set(CALLS) <= WRITES.keys()


class Alone:
    """A daemon that waits for `init` or `join`."""

    def __init__(self) -> None:
        self.beginning = trio.Lock()
        self.clan = None

    def need_clan(self) -> None:
        """There is none."""
        raise Fault("no-clan", "this device is in no clan", "nothing was founded or joined yet", "join one")


@pytest.mark.parametrize("name", sorted(WRITES.keys() - {"init", "join", "version"}))
async def test_without_a_clan_each_says_how_to_get_into_one(name: str) -> None:
    args = {"commit": "ab" * 20, "ref": "main", "name": "x", "value": b"", "for": ["all"], "node": "x"}
    with pytest.raises(Fault) as caught:
        await calls.answer(Alone(), Request(name, args), None)  # type: ignore[arg-type]
    assert caught.value.kind in ("no-clan", "failed")


@pytest.mark.parametrize("seed", seeds(3))
async def test_whatever_is_typed(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    house = Household(tmp_path)
    await house.join("nas", "phone")
    await house.admins("nas")
    words = _words(house)
    for _ in range(ROUNDS):
        device = dice.choice(list(house))
        name = dice.choice(CALLS)
        args = {key: dice.choice(words) for key in dice.sample(KEYS + MORE_KEYS, dice.randrange(5))}
        args["operation"] = dice.choice(OPERATIONS)
        fault = await _refusal(device, name, args)
        if fault is not None:
            assert "\n" not in str(fault), (seed, name, args)
            assert fault.remedy or fault.kind == "usage", (seed, name, args, str(fault))
    await house.share()
    assert len({device.mesh.authority.head for device in house}) == 1, seed


async def _refusal(device: Device, name: str, args: dict[str, object]) -> Fault | None:
    try:
        await device.call(name, **args)
    except Fault as fault:
        return fault
    return None


def _words(house: Household) -> list[object]:
    """Values of all kinds, and some that name what there is."""
    names = ["desk", "nas", "phone", node_text(house["nas"].node), node_text(house["phone"].node)[:8]]
    odd: list[object] = [
        None,
        True,
        False,
        0,
        1,
        2,
        -1,
        1 << 70,
        1.5,
        "",
        " ",
        "\n",
        "x" * 300,
        "ä",
        b"",
        b"x",
        [],
        ["a"],
        [1],
        {},
    ]
    return [*names, *names, *odd, "ab" * 20, "00" * 32, "7", "kitchen", ["kitchen", "attic"], house.recovery]
