"""What the activator has of its own, for a fast start, held against what the standard library has."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clanmeshd.rollout import jsontext
from clanmeshd.rollout.activation import PROGRAM, Activation, Revision, State
from clanmeshd.rollout.scripts import call
from clanmeshd.rollout.tuples import NamedTuple

ROOT = Path(__file__).resolve().parents[2]

VALUES = [
    {"id": "a", "steps": [1, 2.5, -3, None, True, False], "of": {}},
    'quotes " and \\, \t\n\x1f\x7f, ä, \u2028, \U0001f600',
    [[], [[]], {"": ""}],
    "",
    0,
    1e300,
    math.inf,
]
DAMAGED = [b"", b" ", b"{", b'{"a"', b'{"a":}', b"{} {}", b"[1,]", b"nul", b'"a\x01"', b"\xff", b"[" * 9]


@pytest.mark.parametrize("value", VALUES)
def test_json_is_that_of_the_package(value: Any) -> None:
    text = jsontext.dumps(value)
    assert text == json.dumps(value)
    for written in (text, json.dumps(value, indent=1), f"\n {text}\r\n"):
        assert jsontext.loads(written.encode()) == value


@pytest.mark.parametrize("data", DAMAGED)
def test_damaged_json_is_refused(data: bytes) -> None:
    """As where the package was never imported, and by an interpreter that lacks the parts."""
    refused = (
        "from clanmeshd.rollout import jsontext\ntry: jsontext.loads(DATA)\nexcept ValueError: print('refused')"
    )
    finished = _python(refused.replace("DATA", repr(data)))
    assert finished.stdout == "refused\n", finished.stderr
    with pytest.raises(ValueError, match=r".*"):
        jsontext.loads(data)


@pytest.mark.parametrize("value", VALUES)
def test_json_without_the_parts(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsontext, "_scan", None)
    monkeypatch.setattr(jsontext, "_encode", None)
    assert jsontext.loads(jsontext.dumps(value).encode()) == value


def test_what_has_no_form_in_json_is_refused() -> None:
    with pytest.raises(TypeError):
        jsontext.dumps({"path": Path("/")})


def test_tuples_with_names() -> None:
    state = State("id1", "testing", why="it fell")
    assert isinstance(state, NamedTuple)
    assert state == ("id1", "testing", None, "it fell", 0.0)
    assert state._asdict() == {"id": "id1", "step": "testing", "result": None, "why": "it fell", "at_unix_s": 0.0}
    assert state._replace(step="done") == State("id1", "done", None, "it fell")
    assert (state.id, state.at_unix_s) == ("id1", 0.0)
    assert repr(state) == "State(id='id1', step='testing', result=None, why='it fell', at_unix_s=0.0)"
    with pytest.raises(AttributeError):
        state.id = "id2"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "named"),
    [((), {"id": "a"}), (("a", "b"), {"id": "a"}), (("a", "b"), {"other": 1}), (tuple("abcdef"), {})],
)
def test_tuples_of_other_fields_are_refused(values: tuple[Any, ...], named: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        State(*values, **named)


def test_the_activator_imports_little() -> None:
    """Each of these takes as long as all of it; it is started for every commit, on all devices at once."""
    program = "import clanmeshd.rollout.activator, sys; print(*sys.modules)"
    slow = {"typing", "re", "json", "subprocess", "pathlib", "socket", "signal", "enum", "contextlib", "functools"}
    slow |= {"collections"}
    imported = set(_python(program).stdout.split())
    assert "clanmeshd.rollout.guard" in imported
    assert not imported & slow


def test_the_activators_words_lead_to_its_usage() -> None:
    """They are in systemd's hands on the way, which has meanings of its own for some characters."""
    assert not set("".join(PROGRAM)) & set(";$%\"'\\ ")
    finished = subprocess.run(
        [sys.executable, *PROGRAM], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert (finished.returncode, finished.stderr[:6]) == (2, "usage:")


# --- scripts -------------------------------------------------------------------------------------------------


def _call(root: Path, *argv: str, path: str = "/usr/bin:/bin", cwd: str | None = None) -> tuple[str | None, str]:
    revision = Revision("c" * 40, str(root), [], [], 1, 5)
    activation = Activation("id1", revision, None, {"PATH": path}, str(root / "log"))
    why = call(
        activation, list(argv), what="it", cwd=cwd or str(root), timeout_s=5, extra={"CLAN_COMMIT": "c" * 40}
    )
    return why, (root / "log").read_text()


def test_a_script_has_a_place_and_a_session_of_its_own(tmp_path: Path) -> None:
    before = Path.cwd()
    code = "import os, sys; print(os.getcwd(), os.getsid(0) == os.getpid(), sys.stdin.read() == '')"
    why, log = _call(tmp_path, "env", sys.executable, "-I", "-S", "-c", code)
    assert why is None, log
    assert f"{tmp_path} True True" in log
    assert Path.cwd() == before


def test_a_script_ends_when_nobody_reads(tmp_path: Path) -> None:
    """SIGPIPE is not ignored in what is started, though it is in Python."""
    assert _call(tmp_path, "sh", "-c", "kill -PIPE $$")[0] == "it was killed by SIGPIPE"


def test_a_signal_without_a_name_is_told(tmp_path: Path) -> None:
    assert _call(tmp_path, "sh", "-c", "kill -40 $$")[0] == "it was killed by signal 40"


@pytest.mark.parametrize(
    ("argv", "cwd", "why"),
    [
        (["./none"], None, "it: ./none cannot be run: No such file or directory"),
        (["none"], None, "it: none cannot be run: No such file or directory"),
        (["./plain"], None, "it: ./plain cannot be run: Permission denied"),
        (["./odd"], None, "it: ./odd cannot be run: Exec format error"),
        (["true"], "/none", "it: true cannot be run: No such file or directory"),
        (["tool"], None, None),
    ],
)
def test_what_cannot_be_run_is_told(tmp_path: Path, argv: list[str], cwd: str | None, why: str | None) -> None:
    for name, text, mode in (
        ("plain", "#!/bin/sh\n", 0o644),
        ("odd", "exit 0\n", 0o755),
        ("tool", "#!/bin/sh\n", 0o755),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(mode)
    before = Path.cwd()
    assert _call(tmp_path, *argv, path=f"/nowhere:{tmp_path}:/bin", cwd=cwd)[0] == why
    assert Path.cwd() == before


def _python(program: str) -> "subprocess.CompletedProcess[str]":
    words = [sys.executable, "-S", "-P", "-c", program]
    return subprocess.run(words, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
