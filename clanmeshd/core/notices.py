"""What people may want to know: who came and went, what the authority decided, and who was seen to run twice."""

from math import inf
from typing import Final

from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.records import Kind, Record
from clanmeshd.core.authority import Authority
from clanmeshd.core.effects import Announce
from clanmeshd.core.ledger import Ledger
from clanmeshd.core.limits import CLONE_WARNING_S
from clanmeshd.core.phrases import called, operation_text
from clanmeshd.core.subjects import Changed, State

OPERATIONS_MAX: Final = 16  # told at once, the newest: a device that was away for months need not hear of each


class Notices:
    """Collects announcements for `clanctl events` and the log. `clones`: who runs twice, and when last seen so."""

    def __init__(self, authority: Authority, ledger: Ledger) -> None:
        self.clones: dict[NodeId, float] = {}  # monotonic s
        self._authority = authority
        self._ledger = ledger
        self._waiting: list[Announce] = []

    def drain(self) -> list[Announce]:
        """Give what waits."""
        waiting, self._waiting = self._waiting, []
        return waiting

    def follow(self, authority: Authority) -> None:
        """The authority has changed: tell what is new in it."""
        before, self._authority = self._authority, authority
        for node in sorted(set(authority.members) - set(before.members)):
            self._say("member-joined", "is a member", node)
        for node in sorted(set(before.members) - set(authority.members)):
            why = "" if node in authority.revoked else ": the admin who vouched for it is none any more"
            self._waiting.append(
                Announce("member-left", f"{before.members[node].name} is no member any more{why}", node)
            )
        if before.number >= 0 and authority.head != before.head:
            self._tell_operation(before, authority)
        known = {pending.id for pending in before.pending}
        for pending in authority.pending:
            if pending.id not in known:
                text = f"proposes: {operation_text(authority, pending.operation)} (`clanctl admin pending`)"
                self._say("proposal", text, pending.author)

    def _tell_operation(self, before: Authority, authority: Authority) -> None:
        if not authority.follows(before.head):
            way = "back" if before.follows(authority.head) else "over to another branch"
            self._waiting.append(Announce("fork", f"the clan's history went {way}"))
        entries = self._ledger.of_kind(Kind.AUTHORITY)
        new = [each for each in entries if authority.follows(each.value.id) and not before.follows(each.value.id)]
        for entry in sorted(new, key=lambda each: each.value.slot)[-OPERATIONS_MAX:]:
            who, what = called(authority, entry.value.author), operation_text(authority, entry.content)
            self._waiting.append(Announce("operation", f"{who} decided: {what}", NodeId(entry.value.author)))

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
        member = self._authority.members.get(node)
        name = member.name if member is not None else "a device that is no member"
        self._waiting.append(Announce(kind, f"{name} {text}", node))
