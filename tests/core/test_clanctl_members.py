"""Members who come, change and go: what the commands ask for, what they say before and after; and events."""

import json
from typing import Any

import pytest

from clanctl import render_members
from clanctl.commands.devices import changes_of, unaware_of
from clanctl.failures import EXIT_DONE, EXIT_USAGE, Failure
from clanctl.sheets import fitted, plain
from clanmesh_protocol.control import Fault
from tests.core.clanctl_fake import FakeDaemon, ctl
from tests.core.clanctl_terminal import at_a_terminal

NODE = "a" * 52
KEPT: dict[str, Any] = {"credentials": [], "revocations": 0, "invites_lapsed": [], "dropped": []}
REMOVED = {"node": NODE, "name": "nas", "state": "done", "decision": None, "kept": KEPT, "exposed": ["wifi"]}
PEERS: dict[str, Any] = {
    "clan": {"id": "0", "name": "family"},
    "self": "laptop",
    "peers": [
        {"name": "laptop", "id": "b" * 52, "state": "up", "tags": [], "admin": True},
        {"name": "nas", "id": NODE, "state": "up", "tags": ["backup"], "admin": True},
        {"name": "tv", "id": "c" * 52, "state": "down", "tags": [], "admin": False},
    ],
}
SECRETS = {"secrets": [{"name": "wifi", "recipients": ["laptop", "nas"]}, {"name": "mail", "recipients": ["tv"]}]}
INVITE: dict[str, Any] = {
    "id": "0011223344556677",
    "by": "laptop",
    "name": "nas",
    "tags": ["backup"],
    "uses": 1,
    "used": 2,
    "expires_unix_s": 0,
    "state": "contested",
    "succeeds": None,
    "redeemed_by": [
        {"id": NODE, "name": "nas", "state": "waiting"},
        {"id": "b" * 52, "name": "tv", "state": "member"},
    ],
}
LEFT = {"clan": "family", "told": 1, "members": 2, "kept": "/var/lib/clanmesh/left-family"}
EVENT = {"id": 5, "at_unix_s": 0, "kind": "alarm", "text": "a\nb\x1b[0m", "node": None, "severity": "problem"}

CALLS: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("rename nas cellar", "rename", {"node": "nas", "name": "cellar"}, {"before": "nas", "name": "cellar"}),
    (
        "tag nas +home -backup -h +x",
        "tag",
        {"node": "nas", "add": ["home", "x"], "remove": ["backup", "h"]},
        {"name": "nas", "tags": ["home", "x"], "had_not": ["backup"]},
    ),
    ("renew nas", "renew", {"node": "nas", "days": None}, {"name": "nas", "expires_unix_s": 1_800_000_000}),
    ("renew nas --days 9", "renew", {"node": "nas", "days": 9}, {"name": "nas", "expires_unix_s": 1}),
    ("renew nas --for-ever", "renew", {"node": "nas", "days": 0}, {"name": "nas", "expires_unix_s": 0}),
    ("leave --yes", "leave", {"force": False}, LEFT),
    ("leave --force --yes", "leave", {"force": True}, LEFT),
    ("invite list", "invite-list", {}, {"invites": [INVITE]}),
    ("invite list", "invite-list", {}, {"invites": []}),
    ("invite revoke 0011 --yes", "invite-revoke", {"id": "0011"}, {"id": INVITE["id"], "dropped": ["tv"]}),
    (
        "invite confirm 0011 nas",
        "invite-confirm",
        {"id": "0011", "node": "nas"},
        {"id": INVITE["id"], "node": NODE, "name": "nas", "out": ["b" * 52], "left": 0},
    ),
    ("rotate", "rotate", {}, {"number": 2, "begun": True}),
    ("rotate", "rotate", {}, {"number": None, "begun": False}),
    ("events", "events", {}, {"events": [EVENT], "newest": 5}),
    (
        "remove nas --reason sold --distrust 2h --yes",
        "remove",
        {"node": "nas", "reason": "sold", "distrust_s": 7200},
        REMOVED,
    ),
]


@pytest.fixture
def daemon(daemon: FakeDaemon) -> FakeDaemon:
    daemon.says(peers=PEERS, secrets_list=SECRETS)
    return daemon


@pytest.mark.parametrize(("words", "call", "asked", "result"), CALLS, ids=[entry[0] for entry in CALLS])
def test_each_command_asks_and_answers_in_both_forms(
    daemon: FakeDaemon,
    capsys: pytest.CaptureFixture[str],
    words: str,
    call: str,
    asked: dict[str, Any],
    result: dict[str, Any],
) -> None:
    daemon.says(**{call: result})
    assert ctl(daemon, *words.split()) == EXIT_DONE
    assert daemon.args(call) == asked
    out = capsys.readouterr().out
    assert out.strip()
    assert "\x1b" not in out
    assert ctl(daemon, *words.split(), "--json") == EXIT_DONE
    assert json.loads(capsys.readouterr().out) == result


@pytest.mark.parametrize(
    "words",
    [
        "tag nas",
        "tag nas home",
        "tag nas +",
        "tag nas --nonsense",
        "renew nas --days 0",
        "renew nas --days 2 --for-ever",
        "rename nas",
        "remove",
        "remove nas --distrust soon",
        "invite nas",
        "invite --uses 2 list",
        "invite revoke",
        "events --lines -1",
    ],
)
def test_usage(daemon: FakeDaemon, words: str) -> None:
    with pytest.raises(Failure) as caught:
        ctl(daemon, *words.split())
    assert caught.value.status == EXIT_USAGE
    assert caught.value.remedy
    assert daemon.asked == []


def test_tags_keep_their_order() -> None:
    assert changes_of(["+b", "-c", "+a,d"]) == (["b", "a", "d"], ["c"])


# --- invites -------------------------------------------------------------------------------------------


def test_an_invite_that_replaces_says_whom(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    answer = {"token": "clan1q", "id": "0", "expires_unix_s": 1, "endpoints": [], "withdrawn": ["5570aabb"]}
    daemon.says(invite=answer)
    assert ctl(daemon, "invite", "--replace", "nas", "--expires", "2h", "--tags", "a,b", "--tag", "c") == EXIT_DONE
    asked = {"name": None, "tags": ["a", "b", "c"], "uses": 1, "ttl_s": 7200, "succeeds": "nas"}
    assert daemon.args("invite") == asked
    said = capsys.readouterr().out
    assert "takes the place and the name of nas" in said
    assert "5570aabb, which was for the same place" in said


def test_too_many_who_came_are_told_apart() -> None:
    text = plain(render_members.invites_sheet({"invites": [INVITE]}))
    assert "contested" in text
    assert "nas aaaaaaaaaa (waiting), tv" in text
    assert "nas +backup" in text
    assert "clanctl invite confirm 0011223344556677" in render_members.invites_notes({"invites": [INVITE]})
    narrow = plain(fitted(render_members.invites_sheet({"invites": [INVITE]}), 80))
    assert max(map(len, narrow.splitlines())) <= 80
    replaces = render_members.invites_sheet({"invites": [{**INVITE, "succeeds": "nas"}]})
    assert "in place of nas" in plain(replaces)


def test_who_was_shut_out() -> None:
    result = {"id": "00", "node": NODE, "name": "nas", "out": ["b" * 52], "left": 0}
    assert render_members.confirmed_text(result) == "nas (aaaaaaaaaa) is in\nshut out: bbbbbbbbbb\n"
    assert "2 more may be confirmed" in render_members.confirmed_text({**result, "out": [], "left": 2})


# --- removing ------------------------------------------------------------------------------------------


def test_at_a_terminal_it_is_said_what_will_happen(daemon: FakeDaemon) -> None:
    daemon.says(remove={**REMOVED, "unaware": ["tv"], "invite": {"id": "0011", "left": 2}})
    status, shown = at_a_terminal(daemon.runtime, ["remove", "nas"], "y")
    assert status == EXIT_DONE, shown
    for word in ("tunnels", "gossip", "could read wifi:", "admin ", "had 2 uses left", "nas is out of family"):
        assert word in shown


def test_at_a_terminal_no_is_no(daemon: FakeDaemon) -> None:
    daemon.says(remove={**REMOVED, "state": "planned"})
    status, shown = at_a_terminal(daemon.runtime, ["remove", "na"], "n")
    assert status == 1
    assert "Remove nas?" in shown, "as the daemon calls it"
    assert "nothing was changed" in shown
    assert all(request.args["dry"] for request in daemon.asked if request.call == "remove")
    status, shown = at_a_terminal(daemon.runtime, ["leave"], "n")
    assert status == 1
    assert "leave" not in {request.call for request in daemon.asked}


def test_a_program_has_to_say_yes(daemon: FakeDaemon) -> None:
    daemon.says(remove=REMOVED, invite_revoke={"id": INVITE["id"], "dropped": ["tv"]})
    for words in (["remove", "nas"], ["leave"], ["invite", "revoke", "0011"]):
        with pytest.raises(Failure, match="give --yes") as caught:
            ctl(daemon, *words)
        assert caught.value.status == EXIT_USAGE
    assert all(request.args.get("dry") for request in daemon.asked if request.call != "peers")


def test_an_admin_that_left_by_force_is_told_the_truth() -> None:
    assert "an admin still" in render_members.left_text({**LEFT, "was_admin": True})
    assert "1 of 2 others know it" in render_members.left_text(LEFT)


def test_at_a_terminal_yes_asks_nothing(daemon: FakeDaemon) -> None:
    daemon.says(remove=REMOVED)
    status, shown = at_a_terminal(daemon.runtime, ["remove", "nas", "--yes"])
    assert status == EXIT_DONE, shown
    assert "[y/N]" not in shown


def test_an_admin_who_is_not_out_yet(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    waiting = {
        "state": "pending",
        "id": "ab" * 32,
        "operation": "end nas being an admin",
        "signed_by": ["laptop"],
        "weight": 1,
        "needed": 2,
        "approvers": ["tv"],
    }
    daemon.says(remove={**REMOVED, "state": "pending", "decision": waiting})
    assert ctl(daemon, "remove", "nas", "--yes") == EXIT_DONE
    out = capsys.readouterr().out
    assert out.startswith("nas is not out yet")
    assert "clanctl admin approve ababababab" in out
    assert "not told yet" not in out
    assert "when it is out" in out


def test_who_has_not_learnt_of_it() -> None:
    assert unaware_of({"name": "nas"}, PEERS) == ["tv"]
    assert unaware_of({"name": "nas", "unaware": []}, PEERS) == []
    assert unaware_of({"name": "nas", "unaware": ["laptop"]}, PEERS) == ["laptop"]


def test_a_refusal_of_removing_is_one_line(daemon: FakeDaemon) -> None:
    daemon.says(remove=Fault("refused", "removing laptop", "it is this device itself", "run `clanctl leave`"))
    with pytest.raises(Failure, match="itself"):
        ctl(daemon, "remove", "laptop", "--yes")


# --- events --------------------------------------------------------------------------------------------


def test_following_goes_on_where_it_was(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    def answer(request: Any, line: Any) -> dict[str, Any]:
        after = request.args.get("after")
        if after == 6:
            raise Fault("failed", "the test", "it ends here")
        found = [{**EVENT, "id": 6}] if after else [{**EVENT, "id": 4}, EVENT]
        return {"events": found, "newest": 6 if after else 5}

    daemon.answers["events"] = answer
    with pytest.raises(Failure, match="it ends here"):
        ctl(daemon, "events", "--follow", "--json", "--lines", "1")
    shown = [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()]
    assert shown == [5, 6]
    assert [request.args.get("after") for request in daemon.asked] == [None, 5, 6]


def test_an_event_is_one_line_that_steers_no_terminal(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.says(events={"events": [EVENT], "newest": 5})
    ctl(daemon, "events")
    out = capsys.readouterr().out
    assert out.endswith("  problem: a b[0m\n")
    assert out.count("\n") == 1


def test_the_newest_lines_of_many(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    many = [{**EVENT, "id": number, "text": str(number)} for number in range(100)]
    daemon.says(events={"events": many, "newest": 99})
    ctl(daemon, "events")
    assert len(capsys.readouterr().out.splitlines()) == 50
    ctl(daemon, "events", "--json")
    assert len(json.loads(capsys.readouterr().out)["events"]) == 100
    ctl(daemon, "events", "-n", "2", "--json")
    assert [event["id"] for event in json.loads(capsys.readouterr().out)["events"]] == [98, 99]
    ctl(daemon, "events", "-n", "0")
    assert capsys.readouterr().out == ""


def test_an_answer_of_another_version_is_still_shown() -> None:
    for answer in ({}, {"invites": [{}], "kept": 3, "decision": None}, {"invites": 1, "out": None}):
        plain(render_members.invites_sheet(answer))
        for view in (
            render_members.invites_notes,
            render_members.withdrawn_text,
            render_members.confirmed_text,
            render_members.tagged_text,
            render_members.renewed_text,
            render_members.left_text,
            render_members.rotated_text,
            render_members.event_line,
        ):
            view(answer)
        render_members.removal_text(answer, "family", [])
        render_members.removal_plan(answer, "family", answer)


def test_where_nothing_happened_that_is_said(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.says(events={"events": [], "newest": 5})
    ctl(daemon, "events")
    assert capsys.readouterr().out == "nothing happened since the daemon was started\n"
    ctl(daemon, "events", "--json")
    assert json.loads(capsys.readouterr().out)["events"] == []
