"""Vectors of what admins say about the rollout: directives, and operations that end a fork."""

from collections.abc import Iterator
from typing import Any

from clanmesh_protocol.keys import fingerprint_slot
from tests.vectors.cases_content import COMMIT, COMMIT_SHA256, case
from tests.vectors.cases_operations import operation
from tests.vectors.chains import ANN, BEN, Story, removing
from tests.vectors.form import Vector
from tests.vectors.people import FOUNDER, MEMBER, sign_payload

OTHER = bytes(range(1, 21))
THIRD = bytes(range(2, 22))
PAUSE_SLOT = fingerprint_slot(b"\x01main")
PROMOTE_SLOT = fingerprint_slot(b"\x02main")
RETRY_SLOT = fingerprint_slot(b"\x03main")
LATER_SLOT = fingerprint_slot(b"\x09main")
RESOLUTIONS_MAX = 64
ABANDONED_MAX = 16

Directive = tuple[str, list[Any]]  # slot, payload
SOUND: dict[str, Directive] = {
    "pause": (PAUSE_SLOT, [1, "main", 7, None, "holidays"]),
    "resume": (PAUSE_SLOT, [0, "main", 8, None, ""]),
    "promote": (PROMOTE_SLOT, [2, "main", 1, COMMIT, ""]),
    "retry": (RETRY_SLOT, [3, "main", 1, COMMIT_SHA256, "the disk was full"]),
}
RESOLUTION = [129, "main", COMMIT, [OTHER, THIRD]]


def all_cases() -> Iterator[Vector]:
    """Give every vector of this module."""
    yield from sound_directives()
    yield from faulty_directives()
    yield from resolutions()
    yield from chains()


def directive(slot: str, payload: list[Any] | bytes) -> bytes:
    """Sign a directive."""
    return sign_payload(FOUNDER, 15, slot, payload)


def sound_directives() -> Iterator[Vector]:
    """One of each, and what may come later."""
    for name, (slot, payload) in SOUND.items():
        yield case(f"ok-directive-{name}", "ok", f"an admin's word: {name}", directive(slot, payload))
    longer = directive(PAUSE_SLOT, [1, "main", 7, None, "", b"later"])
    yield case("ok-directive-trailing-field", "ok", "a field of a later version is ignored", longer)
    later = directive(LATER_SLOT, [9, "main", 1, None, ""])
    yield case("ok-directive-later-verb", "ok", "kept, and asks for nothing", later)
    yield case("ok-directive-tombstone", "ok", "withdrawn", directive(PROMOTE_SLOT, b""))
    slot, payload = SOUND["pause"]
    member = sign_payload(MEMBER, 15, slot, payload)
    yield case("ok-directive-by-a-member", "ok", "kept like any member's word; it counts for nothing", member)


def faulty_directives() -> Iterator[Vector]:
    """One fault each."""
    wrong: dict[str, tuple[str, list[Any], str, str]] = {
        "ref-path": (fingerprint_slot(b"\x01../main"), [1, "../main", 7, None, ""], "malformed", "no label"),
        "number-negative": (PAUSE_SLOT, [1, "main", -1, None, ""], "malformed", "below 0"),
        "number-nil": (PAUSE_SLOT, [1, "main", None, None, ""], "malformed", "no number"),
        "promote-nothing": (PROMOTE_SLOT, [2, "main", 1, None, ""], "malformed", "no commit to promote"),
        "retry-nothing": (RETRY_SLOT, [3, "main", 1, None, ""], "malformed", "no commit to try again"),
        "commit-19-bytes": (PROMOTE_SLOT, [2, "main", 1, bytes(19), ""], "malformed", "a commit that is cut"),
        "commit-33-bytes": (PROMOTE_SLOT, [2, "main", 1, bytes(33), ""], "limit", "a commit over 32 bytes"),
        "reason-129-bytes": (PAUSE_SLOT, [1, "main", 7, None, "x" * 129], "limit", "a reason over 128 bytes"),
        "reason-escape": (PAUSE_SLOT, [1, "main", 7, None, "\x1b[2J"], "malformed", "a terminal escape"),
        "reason-missing": (PAUSE_SLOT, [1, "main", 7, None], "malformed", "the last field is missing"),
        "verb-256": (PAUSE_SLOT, [256, "main", 7, None, ""], "limit", "a verb over one byte"),
        "other-ref": (fingerprint_slot(b"\x01stable"), [1, "main", 7, None, ""], "malformed", "the slot of a ref"),
        "other-topic": (PROMOTE_SLOT, [1, "main", 7, None, ""], "malformed", "the slot of another topic"),
        "resume-slot": (
            fingerprint_slot(b"\x00main"),
            [0, "main", 8, None, ""],
            "malformed",
            "a resume takes its pause's place",
        ),
    }
    for name, (slot, payload, expect, comment) in wrong.items():
        yield case(f"directive-{name}", expect, comment, directive(slot, payload))


def resolutions() -> Iterator[Vector]:
    """The payload of an operation that ends a fork."""
    most = [bytes([number]) * 20 for number in range(ABANDONED_MAX)]
    yield case("ok-resolution", "ok", "two heads are left for a third", operation(RESOLUTION))
    yield case("ok-resolution-16", "ok", "as many as may be", operation([129, "main", COMMIT, most]))
    wrong: dict[str, tuple[Any, str, str]] = {
        "nothing": ([129, "main", COMMIT, []], "malformed", "nothing is left"),
        "17": ([129, "main", COMMIT, [*most, b"\xff" * 20]], "limit", "more than 16"),
        "unsorted": ([129, "main", COMMIT, [THIRD, OTHER]], "malformed", "heads out of order"),
        "twice": ([129, "main", COMMIT, [OTHER, OTHER]], "malformed", "one head twice"),
        "itself": ([129, "main", COMMIT, [COMMIT]], "malformed", "the head that stands"),
        "head-nil": ([129, "main", None, [OTHER]], "malformed", "none stands"),
        "head-33-bytes": ([129, "main", bytes(33), [OTHER]], "limit", "a commit over 32 bytes"),
        "abandoned-19-bytes": ([129, "main", COMMIT, [bytes(19)]], "malformed", "a commit that is cut"),
        "abandoned-missing": ([129, "main", COMMIT], "malformed", "the last field is missing"),
        "ref-capital": ([129, "Main", COMMIT, [OTHER]], "malformed", "no label"),
    }
    for name, (payload, expect, comment) in wrong.items():
        yield case(f"resolution-{name}", expect, comment, operation(payload))


def chains() -> Iterator[Vector]:
    """What resolutions do to the state."""
    story = Story((ANN, 1), (BEN, 1))
    done = story.operation(ANN, RESOLUTION, story.genesis)
    yield story.ends("resolution-routine", "one of two admins ends a fork", done, resolutions=1)

    story = Story((ANN, 1))
    first = story.operation(ANN, RESOLUTION, story.genesis)
    other = story.operation(ANN, [129, "stable", COMMIT, [OTHER]], first)
    again = story.operation(ANN, RESOLUTION, other)
    yield story.ends("resolution-repeated", "without effect, wherever it stands", again, resolutions=2)

    story = Story((ANN, 1))
    head = story.genesis
    for number in range(RESOLUTIONS_MAX + 1):
        head = story.operation(ANN, [129, "main", COMMIT, [bytes([number + 1]) * 20]], head)
    yield story.ends("resolution-65th", "the newest 64", head, resolutions=RESOLUTIONS_MAX)

    story = Story((ANN, 1), (BEN, 1))
    done = story.operation(BEN, RESOLUTION, story.genesis)
    gone = story.operation(ANN, removing(BEN), done, BEN)
    yield story.ends(
        "resolution-outlives-its-author",
        "the fork stays ended",
        gone,
        admins=[(ANN, 1)],
        pinned=[BEN],
        resolutions=1,
    )
