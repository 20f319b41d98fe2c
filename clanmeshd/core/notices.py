"""What people may want to know: who came and went, what the authority decided, and who was seen to run twice."""

from math import inf
from typing import Final

from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.records import Content, Kind, Record
from clanmeshd.core.authority import Authority, Pending
from clanmeshd.core.effects import Announce
from clanmeshd.core.ledger import Ledger
from clanmeshd.core.limits import CLONE_WARNING_S, RESAID_AGE_S_MAX
from clanmeshd.core.phrases import called, operation_text
from clanmeshd.core.resaying import named
from clanmeshd.core.subjects import Changed, State
from clanmeshd.core.tidings import tidings

PROPOSALS_KEPT_MAX: Final = 64  # that were told and may be said again: more are never waited for at once by people
OPERATIONS_MAX: Final = 16  # told at once, the newest: a device that was away for months need not hear of each


class Notices:
    """Collects announcements for `clanctl events` and the log. `clones`: who runs twice, and when last seen so."""

    def __init__(self, authority: Authority, ledger: Ledger) -> None:
        self.clones: dict[NodeId, float] = {}  # monotonic s
        self._authority = authority
        self._ledger = ledger
        self._waiting: list[Announce] = []
        self._proposed: dict[
            tuple[NodeId, Content], float
        ] = {}  # what was told, and when it was last said (unix s)

    def drain(self) -> list[Announce]:
        """Give what waits."""
        waiting, self._waiting = self._waiting, []
        return waiting

    def follow(self, authority: Authority) -> None:
        """The authority has changed: tell what is new in it."""
        before, self._authority = self._authority, authority
        self._waiting += tidings(before, authority, self._ledger)
        if before.number >= 0 and authority.head != before.head:
            self._tell_operation(before, authority)
        known = {pending.id for pending in before.pending}
        for pending in authority.pending:
            if pending.id not in known:
                self._tell_proposal(pending)

    def _tell_proposal(self, pending: Pending) -> None:
        """Not again when it had to be said again: to people that is the same one."""
        key = pending.author, pending.operation
        told_unix_s = self._proposed.pop(key, -inf)
        if pending.at_unix_s > told_unix_s + RESAID_AGE_S_MAX:
            text = f"proposes: {operation_text(self._authority, pending.operation)} (`clanctl admin pending`)"
            self._say("proposal", text, pending.author)
        self._proposed[key] = pending.at_unix_s
        while len(self._proposed) > PROPOSALS_KEPT_MAX:
            del self._proposed[next(iter(self._proposed))]

    def _tell_operation(self, before: Authority, authority: Authority) -> None:
        if not authority.follows(before.head):
            way = "back" if before.follows(authority.head) else "over to another branch"
            self._waiting.append(Announce("fork", f"the clan's history went {way}"))
        entries = self._ledger.of_kind(Kind.AUTHORITY)
        new = [each for each in entries if authority.follows(each.value.id) and not before.follows(each.value.id)]
        for entry in sorted(new, key=lambda each: each.value.slot)[-OPERATIONS_MAX:]:
            who = called(authority, entry.value.author, before)
            what = operation_text(authority, entry.content, before)
            self._waiting.append(Announce("operation", f"{who} decided: {what}", NodeId(entry.value.author)))
            self._forget_proposal(entry.content, before)

    def _forget_proposal(self, decided: Content | None, before: Authority) -> None:
        """What was decided or taken back is told again when somebody proposes it again."""
        taken = named(self._ledger, decided) if decided is not None else None
        back = {
            (each.author, each.operation) for each in before.pending if taken is not None and each.id == taken.id
        }
        for key in [key for key in self._proposed if key in back or key[1] == decided]:
            del self._proposed[key]

    def notice(self, change: Changed) -> None:
        """Somebody came up or went down."""
        if change.after is State.UP and change.before is not State.SUSPECT:
            self._say("member-up", "answers", change.node)
        elif change.after is State.DOWN:
            self._say("member-down", "does not answer, by the word of several", change.node)

    def caught(self, record: Record) -> None:
        """Somebody signed two things at once."""
        text = "signed two contents for one moment: a cloned or restored disk"
        self._say("equivocation", text, record.author)

    def doubled(self, node: NodeId, own: NodeId, now_s: float) -> None:
        """Somebody runs twice with one key. Said again only after an hour."""
        if now_s >= self.clones.get(node, -inf) + CLONE_WARNING_S:
            who = "(this device) " if node == own else ""
            self._say("clone", f"{who}runs twice with one key: a cloned disk", node)
            self.clones[node] = now_s

    def _say(self, kind: str, text: str, node: NodeId) -> None:
        self._waiting.append(Announce(kind, f"{called(self._authority, node)} {text}", node))
