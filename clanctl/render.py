"""What the daemon answers, as people read it. Pure: values in, tables and lines out.

The daemon's answers are read with tolerance: what a later version leaves out or adds does not break the view.
"""

import base64
import binascii
import hashlib
import time
from typing import Final

from clanctl.answers import Values, part_of, rows_of, word_of
from clanctl.sheets import Cell, Column, Sheet, Tone, sheet

COMMIT_DIGITS: Final = 7  # as git shortens them
KEY_TEXT_WORDS: Final = 2  # of a signer line: type and key; the rest is the comment

STATE_TONES: Final[dict[str, Tone]] = {"up": "good", "suspect": "warn", "down": "bad", "unknown": "faint"}
REVISION_TONES: Final[dict[str, Tone]] = {
    "current": "good",
    "rolled-back": "bad",
    "failed": "bad",
    "held": "warn",
    "behind": "warn",
}


# --- small texts ---------------------------------------------------------------------------------------


def duration(seconds: float) -> str:
    """Spell a span in its largest unit: `12 s`, `3 min`, `5 h`, `2 d`."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(max(seconds, 0))} s"


def moment(unix_s: float) -> str:
    """Spell a time as local people read it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(unix_s))


def short_commit(commit: str | None) -> str:
    """Shorten a commit id."""
    return commit[:COMMIT_DIGITS] if commit else "none"


def size(count: int) -> str:
    """Spell a count of bytes."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("GB has no limit")


# --- peers ---------------------------------------------------------------------------------------------

_PEER_COLUMNS: Final = (
    Column("NAME"),
    Column("STATE"),
    Column("PATH", 1),
    Column("RUNS", 1),
    Column("ADDRESS", 3),
    Column("SECRETS", 2, right=True),
    Column("ROLE", 4),
    Column("TAGS", 4),
    Column("ENDPOINT", 5),
    Column("RECEIVED", 6, right=True),
    Column("SENT", 6, right=True),
)


def peers_title(result: Values) -> str:
    """The line above the table."""
    peers = rows_of(result, "peers")
    up = sum(1 for peer in peers if peer.get("state") == "up")
    return (
        f"{word_of(part_of(result, 'clan').get('name'))}: {up} of {len(peers)} up, seen from {_self_text(result)}"
    )


def peers_sheet(result: Values) -> Sheet:
    """Every device: who it is, whether it lives, how it is reached and what it runs."""
    return sheet(_PEER_COLUMNS, [_peer_row(peer) for peer in rows_of(result, "peers")])


def _peer_row(peer: Values) -> list[Cell | str]:
    secrets, tunnel = part_of(peer, "secrets"), part_of(peer, "wireguard")
    failed = secrets.get("state") == "failed"
    return [
        word_of(peer.get("name")),
        _state(peer),
        _path(part_of(peer, "path")),
        _revision(part_of(peer, "revision")),
        word_of(peer.get("address")),
        Cell("failed", "bad") if failed else word_of(secrets.get("epoch")),
        _role(peer),
        " ".join(map(str, rows_of(peer, "tags"))),
        word_of(part_of(peer, "path").get("endpoint")),
        size(int(tunnel.get("rx_bytes") or 0)),
        size(int(tunnel.get("tx_bytes") or 0)),
    ]


def _role(peer: Values) -> Cell:
    if peer.get("confirmed") is False:
        return Cell("unconfirmed", "warn")
    return Cell("admin" if peer.get("admin") else "")


def _state(peer: Values) -> Cell:
    state, seen = word_of(peer.get("state")), peer.get("last_seen_s")
    text = state if state in ("up", "unknown") or seen is None else f"{state} {duration(seen)}"
    return Cell(text, STATE_TONES.get(state, "plain"))


def _path(path: Values) -> str:
    kind, rtt_ms = word_of(path.get("kind")), path.get("rtt_ms")
    if path.get("via"):
        kind = f"{kind} by {path['via']}"
    return f"{kind} {rtt_ms:.1f} ms" if isinstance(rtt_ms, int | float) and kind != "self" else kind


def _revision(revision: Values) -> Cell:
    state, commit = word_of(revision.get("state")), revision.get("commit")
    if not commit and not revision.get("wanted"):
        return Cell("nothing yet", "faint")
    return Cell(f"{short_commit(commit)} {state}", REVISION_TONES.get(state, "plain"))


def peers_notes(result: Values) -> list[str]:
    """What the table has no room for and somebody should know."""
    notes = []
    for peer in rows_of(result, "peers"):
        name, revision = peer.get("name"), part_of(peer, "revision")
        wanted = short_commit(revision.get("wanted"))
        match revision.get("state"):
            case "rolled-back":
                notes.append(f"{name}: {wanted} was not healthy there and was undone")
            case "failed":
                notes.append(f"{name}: {wanted} could not be switched to")
            case "held":
                notes.append(f"{name}: rollout is held; see `clanctl rollout status` there")
        if part_of(peer, "secrets").get("state") == "failed":
            notes.append(f"{name}: its secrets could not be placed; see `clanctl status` there")
        notes += [f"{name}: {why}" for why in _why_not_direct(part_of(peer, "path"), word_of(peer.get("state")))]
        if peer.get("confirmed") is False:
            notes.append(f"{name}: no admin's device has confirmed it yet; until then it gets no secrets")
    return notes


def _why_not_direct(path: Values, state: str) -> list[str]:
    why, next_try_s = path.get("why_not_direct"), path.get("next_try_s")
    if not why or (state == "up" and path.get("kind") != "relay"):
        return []
    again = f"; tried again in {duration(float(next_try_s))}" if isinstance(next_try_s, int | float) else ""
    return [f"not direct: {why}{again}" if path.get("kind") == "relay" else f"{why}{again}"]


# --- status --------------------------------------------------------------------------------------------


def status_text(result: Values) -> str:
    """This device in a few lines, then what is wrong."""
    overlay, revision, secrets = (part_of(result, key) for key in ("overlay", "revision", "secrets"))
    why = f" ({overlay['why']})" if overlay.get("why") else ""
    authority, mapping = part_of(result, "authority"), part_of(result, "port_mapping")
    facts = [
        ("clan", f"{part_of(result, 'clan').get('name')} ({part_of(result, 'clan').get('id')})"),
        ("device", f"{result.get('self') or 'no member'} at {result.get('address')}"),
        *([("id", word_of(result["id"]))] if result.get("id") else []),
        ("overlay", f"{overlay.get('state')} on {overlay.get('interface')}{why}{_next_key_text(overlay)}"),
        *([("names", _names_text(part_of(result, "names")))] if result.get("names") else []),
        *([("router", _mapping_text(mapping))] if mapping else []),
        ("runs", _runs_text(revision)),
        ("secrets", f"{word_of(secrets.get('state'))}, epoch {word_of(secrets.get('epoch'))}"),
        ("daemon", f"{result.get('version')}, up for {duration(float(result.get('uptime_s') or 0))}"),
        ("records", word_of(result.get("records"))),
        *([("admins", _authority_text(authority))] if authority else []),
    ]
    return "\n".join([f"{name:<9}{value}" for name, value in facts] + [""] + _health(result)) + "\n"


def _health(result: Values) -> list[str]:
    problems = rows_of(result, "problems")
    found = [f"problem: {_with_remedy(problem)}" for problem in problems]
    if not result.get("healthy"):
        found = found or ["problem: the daemon calls itself unhealthy and names no reason"]
    notices = [f"notice: {_with_remedy(notice)}" for notice in rows_of(result, "notices")]
    return [*found, *notices, *([] if found else ["healthy"])]


def _self_text(result: Values) -> str:
    return word_of(result["self"]) if result.get("self") else "this device, which is no member"


def _runs_text(revision: Values) -> str:
    if not revision.get("commit") and not revision.get("wanted"):
        return "nothing yet: `clanctl repo init PATH` begins a repository"
    return f"{short_commit(revision.get('commit'))} {word_of(revision.get('state'))}"


def _mapping_text(mapping: Values) -> str:
    ipv4, ipv6 = part_of(mapping, "ipv4"), part_of(mapping, "ipv6")
    named = ((ipv4.get("control"), "here"), (ipv4.get("tunnel"), "WireGuard"))
    forwarded = " and ".join(f"{place} to {what}" for place, what in named if place)
    facts = [
        f"forwards {forwarded} ({word_of(ipv4.get('by'))})" if forwarded else "forwards nothing",
        *([f"lets IPv6 in ({word_of(ipv6.get('by'))})"] if ipv6.get("control") else []),
    ]
    why = word_of(ipv4.get("why"))
    return "; ".join(facts) + (f": {why}" if why else "")


def _next_key_text(overlay: Values) -> str:
    return f"; changing to tunnel key {overlay['next_key']}" if overlay.get("next_key") else ""


def _names_text(names: Values) -> str:
    domain = f"*.{names['domain']}" if names.get("domain") else "none yet"
    if names.get("by"):
        return f"{domain}, looked up by {word_of(names['by'])}"
    why = f" ({names['why']})" if names.get("why") else ""
    return f"{domain}, not given to the system{why}"


def _authority_text(authority: Values) -> str:
    heard = authority.get("acknowledged_age_s")
    age = f"heard {duration(heard)} ago" if isinstance(heard, int | float) else "not heard yet"
    waiting = f"; {authority['pending']} waiting: `clanctl admin pending`" if authority.get("pending") else ""
    return f"{authority.get('admins')}, {age}{waiting}"


def _with_remedy(problem: Values) -> str:
    what, remedy = word_of(problem.get("what")), word_of(problem.get("remedy"))
    return f"{what}; {remedy}" if remedy else what


# --- joining -------------------------------------------------------------------------------------------


def introduction_text(result: Values, verb: str) -> str:
    """What a new member reads: who it is now."""
    clan = part_of(result, "clan")
    return f"{verb} {clan.get('name')} ({clan.get('id')})\nthis device is {result.get('self')} at " + (
        f"{result.get('address')}\n"
    )


def invite_text(result: Values) -> str:
    """The token and how to use it."""
    until = moment(float(result.get("expires_unix_s") or 0))
    reach = ", ".join(map(str, rows_of(result, "endpoints"))) or "no address is known: the LAN's mDNS alone"
    withdrawn = ", ".join(map(str, rows_of(result, "withdrawn")))
    earlier = f"Withdrawn for it:   {withdrawn}, which was for the same place\n" if withdrawn else ""
    return (
        f"{result.get('token')}\n\n"
        f"On the new device:  clanctl join TOKEN\n"
        f"It is good until {until}; whoever reads it can join.\n"
        f"It leads to {reach}.\n"
        f"To withdraw it:     clanctl invite revoke {word_of(result.get('id'))}\n{earlier}"
    )


# --- signers, secrets, rollout -------------------------------------------------------------------------


def signers_sheet(result: Values) -> Sheet:
    """The keys that may sign, by fingerprint as `ssh-keygen -l` spells it."""
    columns = (Column("FINGERPRINT"), Column("TYPE", 1), Column("COMMENT"))
    return sheet(columns, [_signer_row(str(line)) for line in rows_of(result, "signers")])


def _signer_row(line: str) -> list[Cell | str]:
    words = [*line.split(maxsplit=KEY_TEXT_WORDS), "", ""]
    return [fingerprint(words[1]), words[0], words[2]]


def fingerprint(key: str) -> str:
    """Name a key of an authorized_keys line (base64) as OpenSSH does."""
    try:
        digest = hashlib.sha256(base64.b64decode(key, validate=True)).digest()
    except binascii.Error:
        return "unreadable"
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def secrets_sheet(result: Values) -> Sheet:
    """The secrets' names and who may read them."""
    columns = (
        Column("NAME"),
        Column("EPOCH", 2, right=True),
        Column("FOR", 1),
        Column("READ BY", 1),
        Column("OWNER", 3),
        Column("MODE", 3),
        Column("HERE"),
    )
    return sheet(columns, [_secret_row(secret) for secret in rows_of(result, "secrets")])


def _secret_row(secret: Values) -> list[Cell | str]:
    return [
        word_of(secret.get("name")),
        word_of(secret.get("epoch")),
        " ".join(map(str, rows_of(secret, "targets"))),
        " ".join(map(str, rows_of(secret, "recipients"))),
        f"{secret.get('owner')}:{secret.get('group')}",
        f"{int(secret.get('mode') or 0):04o}",
        Cell("placed", "good") if secret.get("placed") else Cell("no", "faint"),
    ]


def rollout_text(result: Values) -> str:
    """Where this device is."""
    facts = [
        ("wanted", short_commit(result.get("wanted"))),
        ("runs", short_commit(result.get("commit"))),
        ("state", word_of(result.get("state"))),
        ("last good", short_commit(result.get("last_good"))),
        ("bad", ", ".join(short_commit(str(bad)) for bad in rows_of(result, "bad"))),
        ("heads", ", ".join(head_text(head) for head in rows_of(result, "heads"))),
        ("why", word_of(result.get("why"))),
        ("reboot for", ", ".join(map(str, rows_of(result, "reboot")))),
    ]
    return "".join(f"{name:<11}{value}\n" for name, value in facts if value)


def head_text(head: Values) -> str:
    """One of the heads that diverge, and who signed it."""
    return f"{short_commit(head.get('commit'))} by {word_of(head.get('signer'))}"


def history_sheet(result: Values) -> Sheet:
    """What was tried, the newest last."""
    columns = (Column("WHEN", 1), Column("COMMIT"), Column("STATE"), Column("TOOK", 2, right=True), Column("WHY"))
    return sheet(columns, [_attempt_row(entry) for entry in rows_of(result, "entries")])


def _attempt_row(entry: Values) -> list[Cell | str]:
    state, seconds = word_of(entry.get("state")), entry.get("seconds")
    return [
        moment(float(entry.get("at_unix_s") or 0)),
        short_commit(entry.get("commit")),
        Cell(state, REVISION_TONES.get(state, "plain")),
        f"{seconds:.1f} s" if isinstance(seconds, int | float) else "",
        word_of(entry.get("why")),
    ]
