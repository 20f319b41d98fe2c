"""Each command against a fake daemon: what it asks, what it prints, how it exits; never a traceback."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from clanctl.cli import COMMANDS, run
from clanctl.failures import EXIT_DONE, EXIT_INTERRUPTED, EXIT_PIPE_CLOSED, EXIT_UNHEALTHY, EXIT_USAGE, Failure
from clanctl.guard import guarded
from clanmesh_protocol.control import Fault
from tests.core.clanctl_fake import FakeDaemon, ctl

ROOT = Path(__file__).parents[2]
PEERS: dict[str, Any] = {"clan": {"id": "00" * 16, "name": "family"}, "self": "laptop", "peers": []}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJbVmx3lVxqmsXQ4hFQHnq2uWsQ0H0jD4Zl5mDZbRr3a me@laptop"


def process(words: Sequence[str], **options: Any) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'protocol'}", **options.pop("env", {})}
    command = [sys.executable, "-m", "clanctl", *words]
    return subprocess.run(command, capture_output=True, encoding="utf-8", env=env, check=False, **options)


# --- output --------------------------------------------------------------------------------------------

JSON_CALLS = [
    (["peers"], "peers", PEERS),
    (["status"], "status", {"healthy": True, "problems": []}),
    (["init", "family"], "init", {"clan": {"id": "0", "name": "family"}, "self": "a", "address": "fd00::1"}),
    (["invite"], "invite", {"token": "clan1q", "id": "0", "expires_unix_s": 1, "endpoints": []}),
    (["signer", "list"], "signer-list", {"signers": [KEY]}),
    (["signer", "add", KEY], "signer-add", {"signers": [KEY]}),
    (["signer", "remove", "me@laptop"], "signer-remove", {"signers": []}),
    (["secrets", "list"], "secrets-list", {"secrets": []}),
    (["rollout", "status"], "rollout-status", {"wanted": None, "commit": None, "state": "behind"}),
    (["rollout", "history"], "rollout-history", {"entries": []}),
    (["rollout", "log"], "rollout-log", {"text": "ok"}),
    (["rollout", "retry"], "rollout-retry", {"commit": None}),
    (["rollout", "pause", "--reason", "holidays"], "rollout-pause", {"state": "paused", "reason": "holidays"}),
    (["rollout", "resume"], "rollout-resume", {"state": "resumed"}),
    (["rollout", "promote"], "rollout-promote", {"commit": "ab" * 20}),
]


@pytest.mark.parametrize(("words", "call", "result"), JSON_CALLS)
def test_json_is_exactly_the_result(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str], words: list[str], call: str, result: dict[str, Any]
) -> None:
    daemon.says(**{call: result})
    assert ctl(daemon, *words, "--json") == EXIT_DONE
    assert json.loads(capsys.readouterr().out) == result


def test_the_head_that_stands_is_chosen_with_its_rivals_in_view(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    heads = [{"commit": "ab" * 20, "signer": "alice"}, {"commit": "cd" * 20, "signer": "bob"}]
    done = {"state": "done", "operation": "let abababababab stand"}
    daemon.says(rollout_status={"heads": heads}, rollout_resolve={"head": "ab" * 20, "decision": done})
    with pytest.raises(Failure, match="confirmed"):
        ctl(daemon, "rollout", "resolve", "abab")
    assert [request.call for request in daemon.asked] == ["rollout-status"]
    assert ctl(daemon, "rollout", "resolve", "abab", "--yes") == EXIT_DONE
    assert daemon.args("rollout-resolve") == {"head": "abab"}
    assert "done: let abababababab stand" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "call", "result"), JSON_CALLS)
def test_each_view_has_a_form_for_people(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str], words: list[str], call: str, result: dict[str, Any]
) -> None:
    daemon.says(**{call: result})
    assert ctl(daemon, *words) == EXIT_DONE
    out = capsys.readouterr().out
    assert out.strip()
    assert not out.startswith("{")


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == EXIT_DONE
    text = capsys.readouterr().out
    for name in COMMANDS:
        assert name in text
        assert run([name, "--help"]) == EXIT_DONE


def test_an_unhealthy_clan_has_a_status_of_its_own(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.says(status={"healthy": False, "problems": [{"what": "overlay: none", "remedy": "install it"}]})
    assert ctl(daemon, "status") == EXIT_UNHEALTHY
    assert "overlay: none; install it" in capsys.readouterr().out


def test_watch_prints_each_state(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    def watch(request: object, line: Any) -> None:
        line.send(item=PEERS)
        line.send(item={**PEERS, "self": "nas"})

    daemon.answers["watch"] = watch
    assert ctl(daemon, "peers", "--watch", "--json") == EXIT_DONE
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["self"] for line in lines] == ["laptop", "nas"]
    assert ctl(daemon, "peers", "--watch") == EXIT_DONE
    assert capsys.readouterr().out.count("NAME") == 2


def test_version_needs_no_daemon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--runtime-dir", str(tmp_path), "version"]) == EXIT_DONE
    assert "not running" in capsys.readouterr().out


# --- secrets -------------------------------------------------------------------------------------------


def test_a_secret_is_sent_byte_by_byte(daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.says(secrets_set={"name": "wifi", "epoch": 1, "recipients": ["nas"]})
    (tmp_path / "value").write_bytes(b"\0pass\xff\n")
    words = ["--for", "all", "--for", "nas", "--file", str(tmp_path / "value"), "--mode", "0440", "--group", "adm"]
    assert ctl(daemon, "secrets", "set", "wifi", *words) == EXIT_DONE
    assert daemon.args("secrets-set") == {
        "name": "wifi",
        "value": b"\0pass\xff\n",
        "for": ["all", "nas"],
        "owner": "root",
        "group": "adm",
        "mode": 0o440,
    }


@pytest.mark.parametrize(
    ("words", "value", "why"),
    [
        (["--mode", "0999"], b"x", "0777"),
        (["--mode", "1777"], b"x", "0777"),
        ([], b"", "empty"),
        ([], bytes(32_769), "32768"),
        (["--file", "/nonexistent/value"], b"x", "No such file"),
    ],
)
def test_a_value_that_is_none(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, words: list[str], value: bytes, why: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(value)))
    with pytest.raises(Failure) as caught:
        ctl(daemon, "secrets", "set", "wifi", "--for", "all", *words)
    assert why in caught.value.why
    assert daemon.asked == []


def test_a_secret_is_shown_as_it_is(daemon: FakeDaemon, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    daemon.says(secrets_show={"value": b"\xff\0no line break"})
    ctl(daemon, "secrets", "show", "wifi")
    sys.stdout.flush()
    assert capfdbinary.readouterr().out == b"\xff\0no line break"
    ctl(daemon, "secrets", "show", "wifi", "--json")
    assert json.loads(capfdbinary.readouterr().out) == {"value_base64": "/wBubyBsaW5lIGJyZWFr"}
    daemon.says(secrets_show={"value": b"word"})
    ctl(daemon, "secrets", "show", "wifi", "--json")
    assert json.loads(capfdbinary.readouterr().out) == {"value": "word"}


def test_a_log_is_found_by_the_start_of_its_commit(daemon: FakeDaemon) -> None:
    full = "0123456789abcdef0123456789abcdef01234567"
    entries = {"entries": [{"commit": full}, {"commit": full}]}
    daemon.says(rollout_history=entries, rollout_log={"text": "built"}, peers=PEERS)
    ctl(daemon, "rollout", "log", "0123")
    assert daemon.args("rollout-log") == {"node": None, "commit": full}
    with pytest.raises(Failure, match="no commit tried here"):
        ctl(daemon, "rollout", "log", "f00")
    asked = len(daemon.asked)
    with pytest.raises(Failure, match="it is no device of the clan, and no commit's id begins so"):
        ctl(daemon, "rollout", "log", "nsa")
    assert [request.call for request in daemon.asked[asked:]] == ["peers"]


def test_the_log_of_another_device(daemon: FakeDaemon) -> None:
    full = "0123456789abcdef0123456789abcdef01234567"
    name, peers = "nas", {**PEERS, "peers": [{"name": "nas"}]}
    daemon.says(rollout_history={"entries": [{"commit": full}]}, rollout_log={"text": "built"}, peers=peers)
    ctl(daemon, "rollout", "log", name)
    assert daemon.args("rollout-log") == {"node": name, "commit": None}
    ctl(daemon, "rollout", "log", name, "0123")
    assert daemon.args("rollout-history") == {"node": name}
    assert daemon.args("rollout-log") == {"node": name, "commit": full}


# --- signers -------------------------------------------------------------------------------------------


def test_a_signer_is_read_from_its_file(daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.says(signer_add={"signers": [KEY]})
    (tmp_path / "id.pub").write_text(f"# my key\n{KEY}\n")
    (tmp_path / "id").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    for name in ("id.pub", "id"):
        ctl(daemon, "signer", "add", str(tmp_path / name))
        assert daemon.args("signer-add") == {"line": KEY}


def test_a_private_key_is_never_sent(daemon: FakeDaemon, tmp_path: Path) -> None:
    (tmp_path / "id").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n")
    with pytest.raises(Failure, match="public half is missing"):
        ctl(daemon, "signer", "add", str(tmp_path / "id"))
    assert daemon.asked == []


@pytest.mark.parametrize("given", ["/nonexistent/key.pub", "word"])
def test_what_is_no_signer(daemon: FakeDaemon, given: str) -> None:
    with pytest.raises(Failure, match="neither a file nor"):
        ctl(daemon, "signer", "add", given)


# --- how it ends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [["nonsense"], ["peers", "--nonsense"], ["join"], ["invite", "--uses", "many"], ["secrets", "set", "x"]],
)
def test_usage_is_one_line(words: list[str]) -> None:
    with pytest.raises(Failure) as caught:
        run(words)
    assert caught.value.status == EXIT_USAGE
    assert "--help`" in caught.value.remedy


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["statsu"], "no such command 'statsu' (did you mean 'status'?)"),
        (["rollout", "histroy"], "no such command 'histroy' (did you mean 'history'?)"),
        (["admin", "propose", "setings"], "no such command 'setings' (did you mean 'setting'?)"),
        (["admin", "lisst"], "no such command 'lisst' (did you mean 'list'?)"),
        (["nonsense"], "no such command 'nonsense'"),
        (["peers", "--jsn"], "no such option '--jsn' (did you mean '--json'?)"),
    ],
)
def test_what_is_mistyped_is_told_the_nearest(words: list[str], why: str) -> None:
    with pytest.raises(Failure) as caught:
        run(words)
    assert (caught.value.why, caught.value.status) == (why, EXIT_USAGE)


@pytest.mark.parametrize("group", ["admin", "admin propose", "repo", "rollout", "secrets", "signer"])
def test_lists_of_commands_are_whole_sentences(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*group.split(), "--help"]) == EXIT_DONE
    text = capsys.readouterr().out
    assert "..." not in text.partition("Commands:")[2]
    assert max(map(len, text.splitlines())) <= 80


def test_the_process_says_it_in_one_line_and_with_its_status(tmp_path: Path) -> None:
    finished = process(["--runtime-dir", str(tmp_path), "peers"])
    assert finished.returncode == 3
    assert finished.stderr.startswith("clanctl: clanmeshd is not running: ")
    assert finished.stderr.count("\n") == 1
    assert process(["peers", "--nonsense"]).returncode == EXIT_USAGE
    assert process([]).returncode == EXIT_USAGE


def test_a_refusal_reaches_stderr(daemon: FakeDaemon) -> None:
    daemon.says(
        peers=Fault("no-clan", "this device is in no clan", "nothing was founded", "run `clanctl init NAME`")
    )
    finished = process(["peers"], env={"CLANMESH_RUNTIME_DIR": str(daemon.runtime)})
    assert finished.returncode == 1
    assert finished.stderr == (
        "clanctl: this device is in no clan: nothing was founded; run `clanctl init NAME`\n"
    )


def test_a_full_disk_is_one_line(daemon: FakeDaemon) -> None:
    daemon.says(peers=PEERS)
    with Path("/dev/full").open("w") as full:
        finished = subprocess.run(
            [sys.executable, "-m", "clanctl", "--runtime-dir", str(daemon.runtime), "peers"],
            stdout=full,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'protocol'}"},
            check=False,
        )
    assert finished.returncode == 1
    assert "No space left on device" in finished.stderr
    assert finished.stderr.count("\n") == 1


def test_a_closed_pipe_is_silent(daemon: FakeDaemon) -> None:
    daemon.says(peers=PEERS)
    reading, writing = os.pipe()
    os.close(reading)
    finished = subprocess.run(
        [sys.executable, "-m", "clanctl", "--runtime-dir", str(daemon.runtime), "peers"],
        stdout=writing,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'protocol'}"},
        check=False,
    )
    os.close(writing)
    assert finished.returncode == EXIT_PIPE_CLOSED
    assert finished.stderr == b""


def test_a_narrow_encoding_is_no_reason_to_fail(daemon: FakeDaemon) -> None:
    daemon.says(rollout_log={"text": "größer →"})
    finished = process(
        ["rollout", "log"], env={"CLANMESH_RUNTIME_DIR": str(daemon.runtime), "PYTHONIOENCODING": "ascii"}
    )
    assert finished.returncode == 0
    assert finished.stdout == "gr??er ?\n"


def test_a_defect_of_ours_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def defect() -> int:
        raise KeyError("missing")

    monkeypatch.delenv("CLANMESH_DEBUG", raising=False)
    assert guarded("clanctl", defect) == 1
    text = capsys.readouterr().err
    assert "internal error: KeyError: 'missing'" in text
    assert "journalctl" in text
    assert "Traceback" not in text
    monkeypatch.setenv("CLANMESH_DEBUG", "1")
    guarded("clanctl", defect)
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_ends_quietly(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    assert guarded("clanctl", interrupted) == EXIT_INTERRUPTED
    assert capsys.readouterr().err == ""


def test_peers_imports_little(daemon: FakeDaemon) -> None:
    """What makes an answer slow is what is imported; the figure itself is measured in bench/."""
    daemon.says(peers=PEERS)
    code = (
        "import sys; from clanctl.cli import run; "
        f"run(['--runtime-dir', {str(daemon.runtime)!r}, 'peers', '--json']); "
        "heavy = {'rich', 'segno', 'nacl', 'trio', 'asyncio', 'clanmeshd', 'importlib.metadata'}; "
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'protocol'}"},
        check=True,
    )
    assert finished.stderr == "[]\n"
