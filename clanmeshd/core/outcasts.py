"""What keys that are out are told when they knock: the words that put them out.

A device that was away when it was removed finds silence where its clan was. It still says hello, under the
identities alone; each hello is answered by one record, no longer than the question: its revocation first, then, in
turn, the newest operations and approvals, without which it might not believe the revocation's author.
"""

from clanmesh_protocol.keys import NodeId, fingerprint_slot
from clanmesh_protocol.records import Kind, Record
from clanmeshd.core.authority import Authority
from clanmeshd.core.ledger import Ledger
from clanmeshd.core.limits import HELLO_PLAINTEXT_BYTES, OUTCASTS_MAX, OUTCASTS_TOLD_MAX


class Outcasts:
    """The newest keys that are out, and how far each was told why."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._told: dict[NodeId, int] = {}

    def keep(self, authority: Authority) -> frozenset[NodeId]:
        """Work out who is out; of many those who went last."""
        slots = {fingerprint_slot(node): node for node in authority.revoked}
        said = sorted(self._ledger.of_kind(Kind.REVOCATION), key=lambda entry: entry.value.order)
        newest = [slots[entry.value.slot] for entry in reversed(said) if entry.value.slot in slots]
        nodes = frozenset(list(dict.fromkeys(newest))[:OUTCASTS_MAX])
        self._told = {node: count for node, count in self._told.items() if node in nodes}
        return nodes

    def word(self, node: NodeId, authority: Authority) -> Record | None:
        """The next record for one that knocks. None when there is nothing to say that fits a hello."""
        words = [
            record for record in self._words(node, authority) if len(record.data) <= HELLO_PLAINTEXT_BYTES - 8
        ]
        if not words:
            return None
        count = self._told[node] = self._told.get(node, -1) + 1
        return words[count % len(words)]

    def _words(self, node: NodeId, authority: Authority) -> list[Record]:
        kinds = (Kind.REVOCATION, Kind.AUTHORITY, Kind.APPROVAL)
        revocations, operations, approvals = (
            [entry.value for entry in self._ledger.of_kind(kind)] for kind in kinds
        )
        out = [record for record in revocations if record.slot == fingerprint_slot(node)]
        followed = [record for record in operations if authority.follows(record.id)]
        slots = {fingerprint_slot(record.id) for record in followed}
        signed = [record for record in approvals if record.slot in slots]
        newest = sorted([*followed, *signed], key=lambda record: record.order, reverse=True)
        return [*out, *newest][:OUTCASTS_TOLD_MAX]
