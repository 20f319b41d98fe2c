"""The recovery key at the command line: shown once, read unseen, and looked at before anybody is asked."""

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from clanctl.failures import EXIT_DONE, EXIT_USAGE, Failure
from clanctl.paper import grouped, no_paper, paper
from clanmesh_protocol.control import Fault
from clanmesh_protocol.tokens import decode_recovery_untrusted, encode_recovery
from tests.core.clanctl_fake import FakeDaemon, ctl
from tests.core.clanctl_terminal import at_a_terminal

SEED = bytes(range(32))
KEY = encode_recovery(SEED)
INTRODUCTION = {"clan": {"id": "0", "name": "family"}, "self": "laptop", "address": "fd00::1"}
CLAN = {"clan": {"id": "0", "name": "family"}, "self": "laptop", "peers": []}
NOTHING_KEPT: dict[str, Any] = {"credentials": [], "revocations": 0, "invites_lapsed": [], "dropped": []}
DONE = {"state": "done", "id": "ab" * 32, "operation": "make nas an admin of weight 1"}


@pytest.fixture
def daemon(daemon: FakeDaemon) -> FakeDaemon:
    daemon.says(peers=CLAN)
    return daemon


def recovered(**changed: Any) -> dict[str, Any]:
    return {
        "drill": False,
        "holds": True,
        "decisions": [],
        "kept": NOTHING_KEPT,
        "recovery": None,
        "note": None,
        **changed,
    }


# --- shown ---------------------------------------------------------------------------------------------


def test_a_key_on_paper_can_be_typed_again() -> None:
    assert decode_recovery_untrusted(grouped(KEY)) == SEED
    assert decode_recovery_untrusted(grouped(KEY).upper()) == SEED
    assert max(map(len, grouped(KEY).splitlines())) <= 40


def test_the_paper_and_its_absence_fit_any_terminal() -> None:
    for text in (paper(KEY, "family"), paper(KEY, "family", proposed=True), no_paper()):
        assert max(map(len, text.splitlines())) <= 80


def test_init_shows_the_key_once_and_says_what_it_is_for(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.says(init={**INTRODUCTION, "recovery": KEY})
    ctl(daemon, "init", "family", "--node-name", "laptop")
    out = capsys.readouterr().out
    assert out.count(grouped(KEY).splitlines()[-1]) == 1
    assert "clanctl admin recover --drill" in out
    assert "█" not in out
    assert daemon.args("init") == {"name": "family", "node_name": "laptop", "signers": [], "no_recovery": False}
    ctl(daemon, "init", "family", "--qr")
    assert "█" in capsys.readouterr().out


def test_a_clan_can_do_without(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.says(init={**INTRODUCTION, "recovery": None})
    ctl(daemon, "init", "family", "--no-recovery-key")
    assert daemon.args("init")["no_recovery"] is True
    out = capsys.readouterr().out
    assert "has no recovery key" in out
    assert "clanrecovery" not in out


def test_a_new_key_is_shown(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.says(admin_propose={**DONE, "kept": NOTHING_KEPT, "recovery": KEY, "note": "the former one holds"})
    ctl(daemon, "admin", "propose", "recovery", "--yes")
    out = capsys.readouterr().out
    assert grouped(KEY).splitlines()[-1] in out
    assert "recovery key of family" in out
    assert "note: the former one holds" in out
    assert daemon.args("admin-propose") == {"operation": "recovery", "none": False}


def test_a_new_key_that_is_only_proposed_says_so(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    waiting = {**DONE, "state": "pending", "kept": NOTHING_KEPT, "recovery": KEY, "note": None}
    daemon.says(admin_propose=waiting)
    ctl(daemon, "admin", "propose", "recovery", "--yes")
    out = capsys.readouterr().out
    assert grouped(KEY).splitlines()[-1] in out
    assert "This is only proposed. It is not in force" in out
    assert "This is the recovery key" not in out
    daemon.says(admin_propose={**waiting, "state": "done"})
    ctl(daemon, "admin", "propose", "recovery", "--yes")
    assert "only proposed" not in capsys.readouterr().out


# --- read ----------------------------------------------------------------------------------------------


def test_a_drill_from_a_file_and_from_stdin(
    daemon: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.says(admin_recover=recovered(drill=True, note="this is the key"))
    (tmp_path / "key").write_text(f"\n  {grouped(KEY)}\n")
    assert ctl(daemon, "admin", "recover", "--drill", "--key", str(tmp_path / "key")) == EXIT_DONE
    for words in (["--key", "-"], []):
        monkeypatch.setattr(sys, "stdin", io.StringIO(f"{KEY}\n"))
        assert ctl(daemon, "admin", "recover", "--drill", *words) == EXIT_DONE
        asked = daemon.args("admin-recover")
        assert decode_recovery_untrusted(asked["key"]) == SEED
        assert asked["drill"] is True
    assert capsys.readouterr().out == "the key is right: this is the key\n" * 3


@pytest.mark.parametrize(
    ("spelled", "why"),
    [
        ("", "it is empty"),
        ("hello", "one begins with clanrecovery1"),
        (KEY[:-1], "it is damaged"),
        (KEY[:20] + ("p" if KEY[20] == "q" else "q") + KEY[21:], "it is damaged"),
        (KEY.capitalize(), "mixed"),
    ],
)
def test_a_wrong_letter_is_found_before_anybody_is_asked(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, spelled: str, why: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(spelled))
    with pytest.raises(Failure) as caught:
        ctl(daemon, "admin", "recover", "--drill")
    assert why in caught.value.why
    assert "paper" in caught.value.remedy
    assert [request.call for request in daemon.asked] == ["peers"]


def test_a_file_that_cannot_be_read(daemon: FakeDaemon, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name, why in (("nowhere", "No such file"), ("binary", "no text")):
        with pytest.raises(Failure, match=why):
            ctl(daemon, "admin", "recover", "--drill", "--key", str(tmp_path / name))


def test_the_key_is_no_argument(daemon: FakeDaemon) -> None:
    for words in (["admin", "recover", "--drill", KEY], ["admin", "recover", KEY]):
        with pytest.raises(Failure) as caught:
            ctl(daemon, *words)
        assert caught.value.status == EXIT_USAGE
    assert daemon.asked == []


def test_nothing_to_do_is_said_before_the_key_is_asked_for(daemon: FakeDaemon) -> None:
    with pytest.raises(Failure, match="nothing is to be done") as caught:
        ctl(daemon, "admin", "recover")
    assert caught.value.status == EXIT_USAGE


def test_at_a_terminal_the_key_is_asked_for_and_not_shown(daemon: FakeDaemon) -> None:
    daemon.says(admin_recover=recovered(drill=True))
    status, shown = at_a_terminal(daemon.runtime, ["admin", "recover", "--drill"], KEY)
    assert status == EXIT_DONE, shown
    assert "the key is right" in shown
    assert KEY[-12:] not in shown
    assert decode_recovery_untrusted(daemon.args("admin-recover")["key"]) == SEED


@pytest.mark.parametrize(("answer", "happens"), [("y", True), ("n", False)])
def test_at_a_terminal_a_change_is_confirmed(daemon: FakeDaemon, answer: str, happens: bool) -> None:
    daemon.says(admin_recover=recovered(decisions=[DONE], recovery=KEY))
    words = ["admin", "recover", "--add", "nas", "--remove", "laptop", "--new-key", "--no-qr"]
    status, shown = at_a_terminal(daemon.runtime, words, KEY, answer)
    assert "Make nas an admin, put laptop out for ever, make the key on this paper void?" in shown
    assert (status == EXIT_DONE) is happens
    assert any(request.call == "admin-recover" for request in daemon.asked) is happens
    assert ("done: make nas an admin" in shown) is happens
    assert (grouped(KEY).splitlines()[-1] in shown) is happens
    assert ("nothing was changed" in shown) is not happens


# --- what comes of it ----------------------------------------------------------------------------------


def test_what_is_asked_for(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon.says(admin_recover=recovered(decisions=[DONE]))
    monkeypatch.setattr(sys, "stdin", io.StringIO(KEY))
    ctl(daemon, "admin", "recover", "--add", "nas", "--remove", "laptop", "--new-key", "--distrust", "7d")
    assert daemon.args("admin-recover") == {
        "key": KEY,
        "drill": False,
        "add": "nas",
        "remove": "laptop",
        "new_key": True,
        "distrust_s": 604_800,
    }


def test_a_refusal_keeps_its_words(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon.says(admin_recover=Fault("refused", "the recovery key", "it was replaced", "use the newest one"))
    monkeypatch.setattr(sys, "stdin", io.StringIO(KEY))
    with pytest.raises(Failure, match="replaced"):
        ctl(daemon, "admin", "recover", "--drill")
