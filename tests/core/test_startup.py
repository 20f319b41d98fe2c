"""Each way in which the daemon cannot start is one line: what, why, what to do. No traceback, exit 1 or 2."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clanmeshd.store import is_told, told

ROOT = Path(__file__).resolve().parents[2]


def _start(tmp_path: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'protocol'}", "CLANMESH_LOG": "ERROR"}
    argv = [
        sys.executable,
        "-m",
        "clanmeshd",
        "--state-dir",
        str(tmp_path / "s"),
        "--runtime-dir",
        str(tmp_path / "r"),
    ]
    return subprocess.run(
        [*argv, *words], env=environment, capture_output=True, text=True, timeout=30, check=False
    )


def _complaint(done: "subprocess.CompletedProcess[str]", status: int) -> str:
    lines = done.stderr.strip().splitlines()
    assert done.returncode == status, done.stderr
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("clanmeshd: ")
    return lines[0]


@pytest.mark.parametrize("name", ["keys.json", "clan.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1}'])
def test_a_damaged_state_file_is_named(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / name).write_text(content)
    line = _complaint(_start(tmp_path), 1)
    assert f"{name}: " in line
    assert "damaged" in line or "format" in line


def test_an_unknown_setting_is_named(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("prot = 1\n")
    assert "'prot'" in _complaint(_start(tmp_path, "--config", str(tmp_path / "c.toml")), 2)


def test_a_state_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    line = _complaint(_start(tmp_path, "--state-dir", "/proc/nowhere"), 1)
    assert "/proc/nowhere" in line
    assert "--state-dir" in line


def test_a_runtime_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    line = _complaint(_start(tmp_path, "--runtime-dir", "/proc/nowhere"), 1)
    assert "/proc/nowhere" in line
    assert "--runtime-dir" in line


def test_a_file_in_the_place_of_the_state_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    line = _complaint(_start(tmp_path, "--state-dir", str(tmp_path / "f")), 1)
    remedy = "move away what is there, or give --state-dir a directory of yours"
    assert line == f"clanmeshd: {tmp_path}/f: File exists; {remedy}"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('port = "x"', "port must be a whole number, and is 'x'"),
        ("port = true", "port must be a whole number, and is true"),
        ("mdns = 1", "mdns must be true or false, and is 1"),
        ("endpoints = 1", "endpoints must be a list in brackets, and is 1"),
        ("hooks = 1", "hooks must be a text in quotes, and is 1"),
        ("port = \n", "invalid value (at line 1, column 8); mend that file"),
    ],
)
def test_a_wrong_setting_is_named_in_words(tmp_path: Path, content: str, why: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(content)
    assert _complaint(_start(tmp_path, "--config", str(path)), 2) == f"clanmeshd: {path}: {why}"


@pytest.mark.parametrize("words", [["--nonsense"], ["extra"], ["--config"]])
def test_wrong_arguments_are_one_line(tmp_path: Path, words: list[str]) -> None:
    assert _complaint(_start(tmp_path, *words), 2).endswith("; see `clanmeshd --help`")


@pytest.mark.parametrize(
    ("number", "remedy"),
    [(28, "No space left on device; make room there"), (30, "Read-only file system; make it writable")],
)
def test_what_a_disk_refuses_is_told_with_the_place(number: int, remedy: str) -> None:
    error = OSError(number, os.strerror(number))
    assert is_told(error)
    assert told(error, Path("/var/lib/clanmesh")) == f"/var/lib/clanmesh: {remedy}"
    assert not is_told(OSError(98, "Address already in use"))


def test_check_says_what_is_there_and_ends(tmp_path: Path) -> None:
    done = _start(tmp_path, "--check")
    assert done.returncode == 0, done.stderr
    assert "none yet" in done.stdout
    assert not (tmp_path / "s/keys.json").exists()
