"""Views are pure: values in, tables and lines out, within 80 columns and with words for every colour."""

import base64
import hashlib
from typing import Any

import pytest

from clanctl import render
from clanctl.qr import drawing, half_blocks, squares, with_margin
from clanctl.sheets import GAP, STYLES, Cell, Column, Sheet, drawn, fitted, plain, sheet

COMMIT = "0123456789abcdef0123456789abcdef01234567"
BAD = "fedcba9876543210fedcba9876543210fedcba98"


def peer(name: str, state: str = "up", **changed: Any) -> dict[str, Any]:
    return {
        "name": name,
        "id": "a" * 52,
        "address": "fd12:3456:789a:bcde:f012:3456:789a:bcde",
        "tags": ["backup", "home"],
        "state": state,
        "path": {
            "kind": "lan",
            "endpoint": "[2001:db8:c1a::123]:51871",
            "via": None,
            "why_not_direct": None,
            "rtt_ms": 0.73,
        },
        "wireguard": {"handshake_age_s": 12, "rx_bytes": 1234, "tx_bytes": 7_654_321},
        "revision": {"commit": COMMIT, "wanted": COMMIT, "state": "current"},
        "secrets": {"epoch": 3, "state": "current"},
        "last_seen_s": 4000.0,
        **changed,
    }


def clan(*peers: dict[str, Any]) -> dict[str, Any]:
    return {"clan": {"id": "c" * 32, "name": "family"}, "self": peers[0]["name"], "peers": list(peers)}


def width(table: Sheet) -> int:
    return max(map(len, plain(table).splitlines()))


def test_peers_fit_80_columns_whatever_their_names() -> None:
    result = clan(
        peer("laptop", path={"kind": "self", "rtt_ms": None}),
        peer("n" * 32, "suspect", path={"kind": "relay", "via": "v" * 32, "rtt_ms": 1234.5}),
        peer("nas", "down", revision={"commit": COMMIT, "wanted": BAD, "state": "rolled-back"}),
    )
    table = fitted(render.peers_sheet(result), 80)
    assert width(table) <= 80
    assert [column.title for column in table.columns[:2]] == ["NAME", "STATE"]


def test_a_small_clan_shows_path_and_revision_in_80_columns() -> None:
    text = plain(fitted(render.peers_sheet(clan(peer("laptop"), peer("nas", "down"))), 80))
    assert "lan 0.7 ms" in text
    assert "0123456 current" in text
    assert "down 1 h" in text


def test_a_pipe_gets_every_column() -> None:
    text = plain(render.peers_sheet(clan(peer("laptop"))))
    assert "fd12:3456:789a:bcde:f012:3456:789a:bcde" in text
    assert "[2001:db8:c1a::123]:51871" in text
    assert "7.7 MB" in text


@pytest.mark.parametrize("columns", [1, 10, 20, 40, 80])
def test_any_width_is_kept(columns: int) -> None:
    table = fitted(render.peers_sheet(clan(peer("a" * 32, "suspect"))), columns)
    assert width(table) <= max(columns, 10)


def test_what_is_cut_says_so() -> None:
    table = fitted(sheet([Column("NAME")], [["abcdefghijkl"]]), 8)
    assert table.rows[0][0].text == "abcdefg…"


def test_the_highest_rank_gives_way_first() -> None:
    columns = [Column("A"), Column("B", 2), Column("C", 1)]
    table = fitted(sheet(columns, [["aaaa", "bbbb", "cccc"]]), 4 + GAP + 4)
    assert [column.title for column in table.columns] == ["A", "C"]


def test_state_is_told_in_words() -> None:
    """Each tone stands beside a word of its own: without colour nothing is lost."""
    for state in render.STATE_TONES:
        cell = render.peers_sheet(clan(peer("nas", state))).rows[0][1]
        assert cell.text.startswith(state)
    for state in render.REVISION_TONES:
        revision = {"commit": COMMIT, "wanted": COMMIT, "state": state}
        assert state in render.peers_sheet(clan(peer("nas", revision=revision))).rows[0][3].text
    assert set(render.STATE_TONES.values()) | set(render.REVISION_TONES.values()) <= set(STYLES)


def test_red_and_green_are_not_told_apart_by_colour() -> None:
    assert not any("red" in style or "green" in style for style in STYLES.values())


def test_notes_name_what_went_wrong() -> None:
    result = clan(
        peer("laptop"),
        peer("nas", revision={"commit": COMMIT, "wanted": BAD, "state": "rolled-back"}),
        peer("tv", secrets={"epoch": 1, "state": "failed"}),
        peer("phone", "down", path={"kind": "none", "why_not_direct": "it does not answer"}),
        peer(
            "desk", path={"kind": "relay", "via": "nas", "why_not_direct": "UDP is blocked here", "next_try_s": 40}
        ),
    )
    notes = "\n".join(render.peers_notes(result))
    assert "nas: fedcba9 was not healthy there and was undone" in notes
    assert "tv: its secrets could not be placed" in notes
    assert "phone: it does not answer" in notes
    assert "desk: not direct: UDP is blocked here; tried again in 40 s" in notes
    assert "laptop" not in notes


def test_an_answer_of_another_version_is_still_shown() -> None:
    for result in ({}, {"peers": [{}]}, {"peers": None, "clan": None}, {"peers": [{"path": [], "secrets": 3}]}):
        assert plain(render.peers_sheet(result)).startswith("NAME")
        render.peers_notes(result)
        render.peers_title(result)
    assert "unhealthy" in render.status_text({})


def test_a_name_cannot_bring_control_characters_or_lines() -> None:
    table = render.peers_sheet(clan(peer("evil\x1b[31m\nname")))
    assert table.rows[0][0].text == "evil[31m name"


def test_rich_draws_what_the_plain_form_says() -> None:
    from rich.console import Console

    table = fitted(render.peers_sheet(clan(peer("laptop"), peer("[bold]nas", "down"))), 80)
    console = Console(width=80, no_color=True, markup=False)
    with console.capture() as capture:
        console.print(drawn(table))
    lines = [line.rstrip() for line in capture.get().splitlines()]
    assert [line.split() for line in lines] == [line.split() for line in plain(table).splitlines()]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (0.4, "0 s"), (59.9, "59 s"), (60, "1 min"), (3600, "1 h"), (86_399, "23 h"), (172_800, "2 d")],
)
def test_durations(seconds: float, text: str) -> None:
    assert render.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_500_000, "1.5 MB"), (10**13, "10000.0 GB")],
)
def test_sizes(count: int, text: str) -> None:
    assert render.size(count) == text


def test_status_tells_problems_with_remedies() -> None:
    result = {
        "clan": {"id": "c" * 32, "name": "family"},
        "self": "nas",
        "address": "fd00::1",
        "healthy": False,
        "problems": [{"what": "overlay: no backend", "remedy": "install wireguard-go"}],
        "id": "n" * 52,
        "overlay": {"state": "down", "interface": "clan0", "why": "no backend", "next_key": 4},
        "names": {"domain": "family.internal", "by": None, "why": "no bus"},
        "uptime_s": 61,
    }
    text = render.status_text(result)
    assert "names    *.family.internal, not given to the system (no bus)\n" in text
    told = {**result, "names": {"domain": "family.internal", "by": "the hosts file", "why": None}}
    assert "names    *.family.internal, looked up by the hosts file\n" in render.status_text(told)
    assert "id       " + "n" * 52 in text
    assert "problem: overlay: no backend; install wireguard-go" in text
    assert "down on clan0 (no backend); changing to tunnel key 4" in text
    assert "up for 1 min" in text
    assert render.status_text({**result, "healthy": True, "problems": []}).endswith("\nhealthy\n")


HERE, WIREGUARD = "100.20.0.1:51871", "100.20.0.1:51872"


@pytest.mark.parametrize(
    ("mapping", "text"),
    [
        (
            {"ipv4": {"by": "PCP", "control": HERE, "tunnel": WIREGUARD, "reason": None, "why": None}},
            f"forwards {HERE} to here and {WIREGUARD} to WireGuard (PCP)",
        ),
        (
            {"ipv4": {"by": "UPnP", "control": HERE, "reason": "refused", "why": "no room"}, "ipv6": {"by": None}},
            f"forwards {HERE} to here (UPnP): no room",
        ),
        (
            {"ipv4": {"by": "PCP", "control": HERE}, "ipv6": {"by": "PCP", "control": "[2a00::1]:51871"}},
            f"forwards {HERE} to here (PCP); lets IPv6 in (PCP)",
        ),
        ({"ipv4": {"reason": "behind-nat", "why": "behind another NAT"}}, "forwards nothing: behind another NAT"),
    ],
)
def test_status_tells_what_the_router_forwards_or_why_nothing(mapping: dict[str, Any], text: str) -> None:
    assert f"router   {text}\n" in render.status_text({"port_mapping": mapping})
    assert "router " not in render.status_text({})


def test_status_tells_notices_apart_from_problems() -> None:
    notice = {"what": "laptop proposes to add tv", "remedy": "`clanctl admin approve 0123`"}
    result = {
        "self": "nas",
        "healthy": True,
        "problems": [],
        "notices": [notice],
        "authority": {"number": 2, "admins": 3, "pending": 1, "acknowledged_age_s": 120.0},
    }
    text = render.status_text(result)
    assert "notice: laptop proposes to add tv; `clanctl admin approve 0123`" in text
    assert text.endswith("\nhealthy\n")
    assert "3, heard 2 min ago; 1 waiting: `clanctl admin pending`" in text
    expelled = {**result, "self": None, "healthy": False, "problems": [{"what": "it was removed", "remedy": ""}]}
    text = render.status_text(expelled)
    assert "no member at" in text
    assert "problem: it was removed\n" in text
    assert "\nhealthy" not in text


def test_roles_are_told_in_words() -> None:
    result = clan(
        peer("laptop", admin=True, confirmed=True), peer("tv", admin=False, confirmed=False), peer("nas")
    )
    table = render.peers_sheet(result)
    at = [column.title for column in table.columns].index("ROLE")
    assert [row[at].text for row in table.rows] == ["admin", "unconfirmed", ""]
    assert [note for note in render.peers_notes(result) if "confirmed" in note] == [
        "tv: no admin's device has confirmed it yet; until then it gets no secrets"
    ]


def test_fingerprints_are_those_of_openssh() -> None:
    blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes(32)
    expected = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    assert render.fingerprint(base64.b64encode(blob).decode()) == f"SHA256:{expected}"
    assert render.fingerprint("!!!") == "unreadable"
    row = render.signers_sheet({"signers": ["ssh-ed25519 AAAA a comment of words"]}).rows[0]
    assert [cell.text for cell in row][1:] == ["ssh-ed25519", "a comment of words"]


def test_secrets_and_history_are_listed() -> None:
    secret = {
        "name": "wifi",
        "epoch": 2,
        "targets": ["all"],
        "recipients": ["laptop", "nas"],
        "owner": "root",
        "group": "adm",
        "mode": 0o440,
        "placed": True,
    }
    text = plain(render.secrets_sheet({"secrets": [secret]}))
    assert text.splitlines()[1].split() == ["wifi", "2", "all", "laptop", "nas", "root:adm", "0440", "placed"]
    entry = {"commit": COMMIT, "state": "failed", "why": "health: exit 1", "at_unix_s": 0, "seconds": 1.25}
    assert "0123456  failed" in plain(render.history_sheet({"entries": [entry]}))
    shown = render.rollout_text({"wanted": BAD, "commit": COMMIT, "state": "held", "why": "a fork", "bad": [BAD]})
    assert shown.splitlines()[0].split() == ["wanted", "fedcba9"]
    assert "last good" in shown


# --- QR codes ------------------------------------------------------------------------------------------


def read_half_blocks(lines: list[str]) -> list[list[bool]]:
    """Turn characters back into squares, True where dark."""
    halves = {"█": (False, False), "▀": (False, True), "▄": (True, False), " ": (True, True)}
    rows: list[list[bool]] = []
    for line in lines:
        rows.append([halves[character][0] for character in line])
        rows.append([halves[character][1] for character in line])
    return rows


def test_a_code_survives_its_drawing() -> None:
    code = squares("clan1" + "qpzry9x8" * 30)
    margin = with_margin(code, 4)
    drawn_again = read_half_blocks(half_blocks(margin))
    assert drawn_again[: len(margin)] == margin
    assert not any(drawn_again[len(margin)] if len(drawn_again) > len(margin) else [])


def test_a_token_of_the_usual_size_fits_80_columns() -> None:
    picture = drawing(squares("clan1" + "q" * 420), 80)
    assert picture is not None
    assert picture.count("\n") <= 45


def test_a_code_takes_capitals_since_they_need_less_room() -> None:
    assert squares("clan1qpzry") == squares("CLAN1QPZRY")


def test_a_code_that_does_not_fit_is_not_drawn() -> None:
    code = squares("clan1" + "q" * 420)
    assert drawing(code, len(code) + 3) is None
    narrow, wide = drawing(code, len(code) + 4), drawing(code, len(code) + 8)
    assert narrow is not None
    assert wide is not None
    assert len(narrow.splitlines()) < len(wide.splitlines())


def test_cells_keep_their_tone_when_cut() -> None:
    table = fitted(sheet([Column("A")], [[Cell("x" * 20, "bad")]]), 10)
    assert table.rows[0][0] == Cell("x" * 9 + "…", "bad")
