"""`clanctl doctor`: what it shows and how it exits, also where no daemon runs."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from clanctl import outside_look
from clanctl.cli import run
from clanctl.client import Instance
from clanctl.failures import EXIT_DONE, EXIT_UNHEALTHY, EXIT_UNREACHABLE, Failure
from clanmesh_protocol.control import Fault
from tests.core.clanctl_fake import FakeDaemon

Found = dict[str, Any]


def ctl(runtime: Path, *words: str) -> int:
    return run(["--runtime-dir", str(runtime), "--state-dir", str(runtime), *words])


def finding(level: str, what: str, why: str | None = None, remedy: str | None = None) -> Found:
    return {"level": level, "check": "test", "what": what, "why": why, "remedy": remedy}


def answer(*findings: Found) -> Found:
    return {"self": "desk", "version": "1.0", "findings": list(findings)}


def test_one_line_each_and_a_sum(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    found = [
        finding("problem", "it is broken", "it fell", "mend it"),
        finding("note", "it is slow", "it is old"),
        finding("ok", "it is\x1b[2J there"),
    ]
    daemon.says(doctor=answer(*found))
    assert ctl(daemon.runtime, "doctor") == EXIT_UNHEALTHY
    assert capsys.readouterr().out.splitlines() == [
        "problem: it is broken (it fell); mend it",
        "note:    it is slow (it is old)",
        "ok:      it is[2J there",
        "",
        "1 problem and 1 note",
    ]


@pytest.mark.parametrize(
    ("levels", "status", "said"),
    [
        (("ok",), EXIT_DONE, "all is well"),
        (("note", "note"), EXIT_DONE, "2 notes"),
        (("problem", "problem", "ok"), EXIT_UNHEALTHY, "2 problems"),
        ((), EXIT_DONE, "the daemon found nothing to say"),
        (("later",), EXIT_DONE, "all is well"),
    ],
)
def test_how_it_ends(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str], levels: tuple[str, ...], status: int, said: str
) -> None:
    daemon.says(doctor=answer(*(finding(level, "a") for level in levels)))
    assert ctl(daemon.runtime, "doctor") == status
    assert capsys.readouterr().out.splitlines()[-1] == said


def test_json_is_the_daemons_answer(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    said = answer(finding("problem", "a", "b", "c"))
    daemon.says(doctor=said)
    assert ctl(daemon.runtime, "doctor", "--json") == EXIT_UNHEALTHY
    assert json.loads(capsys.readouterr().out) == said


def test_a_device_without_a_clan_is_told_so(daemon: FakeDaemon) -> None:
    daemon.says(doctor=Fault("no-clan", "this device is in no clan", "nothing was founded", "run `clanctl init`"))
    with pytest.raises(Failure, match="in no clan"):
        ctl(daemon.runtime, "doctor")


# --- no daemon -----------------------------------------------------------------------------------------


def test_without_a_daemon_it_looks_from_outside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ctl(tmp_path, "doctor") == EXIT_UNREACHABLE
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("problem: clanmeshd is not running (no control socket at ")
    assert "start it" in first
    assert ctl(tmp_path, "doctor", "--json") == EXIT_UNREACHABLE
    said = json.loads(capsys.readouterr().out)
    assert (said["self"], said["findings"][0]["level"]) == (None, "problem")


@pytest.mark.parametrize(
    ("runtime", "unit", "config"),
    [
        ("/run/clanmesh", "clanmeshd.service", "/etc/clanmesh/clanmesh.toml"),
        ("/run/clanmesh-office", "clanmeshd@office.service", "/etc/clanmesh/office.toml"),
        ("/run/clanmesh-", None, None),
        ("/run/other-office", None, None),
        ("/tmp/clanmesh-office", None, None),
    ],
)
def test_which_unit_runs_an_instance(runtime: str, unit: str | None, config: str | None) -> None:
    where = Instance(Path("/nowhere"), Path(runtime))
    assert outside_look.unit_name(where) == unit
    assert outside_look.config_file(where) == (Path(config) if config is not None else None)


UNITS = [
    ({}, []),
    ({"LoadState": "not-found"}, [("problem", "there is no u.service")]),
    ({"LoadState": "masked", "ActiveState": "inactive"}, [("problem", "u.service is masked")]),
    ({"LoadState": "loaded", "ActiveState": "failed"}, [("problem", "u.service does not come up")]),
    ({"LoadState": "loaded", "ActiveState": "activating"}, [("problem", "u.service does not come up")]),
    ({"LoadState": "loaded", "ActiveState": "active"}, [("note", "u.service is active")]),
    (
        {"LoadState": "loaded", "ActiveState": "inactive", "UnitFileState": "disabled"},
        [("note", "u.service is stopped"), ("note", "u.service is not started with the machine")],
    ),
]


@pytest.mark.parametrize(("state", "said"), UNITS, ids=lambda each: str(each)[:60])
def test_what_the_state_of_a_unit_means(state: dict[str, str], said: list[tuple[str, str]]) -> None:
    found = outside_look.unit_findings("u.service", state, lambda: "port 1 is in use")
    assert [(each["level"], each["what"]) for each in found] == said
    if state.get("ActiveState") == "failed":
        assert "port 1 is in use" in found[0]["why"]


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_port_is_taken_by_whoever_has_it_on_one_address(
    kind: socket.SocketKind, family: socket.AddressFamily, host: str
) -> None:
    with socket.socket(family, kind) as other:
        other.bind((host, 0))
        if kind == socket.SOCK_STREAM:
            other.listen()
        port = other.getsockname()[1]
        assert outside_look.is_taken(kind, port)
    assert not outside_look.is_taken(kind, port)


def test_what_is_no_port_is_not_taken() -> None:
    assert not outside_look.is_taken(socket.SOCK_DGRAM, 70_000)


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration of an instance whose daemon does not run, on a machine without systemd."""
    monkeypatch.setattr(outside_look, "CONFIG_DIRECTORY", tmp_path)
    monkeypatch.setattr(outside_look, "SYSTEMD", tmp_path / "none")
    return tmp_path / "office.toml"


def looked(config: Path) -> list[Found]:
    where = Instance(config.parent, Path("/run/clanmesh-office"))
    return outside_look.findings(where, Failure("clanmeshd", "it is not running"))[1:]


@pytest.mark.parametrize("written", [b"port = [", b"\xff", b"port = 1\nport = 2"])
def test_a_configuration_that_is_none_is_named(office: Path, written: bytes) -> None:
    office.write_bytes(written)
    [found] = looked(office)
    assert (found["level"], found["what"]) == ("problem", f"{office} cannot be read")
    assert found["why"]


def test_the_ports_of_the_configuration_are_looked_at(office: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        office.write_text(f'port = "none"\ntunnel_port = {port}\n')
        [found] = looked(office)
    assert (found["level"], found["what"]) == ("problem", f"UDP port {port} is in use by another program")
    assert str(office) in found["remedy"]
    assert [each["level"] for each in looked(office)] == ["ok"]


def test_a_full_disk_is_seen_from_outside(office: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    office.write_text("port = 0\ntunnel_port = 0\n")
    monkeypatch.setattr(outside_look, "FREE_BYTES_MIN", 1 << 62)
    assert [each["check"] for each in looked(office)] == ["ports", "disk"]
