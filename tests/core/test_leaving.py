"""Leaving: the clan's state goes aside as a whole whatever cuts it short, and an admin does not just go."""

import os
from pathlib import Path

import pytest

from clanmeshd import leaving
from clanmeshd.calls.leaving import still_an_admin
from tests.core.households import Household

FILES = ("clan.json", "keys.json", "anchor.json", "records.log")


def _state(directory: Path) -> None:
    for name in FILES:
        (directory / name).write_text(name)
    (directory / "lock").write_text("")
    (directory / "rollout").mkdir()
    (directory / "rollout" / "good").write_text("revision")


def test_all_of_the_clan_goes_aside(tmp_path: Path) -> None:
    _state(tmp_path)
    folder = leaving.put_aside(tmp_path, "family")
    assert folder.name.startswith("left-family-")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([folder.name, "lock"])
    assert sorted(path.name for path in folder.iterdir()) == sorted([*FILES, "rollout"])
    assert (folder / "rollout" / "good").read_text() == "revision"
    leaving.finish(tmp_path)
    again = leaving.put_aside(tmp_path, "family")
    assert again != folder


class _PowerCut(Exception):
    """The machine ends here."""


@pytest.mark.parametrize("renames", range(7))
def test_a_leave_that_is_cut_short_is_finished_or_did_not_happen(tmp_path: Path, renames: int) -> None:
    _state(tmp_path)
    left = renames

    def rename(source: Path, target: Path) -> None:
        nonlocal left
        if not left:
            raise _PowerCut
        left -= 1
        os.rename(source, target)

    try:
        leaving.put_aside(tmp_path, "family", rename)
    except _PowerCut:
        assert renames < 6
    leaving.finish(tmp_path)
    there = {path.name for path in tmp_path.iterdir()} & {*FILES, "rollout"}
    assert there == ({*FILES, "rollout"} if renames == 0 else set())


def test_a_device_without_a_clan_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text("keys")
    (tmp_path / "records.log").write_text("of a clan that is to be joined again")
    leaving.finish(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"keys.json", "records.log"}


async def test_an_admin_is_told_what_to_do_first(tmp_path: Path) -> None:
    house = Household(tmp_path)
    await house.join("nas")
    fault = await house["desk"].refused("leave")
    assert "only admin" in fault.why
    assert "force" in fault.remedy
    await house.admins("nas")
    fault = await house["desk"].refused("leave")
    assert "on nas: `clanctl admin propose remove desk`" in fault.remedy
    assert house["nas"].members() == {"desk", "nas"}


async def test_who_goes_by_force_says_what_the_others_can_do(tmp_path: Path) -> None:
    """It is an admin still: two others can end that, one alone cannot."""
    house = Household(tmp_path)
    await house.join("nas", "phone")
    desk = house["desk"]
    notes = []
    for name in ("nas", "phone"):
        notes.append(still_an_admin(desk.mesh.authority, desk.keys.node))
        await house.admins(name)
    notes.append(still_an_admin(desk.mesh.authority, desk.keys.node))
    commands = ["admin recover --add NODE", "admin recover --remove desk", "remove desk"]
    assert [f"`clanctl {command}`" in (note or "") for note, command in zip(notes, commands, strict=True)] == [
        True
    ] * 3


async def test_the_word_counts_everywhere(tmp_path: Path) -> None:
    house = Household(tmp_path)
    await house.join("nas", "phone")
    told, others = await leaving.say_goodbye(house["phone"].clan)
    assert (told, others) == (0, 2)  # nobody is up in a household without a network
    await house.share()
    assert house["nas"].members() == {"desk", "nas"}
