"""Records that came before the word that makes their author a member.

They wait here, unverified, until the authority changes. This is only a short cut: whatever is dropped is brought
again by anti-entropy, since the sets differ as long as one side lacks it.
"""

from clanmesh_protocol.keys import NodeId, RecordId
from clanmesh_protocol.records import Record
from clanmeshd.core.limits import PARKED_BYTES_MAX, PARKED_RECORDS_MAX


class Parking:
    """Bounded in number and bytes; the oldest leave first."""

    def __init__(self) -> None:
        self._records: dict[RecordId, tuple[bytes, NodeId]] = {}
        self._bytes = 0

    def put(self, record: Record, peer: NodeId) -> None:
        """Keep a record that `peer` gave."""
        if record.id in self._records or len(record.data) > PARKED_BYTES_MAX:
            return
        self._records[record.id] = (record.data, peer)
        self._bytes += len(record.data)
        while len(self._records) > PARKED_RECORDS_MAX or self._bytes > PARKED_BYTES_MAX:
            data, _ = self._records.pop(next(iter(self._records)))
            self._bytes -= len(data)

    def take_all(self) -> list[tuple[bytes, NodeId]]:
        """Give all of them, oldest first, and forget them."""
        records, self._records, self._bytes = list(self._records.values()), {}, 0
        return records
