"""`rotate`: the call reaches the core, and asked twice it changes nothing."""

from pathlib import Path

from tests.core.households import Household


async def test_a_rotation_begins_once(tmp_path: Path) -> None:
    house = Household(tmp_path)
    await house.join("nas")
    first = await house["nas"].call("rotate")
    assert first["begun"]
    again = await house["nas"].call("rotate")
    assert again == {"number": first["number"], "begun": False}
