"""The house hangs together: commands that are named exist, no test is forgotten, packages and locks agree."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import click
import pytest

from clanctl.cli import cli
from tests.house.source import ROOT, files
from tests.tiers import ROUNDS, TIERS
from tools.virtual import PACKAGES

README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = ("requirements.lock", "requirements-test.lock", "requirements-systemd.lock")
COMMANDS = [
    line.strip() for block in re.findall(r"```(?:sh)?\n(.*?)```", README, re.DOTALL) for line in block.splitlines()
]
PROMPT = re.compile(r"^(?:sudo )?")


def targets() -> set[str]:
    """What `make` can be asked for."""
    return set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))


def commands_of(program: str) -> list[list[str]]:
    """The lines of the README that run a program, as words."""
    lines = [PROMPT.sub("", line) for line in COMMANDS]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith(f"{program} ")]


def locked(name: str) -> dict[str, str]:
    """Packages and versions of a lock file."""
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))


def test_the_readme_has_commands() -> None:
    """The tests below would pass on none."""
    assert len(commands_of("make")) >= 3
    assert len(commands_of("clanctl")) >= 6


@pytest.mark.parametrize("words", commands_of("make"), ids=" ".join)
def test_a_make_command_of_the_readme_exists(words: list[str]) -> None:
    """Its target is in the Makefile, and so is each variable it sets."""
    for word in words:
        name, is_variable, _ = word.partition("=")
        assert (f"$({name})" in MAKEFILE) if is_variable else (word in targets()), word


@pytest.mark.parametrize("words", commands_of("clanctl"), ids=" ".join)
def test_a_clanctl_command_of_the_readme_exists(words: list[str]) -> None:
    """Each word leads to a command, and each option is one that it has."""
    command: click.Command = cli
    rest = list(words)
    with click.Context(cli, info_name="clanctl") as context:
        while isinstance(command, click.Group):
            if command.invoke_without_command and (not rest or rest[0].startswith("-")):
                break
            name = rest.pop(0)
            found = command.get_command(context, name)
            assert found is not None, f"there is no {name} in {' '.join(words)}"
            command = found
    known = {option for parameter in command.params for option in [*parameter.opts, *parameter.secondary_opts]}
    assert {word.partition("=")[0] for word in rest if word.startswith("--")} <= known


def test_makefile_targets_are_explained() -> None:
    """`make help` shows each, and none is mistaken for a file of its name."""
    shown = subprocess.run(
        ["make", "-s", "help"], cwd=ROOT, capture_output=True, encoding="utf-8", check=True
    ).stdout
    assert {line.split()[1] for line in shown.splitlines()} == targets()
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert phony is not None
    assert set(phony[1].split()) == targets()


def test_every_test_belongs_to_a_tier() -> None:
    """A folder that no tier names would never run."""
    folders = {"/".join(path.parts[:2]) for path in files() if path.name.startswith("test_")}
    assert folders == {folder for tier in TIERS for folder in tier.folders}
    assert sorted(name for names in ROUNDS for name in names) == sorted(tier.name for tier in TIERS)


def test_scripts_are_executable_and_parse() -> None:
    """What is run by name has its bit, and its shell understands it."""
    for name in (
        ".ci/run",
        "tests/run",
        "tests/soak",
        "tools/bootstrap",
        "tools/env",
        "tools/install",
        "tools/lock",
    ):
        path = ROOT / name
        assert os.access(path, os.X_OK), f"{name} is not executable"
        shell = path.read_text().splitlines()[0].removeprefix("#!").split()[-1]
        subprocess.run([Path(shell).name, "-n", path], check=True)


def test_ci_runs_what_a_person_runs() -> None:
    """One command for both."""
    assert "exec make test </dev/null" in (ROOT / ".ci/run").read_text()


def test_the_locks_hold_what_the_project_asks_for() -> None:
    """All dependencies, the same versions in both, and a hash for each."""
    named = {re.split(r"[<>=\[]", text)[0].lower() for text in PROJECT["project"]["dependencies"]}
    run, test = locked("requirements.lock"), locked("requirements-test.lock")
    assert named <= set(run)
    assert {name: test.get(name) for name in run} == run
    assert "systemd-python" in locked("requirements-systemd.lock")
    for name in LOCKS:
        text = (ROOT / name).read_text()
        entries = re.split(r"^(?=[a-z])", text, flags=re.MULTILINE)[1:]
        assert all("--hash=sha256:" in entry for entry in entries), name
        assert "://" not in text, name


def test_a_wheel_has_what_an_installation_copies(tmp_path: Path) -> None:
    """`make install` needs no build backend; what it puts in is what the backend would put into a wheel."""
    words = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
        entry_points = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
        scripts = wheel.read(entry_points).decode()
    copied = set()
    for name, folder in PACKAGES.items():
        inside = [path for path in files() if path.is_relative_to(folder)]
        copied |= {f"{name}/{path.relative_to(folder)}" for path in inside}
    assert {name for name in packed if name.endswith(".py")} == {name for name in copied if name.endswith(".py")}
    for name in PROJECT["project"]["scripts"]:
        assert f"{name} = " in scripts
