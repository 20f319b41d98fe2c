"""`doctor`: a look around for whatever is in the way of the clan here, and what to do about it."""

from typing import TYPE_CHECKING, Any, Final

import trio

from clanmesh_protocol.control import Fault
from clanmeshd.calls.views import status
from clanmeshd.control import Conversation

if TYPE_CHECKING:
    from clanmeshd.daemon import Daemon

SAID_BY_CHECKS: Final = ("overlay: ", "names: ", "state: ")  # the device's problems that have checks of their own
LOOK_S_MAX: Final = 9.0  # all of it; it takes a second or two where members answer


async def doctor(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`doctor`: `findings`, the worst first, each with level, check, what, why and remedy. Raises Fault."""
    # Imported now: an idle daemon has no use for it.
    from clanmeshd.checkup.diagnosis import diagnose
    from clanmeshd.checkup.looking import look

    clan = daemon.need_clan()
    stated = await status(daemon, {}, conversation)
    problems = [(str(each["what"]), str(each["remedy"])) for each in stated["problems"]]
    others = [(what, remedy) for what, remedy in problems if not what.startswith(SAID_BY_CHECKS)]
    with trio.move_on_after(LOOK_S_MAX):
        findings = diagnose(await look(clan, others))
        return {
            "self": stated["self"],
            "version": stated["version"],
            "findings": [
                {
                    "level": str(each.level),
                    "check": each.check,
                    "what": each.what,
                    "why": each.why or None,
                    "remedy": each.remedy or None,
                }
                for each in findings
            ],
        }
    why = f"looking around took longer than {LOOK_S_MAX:.0f} s"
    raise Fault("failed", "doctor", why, "try again when the machine is less busy")
