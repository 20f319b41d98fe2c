"""The client's side of the control socket: what it makes of each way in which a daemon can be absent or wrong."""

import os
import socket
from pathlib import Path

import pytest

from clanctl.client import Conversation, Instance, call, instance
from clanctl.failures import EXIT_FAILED, EXIT_UNREACHABLE, EXIT_USAGE, Failure, one_line, printable
from clanmesh_protocol.control import SOCKET_NAME, Fault
from tests.core.clanctl_fake import RAW, FakeDaemon


def at(runtime: Path) -> Instance:
    return Instance(runtime / "state", runtime)


def failure_of(where: Instance, name: str = "peers") -> Failure:
    with pytest.raises(Failure) as caught:
        call(where, name)
    return caught.value


def test_a_result_comes_back_as_it_was_sent(daemon: FakeDaemon) -> None:
    value = {"peers": [{"name": "nas", "rtt_ms": 0.7, "via": None}], "raw": b"\0\xff"}
    daemon.says(peers=value)
    assert call(at(daemon.runtime), "peers", {"a": 1}) == value
    assert daemon.args("peers") == {"a": 1}


def test_progress_is_heard_before_the_result(daemon: FakeDaemon) -> None:
    def join(request: object, line: object) -> str:
        line.send(progress="looking")  # type: ignore[attr-defined]
        line.send(progress="found")  # type: ignore[attr-defined]
        return "done"

    daemon.answers["join"] = join
    heard: list[str] = []
    assert call(at(daemon.runtime), "join", progress=heard.append) == "done"
    assert heard == ["looking", "found"]


def test_items_end_with_the_result(daemon: FakeDaemon) -> None:
    def watch(request: object, line: object) -> None:
        for number in range(3):
            line.send(item=number)  # type: ignore[attr-defined]

    daemon.answers["watch"] = watch
    with Conversation.open(at(daemon.runtime)) as conversation:
        conversation.ask("watch", {})
        assert list(conversation.items()) == [0, 1, 2]


@pytest.mark.parametrize(("kind", "status"), [("usage", EXIT_USAGE), ("refused", EXIT_FAILED)])
def test_a_refusal_keeps_its_words(daemon: FakeDaemon, kind: str, status: int) -> None:
    daemon.says(invite=Fault(kind, "inviting", "this device is no admin", "do it on nas"))
    failure = failure_of(at(daemon.runtime), "invite")
    assert str(failure) == "inviting: this device is no admin; do it on nas"
    assert (failure.status, failure.kind) == (status, kind)


def test_a_refusal_without_fields_is_still_a_line(daemon: FakeDaemon) -> None:
    def peers(request: object, line: object) -> object:
        line.send(error=None)  # type: ignore[attr-defined]
        return RAW

    daemon.answers["peers"] = peers
    assert "without a reason" in str(failure_of(at(daemon.runtime)))


def test_nobody_listens(tmp_path: Path) -> None:
    failure = failure_of(at(tmp_path))
    assert failure.status == EXIT_UNREACHABLE
    assert "not running" in str(failure)
    assert f"clanmeshd --state-dir {tmp_path}/state --runtime-dir {tmp_path}" in failure.remedy


def test_a_socket_that_a_killed_daemon_left(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as plain:
        plain.bind(os.fspath(tmp_path / SOCKET_NAME))
    failure = failure_of(at(tmp_path))
    assert failure.status == EXIT_UNREACHABLE
    assert "left by one that is gone" in failure.why


def test_a_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert failure_of(at(tmp_path / "file")).status == EXIT_UNREACHABLE


def test_a_path_that_is_too_long_for_a_socket(tmp_path: Path) -> None:
    failure = failure_of(at(tmp_path / ("x" * 120)))
    assert "longer than a socket's name" in failure.why
    assert failure.status == EXIT_UNREACHABLE


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b"", "ended the conversation"),
        (b"\0\0", "ended the conversation"),
        (b"\0\0\0\x05\x81", "ended the conversation"),
        (b"\xff\xff\xff\xff", "does not speak as clanctl"),
        (b"\0\0\0\x01\xc1", "does not speak as clanctl"),
        (b"\0\0\0\x01\xc0", "does not speak as clanctl"),
    ],
)
def test_an_answer_that_is_none(daemon: FakeDaemon, sent: bytes, why: str) -> None:
    def peers(request: object, line: object) -> object:
        line.socket.sendall(sent)  # type: ignore[attr-defined]
        return RAW

    daemon.answers["peers"] = peers
    assert why in failure_of(at(daemon.runtime)).why


def test_a_daemon_that_stands_still(daemon: FakeDaemon) -> None:
    def peers(request: object, line: object) -> object:
        line.socket.recv(1)  # type: ignore[attr-defined]  # until the client gives up
        return RAW

    daemon.answers["peers"] = peers
    with pytest.raises(Failure, match="does not answer") as caught:
        call(at(daemon.runtime), "peers", timeout_s=0.05)
    assert caught.value.status == EXIT_UNREACHABLE


def test_nothing_is_read_behind_the_result(daemon: FakeDaemon) -> None:
    def raw(request: object, line: object) -> object:
        line.send(result={})  # type: ignore[attr-defined]
        line.socket.sendall(b"0000git")  # type: ignore[attr-defined]
        return RAW

    daemon.answers["git-upload-pack"] = raw
    with Conversation.open(at(daemon.runtime)) as conversation:
        conversation.ask("git-upload-pack", {})
        assert conversation.result() == {}
        assert conversation.socket.recv(100, socket.MSG_WAITALL) == b"0000git"


def test_a_refusal_in_the_midst_of_sending_is_read(daemon: FakeDaemon) -> None:
    daemon.says(push=Fault("refused", "the push", "it is too large"))
    with Conversation.open(at(daemon.runtime)) as conversation:
        conversation.ask("push", {})
        for _ in range(50):
            conversation.send({"data": bytes(65_536)})
        with pytest.raises(Failure, match="it is too large"):
            conversation.result()


def test_the_instance_is_chosen_by_option_then_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLANMESH_RUNTIME_DIR", "/run/other")
    assert instance().runtime_directory == Path("/run/other")
    assert instance(runtime_directory="/run/given").runtime_directory == Path("/run/given")
    monkeypatch.delenv("CLANMESH_RUNTIME_DIR")
    assert instance().is_default


def test_text_of_others_cannot_steer_a_terminal() -> None:
    assert printable("a\x1b[2Jb\u202ec\n") == "a[2Jbc\n"
    assert one_line("first\n  second\x07\r") == "first second"
    assert str(Failure("a\nb", "c\x1b]0;x", "d")) == "a b: c]0;x; d"


def test_who_may_not_speak_with_the_daemon_is_told_how(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: object, address: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    failure = failure_of(at(daemon.runtime))
    assert (failure.status, failure.what) == (EXIT_UNREACHABLE, "no permission to speak to clanmeshd")
    assert failure.remedy == 'use sudo, or `sudo usermod --append --groups clanmesh "$USER"` and log in again'
