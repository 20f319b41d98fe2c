"""`clanctl secrets` where nobody chooses the value, and where a removed device knows it."""

import io
import sys
from pathlib import Path

import pytest

from clanctl.commands.secrets import RANDOM_BYTES_DEFAULT, exposed_notes
from clanctl.failures import EXIT_DONE, EXIT_USAGE, Failure
from clanmesh_protocol.control import Fault
from tests.core.clanctl_fake import FakeDaemon, ctl
from tests.core.clanctl_terminal import at_a_terminal

DONE = {"name": "db", "epoch": 4, "recipients": ["desk", "nas"]}


@pytest.mark.parametrize(
    ("words", "count"), [(["--random"], RANDOM_BYTES_DEFAULT), (["--random", "16"], 16), (["--random=8"], 8)]
)
def test_a_random_value_is_asked_for_and_none_is_read(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str], words: list[str], count: int
) -> None:
    daemon.says(secrets_set=DONE)
    assert ctl(daemon, "secrets", "set", "db", "--for", "all", *words) == EXIT_DONE
    args = daemon.args("secrets-set")
    assert args["random"] == count
    assert "value" not in args
    assert capsys.readouterr().out == "db (epoch 4) can be read by: desk nas\n"


@pytest.mark.parametrize("words", [["--random", "0"], ["--random", "many"], ["--random", "--file", "/dev/null"]])
def test_what_is_no_random_value(daemon: FakeDaemon, words: list[str]) -> None:
    with pytest.raises(Failure) as caught:
        ctl(daemon, "secrets", "set", "db", "--for", "all", *words)
    assert caught.value.status == EXIT_USAGE
    assert daemon.asked == []


def test_a_random_one_is_rotated_without_a_word(daemon: FakeDaemon) -> None:
    daemon.says(secrets_list={"secrets": [{"name": "db", "random_bytes": 24}]}, secrets_rotate=DONE)
    assert ctl(daemon, "secrets", "rotate", "db") == EXIT_DONE
    assert daemon.args("secrets-rotate") == {"name": "db"}


def test_a_persons_is_rotated_to_what_the_person_gives(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    daemon.says(secrets_list={"secrets": [{"name": "db", "random_bytes": 0}]}, secrets_rotate=DONE)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"next")))
    ctl(daemon, "secrets", "rotate", "db")
    assert daemon.args("secrets-rotate") == {"name": "db", "value": b"next"}
    (tmp_path / "value").write_bytes(b"from a file")
    ctl(daemon, "secrets", "rotate", "db", "--file", str(tmp_path / "value"))
    assert daemon.args("secrets-rotate") == {"name": "db", "value": b"from a file"}
    ctl(daemon, "secrets", "rotate", "db", "--random")
    assert daemon.args("secrets-rotate") == {"name": "db", "random": RANDOM_BYTES_DEFAULT}


def test_a_secret_that_is_not_there_is_for_the_daemon_to_refuse(daemon: FakeDaemon) -> None:
    daemon.says(
        secrets_list={"secrets": []}, secrets_rotate=Fault("not-found", "secret 'db'", "there is none", "x")
    )
    with pytest.raises(Failure, match="there is none"):
        ctl(daemon, "secrets", "rotate", "db")


def test_an_exposed_value_is_shown_with_its_remedy(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"name": "wifi", "epoch": 3, "exposed": ["tv (removed)"], "remedy": "clanctl secrets rotate wifi"},
        {"name": "db", "epoch": 3, "exposed": [], "remedy": None},
        {"name": "of-an-older-daemon"},
    ]
    daemon.says(secrets_list={"secrets": rows})
    ctl(daemon, "secrets", "list")
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "wifi: tv (removed) knows this value; `clanctl secrets rotate wifi`"
    assert exposed_notes({}) == exposed_notes({"secrets": rows[1:]}) == []


# --- at a terminal -------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["set", "db", "--for", "nsa"], ["rotate", "db"]])
def test_nobody_types_a_value_in_vain(daemon: FakeDaemon, words: list[str]) -> None:
    fault = Fault("not-found", "--for nsa", "no device and no tag is called that", "see `clanctl peers`")
    listed = {"secrets": [{"name": "db", "random_bytes": 0}]}
    daemon.says(secrets_list=listed, secrets_set=fault, secrets_rotate=fault)
    status, shown = at_a_terminal(daemon.runtime, ["secrets", *words])
    assert (status, "value of" in shown, "no device and no tag" in shown) == (1, False, True)
    assert daemon.args(f"secrets-{words[0]}")["check"] is True


def test_what_is_typed_twice_is_the_value(daemon: FakeDaemon) -> None:
    daemon.says(secrets_set=DONE)
    status, shown = at_a_terminal(daemon.runtime, ["secrets", "set", "db", "--for", "all"], "hunter2", "hunter2")
    assert (status, "can be read by: desk nas" in shown) == (EXIT_DONE, True)
    args = [request.args for request in daemon.asked]
    assert [(each.get("check"), each.get("value")) for each in args] == [(True, None), (None, b"hunter2")]
