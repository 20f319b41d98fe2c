"""Deciding at the command line: what is asked for, and how decisions, proposals and admins are shown."""

import json
from typing import Any

import pytest

from clanctl import render_admins
from clanctl.failures import EXIT_DONE, EXIT_USAGE, Failure
from clanctl.sheets import fitted, plain
from clanmesh_protocol.control import Fault
from tests.core.clanctl_fake import FakeDaemon, ctl

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJbVmx3lVxqmsXQ4hFQHnq2uWsQ0H0jD4Zl5mDZbRr3a me@laptop"
NOTHING_KEPT: dict[str, Any] = {"credentials": [], "revocations": 0, "invites_lapsed": [], "dropped": []}
NOW = 1_800_000_000.0


def decision(state: str = "pending", **changed: Any) -> dict[str, Any]:
    return {
        "state": state,
        "id": "0123456789abcdef" * 4,
        "number": 3,
        "operation": "make tv an admin of weight 1",
        "author": "laptop",
        "signed_by": ["laptop"],
        "weight": 1,
        "needed": 2,
        "approvers": ["nas", "tv"] if state == "pending" else [],
        "at_unix_s": NOW,
        **changed,
    }


def admin(name: str, **changed: Any) -> dict[str, Any]:
    return {
        "name": name,
        "id": "a" * 52,
        "weight": 1,
        "self": False,
        "state": "up",
        "acknowledged_unix_s": NOW - 120,
        "acknowledged_number": 3,
        "agrees": True,
        **changed,
    }


ADMINS: dict[str, Any] = {
    "admins": [admin("laptop", self=True), admin("nas", state="down", agrees=False, acknowledged_number=2)],
    "total_weight": 2,
    "thresholds": {"govern": 0, "routine": 0},
    "needed": {"govern": 2, "routine": 1},
    "recovery": "b" * 52,
    "head": "c" * 64,
    "number": 3,
    "final": {"id": "d" * 64, "number": 0},
    "acknowledged_age_s": 300_000.0,
    "stale": True,
    "settings": {"credential-days": "90"},
    "signers": 1,
    "pending": 1,
}
PROPOSED = {**decision("done"), "kept": NOTHING_KEPT, "recovery": None, "note": "both must agree"}
PENDING: dict[str, Any] = {
    "pending": [{**decision(), "mine": True}],
    "lost": [{"id": "e" * 64, "number": 2, "operation": "take back colour", "author": "nas", "at_unix_s": NOW}],
}


# --- what is asked for ---------------------------------------------------------------------------------

PROPOSALS: list[tuple[str, dict[str, Any]]] = [
    ("add nas", {"operation": "add", "node": "nas", "weight": 1}),
    ("propose add nas --weight 2", {"operation": "add", "node": "nas", "weight": 2}),
    ("remove nas --yes", {"operation": "remove", "node": "nas", "distrust_s": None}),
    ("propose remove nas --distrust 1h --yes", {"operation": "remove", "node": "nas", "distrust_s": 3600}),
    ("propose replace nas tv --yes", {"operation": "replace", "node": "nas", "by": "tv", "distrust_s": None}),
    ("propose thresholds --govern 3", {"operation": "thresholds", "govern": 3, "routine": None}),
    ("propose recovery --none --yes", {"operation": "recovery", "none": True}),
    (
        "propose setting x-colour blue",
        {"operation": "setting", "name": "x-colour", "value": "blue", "force": False},
    ),
    ("propose setting hue '' --force", {"operation": "setting", "name": "hue", "value": "", "force": True}),
    ("withdraw 0123", {"operation": "withdrawal", "id": "0123"}),
    ("propose checkpoint abc", {"operation": "checkpoint", "commit": "abc", "force": False}),
]


@pytest.mark.parametrize(("words", "asked"), PROPOSALS, ids=[words for words, _ in PROPOSALS])
def test_proposals(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str], words: str, asked: dict[str, Any]
) -> None:
    daemon.says(admin_propose=PROPOSED, peers={"clan": {"name": "family"}, "peers": []})
    arguments = [word.strip("'") for word in words.split()]
    assert ctl(daemon, "admin", *arguments) == EXIT_DONE
    assert daemon.args("admin-propose") == asked
    assert "done: make tv an admin" in capsys.readouterr().out
    assert ctl(daemon, "admin", *arguments, "--json") == EXIT_DONE
    assert json.loads(capsys.readouterr().out) == PROPOSED


@pytest.mark.parametrize(
    "words", ["remove nas", "propose remove nas", "propose replace nas tv", "propose recovery --none"]
)
def test_a_program_has_to_say_yes(daemon: FakeDaemon, words: str) -> None:
    daemon.says(admin_propose=PROPOSED, peers={"clan": {"name": "family"}, "peers": []})
    with pytest.raises(Failure, match="give --yes") as caught:
        ctl(daemon, "admin", *words.split())
    assert caught.value.status == EXIT_USAGE
    assert "admin-propose" not in {request.call for request in daemon.asked}


@pytest.mark.parametrize(
    "words",
    [
        "propose thresholds",
        "propose nonsense",
        "add",
        "add nas --weight 0",
        "remove nas --distrust ever",
        "approve",
    ],
)
def test_usage(daemon: FakeDaemon, words: str) -> None:
    with pytest.raises(Failure) as caught:
        ctl(daemon, "admin", *words.split())
    assert caught.value.status == EXIT_USAGE
    assert daemon.asked == []


def test_approving(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.says(admin_approve=decision("done"))
    assert ctl(daemon, "admin", "approve", "0123") == EXIT_DONE
    assert daemon.args("admin-approve") == {"id": "0123"}
    assert capsys.readouterr().out == "done: make tv an admin of weight 1\n"
    daemon.says(admin_approve=Fault("not-found", "proposal '0123'", "none", "see `clanctl admin pending`"))
    with pytest.raises(Failure, match="0123"):
        ctl(daemon, "admin", "approve", "0123")


@pytest.mark.parametrize(("call", "result"), [("list", ADMINS), ("pending", PENDING)])
def test_lists_have_both_forms(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str], call: str, result: dict[str, Any]
) -> None:
    daemon.says(**{f"admin_{call}": result})
    assert ctl(daemon, "admin", call, "--json") == EXIT_DONE
    assert json.loads(capsys.readouterr().out) == result
    assert ctl(daemon, "admin", call) == EXIT_DONE
    assert "laptop" in capsys.readouterr().out


# --- how it is shown -----------------------------------------------------------------------------------


def test_a_decision_that_waits_names_who_and_how() -> None:
    text = render_admins.decision_text(decision())
    assert text.startswith("pending: make tv an admin of weight 1\n")
    assert "signed by laptop; it lacks a weight of 1, from nas or tv" in text
    assert "clanctl admin approve 0123456789\n" in text
    assert render_admins.decision_text({}) == ""


def test_a_choice_in_words() -> None:
    assert [render_admins.either(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "nobody who is left",
        "a",
        "a or b",
        "a, b or c",
    ]


def test_what_became_of_an_admins_word() -> None:
    kept = {"credentials": ["tv", "desk"], "revocations": 2, "invites_lapsed": ["0011"], "dropped": ["phone"]}
    text = render_admins.kept_text(kept)
    assert "vouches from now on for tv, desk" in text
    assert "2 removals" in text
    assert "invites 0011" in text
    assert "nobody vouches for phone" in text
    assert "\nlapsed: the invites" in text
    waiting = render_admins.proposal_text({**PROPOSED, **decision(), "kept": kept})
    assert "\nwould lapse when it is done: the invites 0011" in waiting
    assert "\nlapsed: the invites" in render_admins.proposal_text({**PROPOSED, "kept": kept})
    assert render_admins.kept_text(NOTHING_KEPT) == ""


def test_admins_and_their_agreement_in_words() -> None:
    rows = plain(render_admins.admins_sheet(ADMINS, NOW)).splitlines()
    assert rows[1].split()[:8] == ["laptop", "(this", "device)", "1", "up", "decision", "3", "2"]
    assert "decision 2, another history" in rows[2]
    text = render_admins.admins_text(ADMINS)
    assert "needs a weight of 2 of 2" in text
    assert "decision 3; settled: the founding" in text
    assert "stale: no admin was heard for 3 d" in text
    assert "setting credential-days 90" in text
    assert "clanctl admin pending" in text
    assert "no key" in render_admins.admins_text({**ADMINS, "recovery": None})
    narrow = plain(fitted(render_admins.admins_sheet(ADMINS, NOW), 80)).splitlines()
    assert max(map(len, narrow)) <= 80


def test_what_waits_and_what_was_lost() -> None:
    text = plain(fitted(render_admins.pending_sheet(PENDING), 80))
    assert max(map(len, text.splitlines())) <= 80
    assert "0123456789  make tv an admin of weight 1" in text
    assert "clanctl admin approve 0123456789" in render_admins.pending_notes(PENDING)
    assert render_admins.pending_notes({"pending": [decision()]}) == ""
    assert "lost: take back colour (by nas" in render_admins.lost_text(PENDING)


def test_an_answer_of_another_version_is_still_shown() -> None:
    answers: list[dict[str, Any]] = [
        {},
        {"admins": [{}], "pending": [{}], "lost": [{}]},
        {"admins": 3, "pending": None},
    ]
    for answer in answers:
        assert plain(render_admins.admins_sheet(answer, NOW)).startswith("ADMIN")
        render_admins.admins_text({**answer, "pending": 0})
        plain(render_admins.pending_sheet(answer))
        render_admins.lost_text(answer)
        render_admins.proposal_text(answer)
        render_admins.recovered_text(answer)


# --- signers -------------------------------------------------------------------------------------------


def test_a_signer_that_waits_is_said(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    waiting = decision(operation="let me@laptop sign commits")
    daemon.says(signer_add={"signers": [], "decision": waiting, "decisions": [waiting]})
    assert ctl(daemon, "signer", "add", KEY) == EXIT_DONE
    out = capsys.readouterr().out
    assert "no signer: nobody can push" in out
    assert "pending: let me@laptop sign commits" in out
    done = decision("done", operation="accept commit 0123 of main and all behind it")
    daemon.says(signer_remove={"signers": [KEY], "decision": waiting, "decisions": [done, waiting]})
    assert ctl(daemon, "signer", "remove", "me@laptop") == EXIT_DONE
    out = capsys.readouterr().out
    assert "pending: let me@laptop" in out
    assert "done:" not in out
    daemon.says(signer_add={"signers": [KEY], "decision": None, "decisions": []})
    ctl(daemon, "signer", "add", KEY)
    assert "pending" not in capsys.readouterr().out
