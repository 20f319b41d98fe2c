"""What no file may say: where packages come from, whose machine it was written on, what only its authors know."""

import re
from pathlib import Path

import pytest

from tests.house.source import files, text

# Put together from parts: this file is looked at as well.
_HOSTS = [
    "pypi" + ".org",
    "pythonhosted" + ".org",
    "debian" + ".org",
    "npmjs" + ".org",
    "nixos" + ".org",
    "ubuntu" + ".com",
]
_PLACES = ["/wo" + "rk/", "/Us" + "ers/", ".py" + "env", "/home/" + "runner"]
_TALK = [
    r"\bissue" + r" #?\d",
    r"\bdesign" + r" section",
    r"\bsha" + r"red/(?:lab|research|design)",
    r"\bplan" + r"\.md\b",
]
FORBIDDEN = re.compile("|".join([*map(re.escape, _HOSTS), *map(re.escape, _PLACES), *_TALK]), re.IGNORECASE)


def findings(path: Path, content: str) -> list[str]:
    """The lines of a file that say such a thing."""
    return [
        f"{path}:{number}: {found[0]}"
        for number, line in enumerate(content.splitlines(), 1)
        if (found := FORBIDDEN.search(line))
    ]


def test_no_file_says_it() -> None:
    """Lock files too: they name packages and hashes, no hosts."""
    assert [line for path in files() for line in findings(path, text(path))] == []


@pytest.mark.parametrize("said", [*_HOSTS, *_PLACES, "see iss" + "ue 7", "as in des" + "ign section 3"])
def test_it_would_be_found(said: str) -> None:
    """The pattern finds each of them inside of a line."""
    assert findings(Path("x"), f"first\nhttps://{said}/more\n") == [f"x:2: {FORBIDDEN.search(said)[0]}"]  # type: ignore[index]
