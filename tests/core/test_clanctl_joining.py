"""Invites and tokens at the command line: what is asked for, and what a bad token says before anybody is asked."""

import io
import sys
import time
from typing import Any

import pytest

from clanctl.commands.clan import check_token
from clanctl.failures import EXIT_DONE, EXIT_USAGE, Failure
from clanctl.options import seconds
from clanmesh_protocol.keys import ClanId, NodeId, RecordId
from clanmesh_protocol.tokens import TOKEN_PREFIX, Token, encode_bech32m, encode_token
from tests.core.clanctl_fake import FakeDaemon, ctl


def token(expires_in_s: float) -> Token:
    return Token(
        clan=ClanId(bytes(16)),
        clan_name="family",
        invite_seed=bytes(32),
        invite_id=RecordId(bytes(32)),
        authority_head=RecordId(bytes(32)),
        inviter=NodeId(bytes(32)),
        floor=1,
        discovery=bytes(16),
        expires_unix_s=int(time.time() + expires_in_s),
        endpoints=(),
    )


def test_a_code_is_drawn_only_where_somebody_looks(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.says(invite={"token": "clan1qpzry", "expires_unix_s": time.time() + 60, "endpoints": ["192.0.2.1:1"]})
    ctl(daemon, "invite", "--tag", "b", "--tag", "a", "--ttl", "2h", "--uses", "3")
    assert "█" not in capsys.readouterr().out
    assert daemon.args("invite") == {"name": None, "tags": ["b", "a"], "uses": 3, "ttl_s": 7200}
    ctl(daemon, "invite", "--qr")
    assert "█" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "expected"), [("90", 90), ("90s", 90), ("30M", 1800), ("12h", 43_200), ("7d", 604_800)]
)
def test_spans(text: str, expected: int) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "0", "-1", "1w", "1.5h", "h", "9" * 20])
def test_what_is_no_span(text: str) -> None:
    with pytest.raises(Failure) as caught:
        seconds(text)
    assert caught.value.status == EXIT_USAGE


# --- tokens --------------------------------------------------------------------------------------------


def test_a_good_token_is_passed_on(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = encode_token(token(3600))

    def join(request: Any, line: Any) -> dict[str, Any]:
        line.send(progress="looking for a member")
        return {"clan": {"id": "0", "name": "family"}, "self": "nas", "address": "fd00::2"}

    daemon.answers["join"] = join
    assert ctl(daemon, "join", text) == EXIT_DONE
    heard = capsys.readouterr()
    assert "looking for a member" in heard.err
    assert "joined family" in heard.out
    monkeypatch.setattr(sys, "stdin", io.StringIO(text + "\n"))
    assert ctl(daemon, "join", "-", "--name", "tv") == EXIT_DONE
    assert daemon.args("join") == {"token": text + "\n", "name": "tv"}


def damaged(text: str) -> str:
    return text[:40] + ("q" if text[40] != "q" else "p") + text[41:]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is empty"),
        ("hello", "not a token"),
        (damaged(encode_token(token(3600))), "damaged"),
        (encode_token(token(3600))[:-9], "damaged"),
        (encode_token(token(3600)).capitalize(), "mixed"),
        (encode_token(token(-7200)), "it expired 2 h ago"),
        (encode_bech32m(TOKEN_PREFIX, b"\x63" + bytes(80)), "later version"),
        ("clan1" + "q" * 60_000, "at most"),
    ],
)
def test_a_bad_token_is_told_about_before_anybody_is_asked(daemon: FakeDaemon, text: str, why: str) -> None:
    with pytest.raises(Failure) as caught:
        ctl(daemon, "join", text)
    assert caught.value.what == "the token"
    assert why in caught.value.why
    assert caught.value.remedy
    assert daemon.asked == []


def test_a_clock_that_is_a_little_off_does_not_refuse() -> None:
    assert check_token(encode_token(token(-60)), time.time()).clan_name == "family"
