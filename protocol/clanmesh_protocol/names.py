"""What may be called what: the syntax of names, tags, accounts and commits, in one place."""

import re

from clanmesh_protocol.errors import MalformedError
from clanmesh_protocol.limits import NAME_BYTES_MAX, TAG_BYTES_MAX

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_SECRET = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]*")
_ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]*\$?")

COMMIT_BYTES = (20, 32)
TAG_ALL = "all"  # every member has it without being given it


def is_label(text: str, bytes_max: int = NAME_BYTES_MAX) -> bool:
    """Say whether `text` is a lower-case DNS label (RFC 1035, digits allowed first as in RFC 1123)."""
    return 0 < len(text) <= bytes_max and _LABEL.fullmatch(text) is not None


def check_label_untrusted(text: str, what: str, bytes_max: int = NAME_BYTES_MAX) -> str:
    """Give `text` back if it is a label. Raises MalformedError."""
    if not is_label(text, bytes_max):
        raise MalformedError(f"{what} {text!r} is not of a-z, 0-9 and inner hyphens, at most {bytes_max}")
    return text


def check_tags_untrusted(tags: tuple[str, ...]) -> tuple[str, ...]:
    """Give tags back if they are labels, sorted, each once. Raises MalformedError."""
    for tag in tags:
        check_label_untrusted(tag, "tag", TAG_BYTES_MAX)
    if list(tags) != sorted(set(tags)):
        raise MalformedError("tags are not sorted, or one is there twice")
    return tags


def check_commit_untrusted(commit: bytes, what: str) -> bytes:
    """Give `commit` back if it can be git's name of one: SHA-1 or SHA-256. Raises MalformedError."""
    if len(commit) not in COMMIT_BYTES:
        raise MalformedError(f"{what} has {len(commit)} bytes: neither SHA-1 nor SHA-256")
    return commit


def is_secret_name(text: str) -> bool:
    """Say whether `text` can be a file name of ours: no slash, no leading dot."""
    return 0 < len(text) <= NAME_BYTES_MAX and _SECRET.fullmatch(text) is not None


def is_account(text: str) -> bool:
    """Say whether `text` can name a user or group of the system."""
    return 0 < len(text) <= NAME_BYTES_MAX and _ACCOUNT.fullmatch(text) is not None
