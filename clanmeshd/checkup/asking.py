"""Asks a member for its version and its clock, over a new stream: gossip may bring what was said long ago."""

import time
from typing import Final, NamedTuple

from clanmesh_protocol.errors import ProtocolError
from clanmeshd.core.effects import Holder
from clanmeshd.net.stream import StreamRefused
from clanmeshd.reaching import Reach, ask_device

VERSION_CHARACTERS_MAX: Final = 40


class Told(NamedTuple):
    """What a member said. Both None: it is of a version that does not tell."""

    version: str | None = None
    ahead_s: float | None = None  # of this device's clock, give or take half of the round trip


async def ask(reach: Reach, holder: Holder) -> Told | None:
    """Ask one member; None where it was not reached."""
    begun_unix_s = time.time()
    try:
        said = await ask_device(reach, holder)
    except StreamRefused as refusal:
        return Told() if refusal.refusal == "unknown-question" else None
    except (OSError, ProtocolError):
        return None
    return read_untrusted(said, (begun_unix_s + time.time()) / 2)


def read_untrusted(said: dict[str, str], at_unix_s: float) -> Told:
    """Read the answer; what makes no sense counts as not said."""
    version = said.get("version", "")
    clean = "".join(letter for letter in version if letter.isascii() and letter.isprintable())
    clock = said.get("unix-ms", "")
    ahead_s = int(clock) / 1000 - at_unix_s if clock.isascii() and clock.isdigit() and len(clock) < 16 else None
    return Told(clean[:VERSION_CHARACTERS_MAX] or None, ahead_s)
