"""The kinds of record, and what is true of a kind whatever its payload says."""

from enum import IntEnum
from typing import Final

GENESIS_SLOT: Final = "00000000"
SINGLE_SLOT: Final = "self"  # of the kinds that an author has one register of


class Kind(IntEnum):
    """The kinds of record. 8 and 9 are reserved: the first version let anything stand there."""

    AUTHORITY = 0
    CREDENTIAL = 1
    REVOCATION = 2
    STATUS = 3
    NODE = 4
    HEAD = 5
    SECRET = 6
    SUSPICION = 7
    INVITE = 10
    REDEMPTION = 11
    APPROVAL = 12
    ACKNOWLEDGEMENT = 13
    EQUIVOCATION = 14
    DIRECTIVE = 15


# Soft state: outside the hashed set, never stored on disk, gone after its time to live.
VOLATILE_KINDS = frozenset({Kind.STATUS, Kind.SUSPICION})

# A tombstone would undo what must stand: the authority's history and what it rests on, and that a key is out.
PERMANENT_KINDS = frozenset({Kind.AUTHORITY, Kind.REVOCATION, Kind.APPROVAL, Kind.REDEMPTION})
