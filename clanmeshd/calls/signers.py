"""The SSH keys that may sign commits and heads: an operation of the authority chain for each change."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from clanmesh_protocol.control import Fault
from clanmesh_protocol.limits import SIGNER_LINE_BYTES_MAX, SIGNERS_MAX
from clanmesh_protocol.records import Checkpoint, SignerAdd, SignerRemove
from clanmeshd.calls.arguments import text
from clanmeshd.calls.decisions import Decision, decide
from clanmeshd.clan import Clan
from clanmeshd.control import Conversation
from clanmeshd.rollout.following import REF

if TYPE_CHECKING:
    from clanmeshd.daemon import Daemon

_KEY_TYPES = ("ssh-ed25519", "sk-ssh-ed25519@openssh.com", "ssh-rsa", "sk-ecdsa-sha2-nistp256@openssh.com")
_ECDSA_PREFIX = "ecdsa-sha2-"


async def list_signers(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`signer-list`."""
    return {"signers": list(daemon.need_clan().mesh.authority.signers)}


async def add(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`signer-add`: idempotent; the comment of a line may differ."""
    clan = daemon.need_clan()
    need_admin(clan, "adding a signer")
    line = signer_line(text(args, "line"))
    signers = clan.mesh.authority.signers
    decisions = []
    if key_of(line) not in map(key_of, signers):
        if len(signers) >= SIGNERS_MAX:
            raise Fault("refused", "adding a signer", f"a clan has at most {SIGNERS_MAX}", "remove one first")
        decisions.append(await decide(clan, SignerAdd(line)))
    return _answer(clan, decisions)


async def remove(daemon: "Daemon", args: dict[str, Any], conversation: Conversation) -> Any:
    """`signer-remove`: by a line, or by the key or comment in it."""
    clan = daemon.need_clan()
    need_admin(clan, "removing a signer")
    wanted = text(args, "line").strip()
    matches = [line for line in clan.mesh.authority.signers if _names(line, wanted)]
    if len(matches) != 1:
        why = "no signer of the clan matches" if not matches else f"{len(matches)} signers match"
        raise Fault("not-found", f"signer {wanted!r}", why, "see `clanctl signer list`")
    decisions = []
    # What the removed key signed so far stays good by hash: without it every device would hold at its own past.
    checkpoint = Checkpoint(REF, clan.rollout.head) if clan.rollout.head is not None else None
    if checkpoint is not None and (REF, checkpoint.commit) not in clan.mesh.authority.checkpoints[-1:]:
        decisions.append(await decide(clan, checkpoint))
    if not decisions or decisions[0].is_done:
        decisions.append(await decide(clan, SignerRemove(matches[0])))
    return _answer(clan, decisions)


def _answer(clan: Clan, decisions: Sequence[Decision]) -> dict[str, Any]:
    return {
        "signers": list(clan.mesh.authority.signers),
        "decision": decisions[-1].view() if decisions else None,
        "decisions": [decision.view() for decision in decisions],
    }


def checkpoint_of(commit: bytes) -> Checkpoint:
    """The operation that accepts a commit and all behind it. Raises Fault."""
    if not any(commit):
        raise Fault("usage", "the checkpoint", "an id of zeros names no commit", "give the id of one")
    return Checkpoint(REF, commit)


def need_admin(clan: Clan, what: str) -> None:
    """Let only an admin's device go on. Raises Fault."""
    if not clan.mesh.authority.is_admin(clan.keys.node):
        members = clan.mesh.authority.members.items()
        admins = sorted(member.name for node, member in members if clan.mesh.authority.is_admin(node))
        where = " or ".join(filter(None, (", ".join(admins[:-1]), *admins[-1:]))) or "an admin's device"
        raise Fault("denied", what, "this device is no admin of the clan", f"do it on {where}")


def signer_line(text_line: str) -> str:
    """Give `TYPE KEY [COMMENT]` of a public key line, options left out. Raises Fault."""
    words = text_line.split()
    for at, word in enumerate(words[:-1]):
        if word in _KEY_TYPES or word.startswith(_ECDSA_PREFIX):
            line = " ".join(words[at : at + 3])
            if len(line.encode()) <= SIGNER_LINE_BYTES_MAX:
                return line
    raise Fault(
        "usage",
        "the signer",
        "it is no line of an SSH public key",
        "give the text of a file such as ~/.ssh/id_ed25519.pub",
    )


def key_of(line: str) -> tuple[str, ...]:
    """The type and key of a signer line: what makes two lines the same signer."""
    return tuple(line.split()[:2])


def _names(line: str, wanted: str) -> bool:
    words = line.split(maxsplit=2)
    return wanted == line or wanted in words[1:] or key_of(wanted) == key_of(line)
