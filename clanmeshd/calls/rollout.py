"""What admins say about the rollout: pause and resume, promote and retry, and which head stands after a fork."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from clanmesh_protocol.control import Fault
from clanmesh_protocol.limits import ABANDONED_MAX, DIRECTIVE_REASON_BYTES_MAX
from clanmesh_protocol.records import Directive, Resolution, Verb
from clanmeshd.calls.arguments import flag, text, text_or
from clanmeshd.calls.decisions import decide
from clanmeshd.calls.signers import need_admin
from clanmeshd.clan import Clan
from clanmeshd.control import Conversation
from clanmeshd.core.directives import directive, standing
from clanmeshd.driver import instant
from clanmeshd.rollout.following import REF

if TYPE_CHECKING:
    from clanmeshd.daemon import Daemon

COMMIT_DIGITS_MIN: Final = 4  # of what a person types for a commit that the rollout is about
_LOOK: Final = "see `clanctl rollout status`"


async def pause(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`rollout-pause`: no device begins to run another commit. Idempotent, but for the reason."""
    clan = daemon.need_clan()
    need_admin(clan, "pausing the rollout")
    reason = text_or(args, "reason", "").strip()
    if len(reason.encode()) > DIRECTIVE_REASON_BYTES_MAX or not reason.isprintable():
        why = f"the reason is over {DIRECTIVE_REASON_BYTES_MAX} bytes, or more than a line"
        raise Fault("usage", "pausing the rollout", why, "give one short sentence")
    await _say(clan, Verb.PAUSE, reason=reason)
    return {"state": "paused", "reason": reason}


async def resume(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`rollout-resume`: the pause is over, whoever said it."""
    clan = daemon.need_clan()
    need_admin(clan, "resuming the rollout")
    mesh = clan.mesh
    orders = standing(mesh.authority, mesh.ledger)
    paused = any(order.verb is Verb.PAUSE and order.ref == REF for order in orders)
    if paused:
        await _say(clan, Verb.RESUME)
    return {"state": "resumed" if paused else "not-paused"}


async def promote(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`rollout-promote`: let a commit be run without waiting for rings, the wanted one if none is named."""
    clan = daemon.need_clan()
    need_admin(clan, "promoting a commit")
    commit = _the_wanted(clan, args, "promoting a commit")
    await _say(clan, Verb.PROMOTE, commit)
    return {"commit": commit.hex()}


async def retry(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`rollout-retry`: forget that revisions failed here; with `everywhere` that the wanted one did anywhere."""
    clan = daemon.need_clan()
    if not flag(args, "everywhere"):
        await clan.rollout.retry()
        return {"commit": None}
    need_admin(clan, "trying a commit again everywhere")
    commit = _the_wanted(clan, args, "trying a commit again everywhere")
    await _say(clan, Verb.RETRY, commit)
    return {"commit": commit.hex()}


async def resolve(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`rollout-resolve`: of the heads that diverge one stands, the others are left for ever.

    As many of them as one operation names: where more diverge, the fork goes on, and is ended by the next call.
    """
    clan = daemon.need_clan()
    need_admin(clan, "ending the fork")
    tips = [commit for commit, _ in clan.rollout.fork]
    if not tips:
        raise Fault("refused", "ending the fork", "no heads diverge, as this device sees it", _LOOK)
    head = _only(tips, text(args, "head"), "ending the fork")
    left = tuple(sorted(commit for commit in tips if commit != head))[:ABANDONED_MAX]
    decision = await decide(clan, Resolution(REF, head, left))
    return {"head": head.hex(), "left": [commit.hex() for commit in left], "decision": decision.view()}


async def _say(clan: Clan, verb: Verb, commit: bytes | None = None, reason: str = "") -> Directive:
    mesh = clan.mesh
    said = directive(mesh.authority, mesh.ledger, verb, REF, commit, reason)
    mesh.publish(said, slot=said.slot, now=instant())
    await clan.driver.settle_soon()
    return said


def _the_wanted(clan: Clan, args: dict[str, Any], what: str) -> bytes:
    """The commit that the clan is on its way to; a name that is given must be its own. Raises Fault."""
    target = clan.rollout.target
    if target is None:
        raise Fault("refused", what, "nothing is wanted yet, as this device sees it", _LOOK)
    return _only([target], text_or(args, "commit", target.hex()), what)


def _only(commits: Sequence[bytes], start: str, what: str) -> bytes:
    found = [commit for commit in commits if commit.hex().startswith(start.strip().lower())]
    if len(start.strip()) < COMMIT_DIGITS_MIN or len(found) != 1:
        names = ", ".join(commit.hex()[: 3 * COMMIT_DIGITS_MIN] for commit in commits)
        raise Fault("not-found", what, f"{start!r} is not the beginning of one of {names}", _LOOK)
    return found[0]
