"""`admin-propose` and `admin-approve`: changing who decides for the clan, and what all of it heeds."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from clanmesh_protocol.control import Fault
from clanmesh_protocol.encoding import UINT32_MAX
from clanmesh_protocol.keys import NodeId, signing_public
from clanmesh_protocol.limits import ADMIN_WEIGHT_MAX, ADMINS_MAX, SETTING_VALUE_BYTES_MAX, SETTINGS_MAX
from clanmesh_protocol.records import (
    AdminAdd,
    AdminRemove,
    AdminReplace,
    AuthorityOp,
    Checkpoint,
    RecoveryReplace,
    Setting,
    Thresholds,
)
from clanmesh_protocol.tokens import encode_recovery
from clanmeshd.calls import decisions
from clanmeshd.calls.arguments import commit, flag, label, number, number_or_none, text
from clanmeshd.calls.decisions import Decision, Kept, decide, take_over
from clanmeshd.calls.finding import a_member, a_proposal
from clanmeshd.calls.members import distrust_s
from clanmeshd.calls.signers import checkpoint_of, need_admin
from clanmeshd.clan import Clan
from clanmeshd.control import Conversation
from clanmeshd.core.authority import Authority
from clanmeshd.core.chain import after
from clanmeshd.core.credentials import LIFE_SETTING
from clanmeshd.core.limits import TUNNEL_KEY_DAYS_MAX
from clanmeshd.core.phrases import COMMIT_DIGITS, ID_LETTERS, called
from clanmeshd.core.resaying import WITHDRAWN, is_withdrawal, withdrawal
from clanmeshd.core.tunnel_keys import SETTING as TUNNEL_SETTING

if TYPE_CHECKING:
    from clanmeshd.daemon import Daemon

SEED_BYTES: Final = 32  # of an Ed25519 key
DAYS_DIGITS_MAX: Final = {LIFE_SETTING: 5, TUNNEL_SETTING: len(str(TUNNEL_KEY_DAYS_MAX))}  # of lives in days
OWN_PREFIX: Final = "x-"  # of settings that mean something to people only
_WITHDRAWAL_WAITS: Final = "until that is approved too, others can still approve the proposal itself"
_TWO_ADMINS: Final = "from now on both admins must agree to every change of the authority"
_EACH_ADMIN: Final = (
    "every admin has to agree then: when one of them is lost, only the recovery key can change that"
)


async def propose(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`admin-propose`: sign an operation; it is done at once where this admin's weight suffices."""
    clan = daemon.need_clan()
    need_admin(clan, "changing the clan's authority")
    wanted = text(args, "operation")
    if wanted == "recovery":
        return await _propose_recovery(clan, none=flag(args, "none"))
    read = _READERS.get(wanted)
    if read is None:
        raise Fault("usage", f"operation {wanted!r}", "there is none of that name", f"use one of {_KNOWN}")
    operation = read(clan.mesh.authority, args)
    if not flag(args, "force"):
        await _refuse_typos(clan, operation)
    kept = await _prepare(clan, operation, args)
    decision = await decide(clan, operation)
    return {**decision.view(), "kept": kept.view(), "recovery": None, "note": _note(clan, operation, decision)}


async def _propose_recovery(clan: Clan, *, none: bool) -> dict[str, Any]:
    seed = None if none else os.urandom(SEED_BYTES)
    decision = await decide(clan, RecoveryReplace(signing_public(seed) if seed is not None else None))
    note = None if decision.is_done else _key_waits(clan.mesh.authority, decision)
    spelled = encode_recovery(seed) if seed is not None else None
    return {**decision.view(), "kept": Kept().view(), "recovery": spelled, "note": note}


def _key_waits(authority: Authority, decision: Decision) -> str:
    approval = f"`clanctl admin approve {decision.id.hex()[:ID_LETTERS]}` on {' or '.join(decision.approvers)}"
    former = "the one on paper now is" if authority.chain.recovery is not None else "there is none"
    return f"this is only proposed: {former} in force until enough admins have approved ({approval})"


async def _refuse_typos(clan: Clan, operation: AuthorityOp) -> None:
    """Refuse what could be meant and mostly is mistyped. Raises Fault; with `force` it is not asked."""
    if isinstance(operation, Setting) and operation.name != WITHDRAWN:
        _refuse_unknown_setting(clan.mesh.authority, operation)
    if not isinstance(operation, Checkpoint) or clan.rollout.head is None:
        return
    if not await clan.rollout.knows(operation.commit):
        what = f"checkpoint {operation.commit.hex()[:COMMIT_DIGITS]}"
        why = "the repository on this device has no such commit"
        raise Fault("not-found", what, why, "push it first, or say --force if another device has it")


def _refuse_unknown_setting(authority: Authority, operation: Setting) -> None:
    name = operation.name
    if name in DAYS_DIGITS_MAX or name.startswith(OWN_PREFIX) or name in authority.chain.settings:
        return
    from difflib import get_close_matches  # 180 kB that no daemon needs before somebody mistypes

    near = get_close_matches(name, DAYS_DIGITS_MAX, 1)
    meant = f"if you mean {near[0]}, type that" if near else f"there are {' and '.join(sorted(DAYS_DIGITS_MAX))}"
    remedy = f"{meant}; names of your own begin with {OWN_PREFIX}, and those of a later version need --force"
    raise Fault("usage", f"setting {name}", "no device of this version heeds one of that name", remedy)


async def _prepare(clan: Clan, operation: AuthorityOp, args: dict[str, Any]) -> Kept:
    """Before an admin goes, another one takes over what it said. Raises Fault where none can."""
    decisions.check(clan, operation)
    if not isinstance(operation, AdminRemove | AdminReplace):
        return Kept()
    if operation.node == clan.keys.node:
        raise Fault(
            "refused",
            "ending this device being an admin",
            "what it vouched for would end with it, and only another admin can take that over",
            "make another device an admin first, and do it there",
        )
    return await take_over(clan, operation.node, distrust_s(args), keeps_leaving=True)


def _note(clan: Clan, operation: AuthorityOp, decision: Decision) -> str | None:
    chain = clan.mesh.authority.chain
    if is_withdrawal(operation) and not decision.is_done:
        return _WITHDRAWAL_WAITS
    if isinstance(operation, AdminAdd) and decision.is_done and len(chain.admins) == 2:
        return _TWO_ADMINS if chain.need(AdminRemove.OP) == chain.total_weight else None
    if isinstance(operation, Thresholds):
        wanted = after(chain, operation)
        return _EACH_ADMIN if wanted.need(AdminRemove.OP) == wanted.total_weight > wanted.majority else None
    return None


# --- operations out of arguments -----------------------------------------------------------------------


def admin_add(authority: Authority, node: NodeId, weight: int) -> AdminAdd:
    """Make a member an admin. Raises Fault."""
    name = called(authority, node)
    _refuse_unfit(authority, node)
    if not authority.is_admin(node) and len(authority.admins) >= ADMINS_MAX:
        raise Fault("refused", f"making {name} an admin", f"a clan has at most {ADMINS_MAX}", "remove one first")
    return AdminAdd(node, weight)


def _refuse_unfit(authority: Authority, node: NodeId) -> None:
    name = called(authority, node)
    if node in authority.chain.pinned:
        why = "its key was an admin's before, and such a key never is again"
        raise Fault("refused", f"making {name} an admin", why, "let the device join anew under a new key")
    if not authority.members[node].confirmed:
        raise Fault("refused", f"making {name} an admin", "no admin has confirmed it yet", "wait a moment")


def an_admin(authority: Authority, wanted: str, what: str) -> NodeId:
    """The admin with a name or id. Raises Fault, also for the only one."""
    member = a_member(authority, wanted)
    if not authority.is_admin(member.node):
        raise Fault("refused", f"{what} {member.name}", "it is no admin", "see `clanctl admin list`")
    return member.node


def _read_add(authority: Authority, args: dict[str, Any]) -> AuthorityOp:
    member = a_member(authority, text(args, "node"))
    return admin_add(authority, member.node, number(args, "weight", 1, 1, ADMIN_WEIGHT_MAX))


def _read_remove(authority: Authority, args: dict[str, Any]) -> AuthorityOp:
    node = an_admin(authority, text(args, "node"), "ending the say of")
    if len(authority.admins) == 1:
        why = "it is the only admin, and without one nobody could decide anything"
        raise Fault("refused", "ending its say", why, "make another one first: `clanctl admin propose add`")
    return AdminRemove(node)


def _read_replace(authority: Authority, args: dict[str, Any]) -> AuthorityOp:
    node = an_admin(authority, text(args, "node"), "replacing")
    successor = a_member(authority, text(args, "by"))
    if authority.is_admin(successor.node):
        raise Fault("refused", f"replacing by {successor.name}", "it is an admin already", "remove the other one")
    _refuse_unfit(authority, successor.node)
    return AdminReplace(node, successor.node)


def _read_thresholds(authority: Authority, args: dict[str, Any]) -> AuthorityOp:
    govern = number_or_none(args, "govern", 0, UINT32_MAX)
    routine = number_or_none(args, "routine", 0, UINT32_MAX)
    if govern is None and routine is None:
        raise Fault("usage", "the thresholds", "none was given", "give --govern or --routine")
    chain = authority.chain
    for value in (govern, routine):
        if value is not None and value > chain.total_weight:
            why = f"all admins together weigh {chain.total_weight}"
            raise Fault("refused", f"a threshold of {value}", why, "give at most that")
    return Thresholds(chain.govern if govern is None else govern, chain.routine if routine is None else routine)


def _read_setting(authority: Authority, args: dict[str, Any]) -> AuthorityOp:
    name, value = label(text(args, "name"), "setting"), text(args, "value")
    if len(value.encode()) > SETTING_VALUE_BYTES_MAX:
        raise Fault("usage", f"setting {name}", f"it has over {SETTING_VALUE_BYTES_MAX} bytes", "shorten it")
    settings = authority.chain.settings
    if value and name not in settings and len(settings) >= SETTINGS_MAX:
        raise Fault("refused", f"setting {name}", f"there are {SETTINGS_MAX} settings", "take one back first")
    if name == WITHDRAWN:
        raise Fault(
            "usage", f"setting {name}", "it is how proposals are taken back", "use `clanctl admin withdraw`"
        )
    digits = DAYS_DIGITS_MAX.get(name)
    if digits is not None and value and not (value.isascii() and value.isdigit() and len(value) <= digits):
        why = f"{value!r} is no number of days, of at most {digits} digits"
        raise Fault("usage", f"setting {name}", why, "give 0 for `for ever`")
    return Setting(name, value)


def _read_checkpoint(authority: Authority, args: dict[str, Any]) -> AuthorityOp:
    return checkpoint_of(commit(args, "commit"))


def _read_withdrawal(authority: Authority, args: dict[str, Any]) -> AuthorityOp:
    return withdrawal(a_proposal(authority.pending, text(args, "id")).id)


_READERS: Final[dict[str, Callable[[Authority, dict[str, Any]], AuthorityOp]]] = {
    "add": _read_add,
    "remove": _read_remove,
    "replace": _read_replace,
    "thresholds": _read_thresholds,
    "setting": _read_setting,
    "checkpoint": _read_checkpoint,
    "withdrawal": _read_withdrawal,
}
_KNOWN: Final = ", ".join([*_READERS, "recovery"])


# --- approving -----------------------------------------------------------------------------------------


async def approve(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`admin-approve`: put this admin's name under a proposal; it is done when there is weight enough."""
    clan = daemon.need_clan()
    need_admin(clan, "approving")
    proposal = a_proposal(clan.mesh.authority.pending, text(args, "id"))
    return (await decisions.approve(clan, proposal)).view()
