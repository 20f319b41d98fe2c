"""`clanctl ping`: what it asks, what it shows, how it exits; with answers, without, and cut short."""

import json
from typing import Any

import pytest

from clanctl import render_ping
from clanctl.failures import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_UNREACHABLE, EXIT_USAGE, Failure
from clanmesh_protocol.control import Fault
from tests.core.clanctl_fake import FakeDaemon, ctl

WHO = {"name": "nas", "id": "abc", "address": "fd00::7"}
LAN = {"kind": "lan", "endpoint": "192.0.2.2:51872", "via": None}
RELAY = {"kind": "relay", "endpoint": "203.0.113.5:51873", "via": "attic"}
NOWHERE = {"kind": "none", "endpoint": None, "via": None}


def item(number: int, rtt_ms: float | None, path: dict[str, Any], why: str | None = None) -> dict[str, Any]:
    return {"sequence": number, "rtt_ms": rtt_ms, "path": path, "why": why}


def gives(daemon: FakeDaemon, *items: dict[str, Any], fault: Fault | None = None) -> None:
    def answer(request: object, line: Any) -> Any:
        for each in (WHO, *items):
            line.send(item=each)
        return fault or {}

    daemon.answers["ping"] = answer


def test_each_round_trip_has_its_path_and_all_a_sum(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    gives(daemon, item(1, 1.25, LAN), item(2, 30.5, RELAY), item(3, None, NOWHERE, "it is down"), item(4, 3, LAN))
    assert ctl(daemon, "ping", "nas", "-c", "4", "-i", "0.5", "-w", "9") == EXIT_DONE
    assert daemon.args("ping") == {"node": "nas", "count": 4, "interval_ms": 500, "within_s": 9}
    assert capsys.readouterr().out.splitlines() == [
        "PING nas (fd00::7) through the tunnel",
        "1: 1.25 ms, lan (192.0.2.2:51872)",
        "2: 30.50 ms, relay by attic (203.0.113.5:51873)",
        "3: no answer: it is down",
        "4: 3.00 ms, lan (192.0.2.2:51872)",
        "nas: 4 sent, 3 answered, 25 % lost; min/avg/max 1.25/11.58/30.50 ms",
    ]


def test_json_is_one_value_with_all_of_it(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    answers = [item(1, 1.0, LAN), item(2, None, NOWHERE, "it is down")]
    gives(daemon, *answers)
    assert ctl(daemon, "ping", "nas", "--json") == EXIT_DONE
    said = json.loads(capsys.readouterr().out)
    assert said == {
        **WHO,
        "answers": answers,
        "sent": 2,
        "received": 1,
        "loss_percent": 50.0,
        "min_ms": 1.0,
        "avg_ms": 1.0,
        "max_ms": 1.0,
    }


def test_no_answer_at_all_has_a_status_of_its_own(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    gives(daemon, item(1, None, NOWHERE, "it is down"))
    assert ctl(daemon, "ping", "nas", "-c", "1") == EXIT_UNREACHABLE
    assert capsys.readouterr().out.endswith("nas: 1 sent, 0 answered, 100 % lost\n")


def test_what_was_measured_is_shown_when_it_ends_in_a_refusal(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    gives(daemon, item(1, 1.0, LAN), fault=Fault("refused", "ping nas", "it left", "see `clanctl events`"))
    with pytest.raises(Failure, match="it left") as caught:
        ctl(daemon, "ping", "nas")
    assert caught.value.status == EXIT_FAILED
    assert "1 sent, 1 answered" in capsys.readouterr().out


def test_a_refusal_before_anything_shows_nothing_else(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.says(ping=Fault("not-found", "member 'toaster'", "there is none", "see `clanctl peers`"))
    with pytest.raises(Failure, match="toaster"):
        ctl(daemon, "ping", "toaster", "--json")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("after", "status"), [(0, EXIT_INTERRUPTED), (1, EXIT_DONE), (2, EXIT_DONE)])
def test_who_is_interrupted_sees_what_there_was(
    daemon: FakeDaemon,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    after: int,
    status: int,
) -> None:
    gives(daemon, *(item(number, 1.0, LAN) for number in (1, 2, 3)))
    shown = []

    def line(each: dict[str, Any]) -> str:
        if len(shown) == after:
            raise KeyboardInterrupt  # as Ctrl-C comes: anywhere
        shown.append(each)
        return "line"

    monkeypatch.setattr(render_ping, "line", line)
    if after == 0:
        monkeypatch.setattr(render_ping, "title", lambda who: line(who))
    assert ctl(daemon, "ping", "nas") == status
    assert ("answered" in capsys.readouterr().out) == (after > 0)


@pytest.mark.parametrize(
    "words",
    [["-c", "0"], ["-c", "10001"], ["-c", "many"], ["-i", "0"], ["-i", "61"], ["-w", "0"], ["-w", "3601"]],
    ids=" ".join,
)
def test_what_is_out_of_bounds_is_not_asked(daemon: FakeDaemon, words: list[str]) -> None:
    with pytest.raises(Failure) as caught:
        ctl(daemon, "ping", "nas", *words)
    assert caught.value.status == EXIT_USAGE
    assert daemon.asked == []


def test_another_versions_answers_break_no_line() -> None:
    assert render_ping.line({}) == ": no answer"
    assert render_ping.line({"sequence": 1, "rtt_ms": 2, "path": None}) == "1: 2.00 ms"
    assert render_ping.line({"sequence": 1, "why": "a\nb\x1b[2J"}) == "1: no answer: a b[2J"
    assert render_ping.summary([])["loss_percent"] is None
