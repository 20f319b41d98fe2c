"""Which records each daemon holds, read from the logs that it keeps, without asking it.

A record is in the log before its daemon tells anybody of it; so when all logs come to the same set, all roots are
equal. The set of a log is what `core/ledger.py` makes of it: of each register the newest, of the authority all.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from clanmesh_protocol.keys import ClanId
from clanmesh_protocol.records import Kind, Record, parse_untrusted
from clanmeshd.store import read_log_untrusted

LOG: Final = "records.log"


@dataclass(slots=True)
class _Log:
    path: Path
    inode: int = 0
    read_bytes: int = 0
    newest: dict[tuple[bytes, int, str], Record] = field(default_factory=dict)
    digest: int = 0  # of the set: its ids, added up without carry


class RecordLogs:
    """The logs of all daemons of a clan. `states`: their state directories by name."""

    def __init__(self, clan: ClanId, states: Mapping[str, Path]) -> None:
        self._clan = clan
        self._logs = {name: _Log(state / LOG) for name, state in states.items()}
        self._stored: dict[tuple[str, str], float] = {}

    def refresh(self) -> None:
        """Read what was added since."""
        for name, log in self._logs.items():
            try:
                found = log.path.stat()
            except FileNotFoundError:
                continue  # in no clan yet
            if found.st_ino != log.inode:  # new, or written anew without what nobody needs
                log.inode, log.read_bytes, log.digest = found.st_ino, 0, 0
                log.newest.clear()
            if found.st_size != log.read_bytes:
                self._read(name, log)

    def equal(self) -> bool:
        """Whether all hold the same set."""
        return len({log.digest for log in self._logs.values()}) == 1

    def stored_s(self, name: str, slot: str) -> float | None:
        """When a secret's record was first seen in a daemon's log (monotonic s)."""
        return self._stored.get((name, slot))

    def _read(self, name: str, log: _Log) -> None:
        with log.path.open("rb") as file:
            file.seek(log.read_bytes)
            records, sound_bytes, _ = read_log_untrusted(file.read())
        log.read_bytes += sound_bytes
        for data in records:
            record = parse_untrusted(data, self._clan)
            if not record.is_volatile:
                self._take(log, record)
            if record.kind == Kind.SECRET:
                self._stored.setdefault((name, record.slot), time.monotonic())

    def _take(self, log: _Log, record: Record) -> None:
        slot = record.slot if record.kind != Kind.AUTHORITY else f"{record.slot} {record.id.hex()}"
        key = (record.author, record.kind, slot)
        before = log.newest.get(key)
        if before is not None and before.order >= record.order:
            return
        log.newest[key] = record
        log.digest ^= int.from_bytes(record.id, "big") ^ (int.from_bytes(before.id, "big") if before else 0)
