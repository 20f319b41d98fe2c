"""What admins say about the rollout, and what members show of it: whose word holds a commit back, or lets it pass.

A directive counts while its author is an admin. What members show is their status: which commit they run and found
well, and which they went back from. Whose showing matters to whom the configuration says (its rings); here it is
only gathered.
"""

from collections.abc import Iterator

from clanmesh_protocol.encoding import UINT64_MAX
from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.records import SINGLE_SLOT, Directive, Kind, Record, RolloutState, Status, Verb
from clanmeshd.core.authority import Authority
from clanmeshd.core.effects import Order, Trial
from clanmeshd.core.ledger import Ledger
from clanmeshd.core.phrases import called

_HOLD = frozenset({Verb.PAUSE, Verb.RESUME})  # one topic: a resume takes its pause's place


def standing(authority: Authority, ledger: Ledger) -> tuple[Order, ...]:
    """The orders in force: of each ref the pause that stands, if one does, and every promotion and retry."""
    counting = list(_counting(authority, ledger))
    holds: dict[str, tuple[int, Record, Directive]] = {}
    for record, directive in counting:
        if directive.verb in _HOLD:
            held = holds.get(directive.ref)
            if held is None or (directive.number, record.id) > (held[0], held[1].id):
                holds[directive.ref] = (directive.number, record, directive)
    pauses = [(record, said) for _, record, said in holds.values() if said.verb == Verb.PAUSE]
    others = [each for each in counting if each[1].verb in (Verb.PROMOTE, Verb.RETRY)]
    orders = [_order(authority, record, said) for record, said in (*pauses, *others)]
    return tuple(sorted(orders, key=lambda order: (order.ref, order.verb, order.author)))


def _counting(authority: Authority, ledger: Ledger) -> Iterator[tuple[Record, Directive]]:
    for entry in ledger.of_kind(Kind.DIRECTIVE):
        if isinstance(entry.content, Directive) and authority.is_admin(entry.value.author):
            yield entry.value, entry.content


def _order(authority: Authority, record: Record, said: Directive) -> Order:
    by = called(authority, record.author)
    return Order(Verb(said.verb), said.ref, record.author, by, record.seq, said.commit, said.reason)


def directive(
    authority: Authority, ledger: Ledger, verb: Verb, ref: str, commit: bytes | None = None, reason: str = ""
) -> Directive:
    """What an admin says next on a topic: above all that counts on it."""
    blank = Directive(verb, ref, 0, commit, reason)
    numbers = [
        said.number
        for _, said in _counting(authority, ledger)
        if (said.ref, said.slot) == (ref, blank.slot) and said.number < UINT64_MAX
    ]
    return Directive(verb, ref, max(numbers, default=0) + 1, commit, reason)


def trials(authority: Authority, ledger: Ledger, own: NodeId, now_unix_s: float) -> tuple[Trial, ...]:
    """What the other members show that could be of a ring: those with a tag, by an admin's word.

    Those that show nothing are among them: how many there are decides how many are enough.
    """
    tagged = [
        member
        for member in authority.members.values()
        if member.tags and member.confirmed and member.node != own and member.is_current(now_unix_s)
    ]
    found = (_trial(ledger, member.node, member.tags) for member in tagged)
    return tuple(sorted(found, key=lambda trial: trial.node))


def _trial(ledger: Ledger, node: NodeId, tags: tuple[str, ...]) -> Trial:
    entry = ledger.get(node, Kind.STATUS, SINGLE_SLOT)
    if entry is None or not isinstance(entry.content, Status):
        return Trial(node, tags, None, ())
    status = entry.content
    well = status.commit if status.rollout is RolloutState.CURRENT else None
    return Trial(node, tags, well, status.bad_commits)
