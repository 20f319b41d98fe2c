"""The state directory: keys, membership, and the log of records. All of it survives `kill -9` and a power cut.

    lock          held by the one daemon that uses the directory
    keys.json     the device's private keys (mode 0600, replaced as a whole)
    anchor.json   the operation of the authority that this device leaves only for the recovery key
    clan.json     which clan this device is in, and the discovery secrets (likewise)
    records.log   an entry for each record ever stored: `marker 2 | length u32 | crc32 u32 | record`

The log is appended and synced before anything that was told about a record is told back. A torn tail is cut;
a damaged entry costs that entry only, since the next marker is searched for; what was lost comes back by gossip.
"""

import errno
import fcntl
import json
import os
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from clanmesh_protocol.keys import ClanId, DeviceKeys, NextTunnelKey, RecordId
from clanmesh_protocol.limits import CLAN_ID_BYTES, KEY_BYTES, RECORD_BYTES_MAX
from clanmeshd.files import Files, RealFiles

FORMAT: Final = 1
ENTRY_MARKER: Final = b"\xc7\x1e"
ENTRY_HEAD_BYTES: Final = 10
COMPACT_ENTRIES_MIN: Final = 1000  # below that a log is small whatever is in it
COMPACT_RATIO: Final = 2  # rewrite when the log has twice as many entries as there are records

_DIRECTORY_MODE: Final = 0o700


class StateError(Exception):
    """The state directory cannot be used: one line with the file, what is wrong and what to do."""


_REMEDIES: Final = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "make room there"),
    **dict.fromkeys((errno.EACCES, errno.EPERM), "run as root"),
    **dict.fromkeys((errno.EEXIST, errno.ENOTDIR), "move away what is there"),
    errno.EIO: "repair that disk",
    errno.EROFS: "make it writable",
}


def is_told(error: OSError) -> bool:
    """Whether it is one of those that files and disks have."""
    return error.errno in _REMEDIES


def told(error: OSError, directory: Path) -> str:
    """One line: where, why, and what to do. `directory`: where it was, if the error does not say it."""
    remedy = _REMEDIES.get(error.errno or 0, "make it writable")
    return f"{error.filename or directory}: {error.strerror}; {remedy}"


@dataclass(frozen=True, slots=True)
class Membership:
    """Which clan this device belongs to."""

    clan: ClanId
    name: str
    discovery: bytes  # 16: marks our mDNS announcements for members
    former: tuple[tuple[bytes, int], ...] = ()  # secrets that it was before, newest first, and until when (unix s)
    looked: tuple[bytes, bytes] | None = None  # hashes of a secret, and of the keys that were out and not told it


@dataclass(frozen=True, slots=True)
class LoadedRecords:
    """What the log held. `damage` is a line for people when something was not sound."""

    records: list[bytes]
    damage: str | None


class Store:
    """Everything on disk but the rollout's own folder. Blocking: the driver calls it from a worker thread."""

    def __init__(self, directory: Path, files: Files | None = None) -> None:
        self.directory = directory
        self._files: Files = files or RealFiles()
        self._lock: int | None = None
        self._entries = 0

    @property
    def _log(self) -> Path:
        return self.directory / "records.log"

    def open(self) -> None:
        """Make the directory if need be and lock it. Raises StateError when another daemon has it."""
        try:
            self.directory.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
            self._lock = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateError(
                f"{self.directory}: another clanmeshd uses this state directory; stop it, or give --state-dir"
            ) from None
        except OSError as error:
            raise StateError(f"{told(error, self.directory)}, or give --state-dir a directory of yours") from error

    def close(self) -> None:
        """Give the lock back."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # --- keys and membership ---------------------------------------------------------------------------

    def load_keys(self) -> DeviceKeys | None:
        """Read the device's keys; None on a new device. Raises StateError for a damaged file."""
        path = self.directory / "keys.json"
        value = self._load_json(path)
        if value is None:
            return None
        try:
            return DeviceKeys(
                identity_seed=_key(value["identity"]),
                static_private=_key(value["static"]),
                sealing_private=_key(value["sealing"]),
                tunnel_seed=_key(value["tunnel"]),
                tunnel_number=int(value["tunnel_number"]),
                prekeys=tuple((int(number), _key(key), int(made)) for number, key, made in value["prekeys"]),
                tunnel_made_unix_s=int(value.get("tunnel_made", 0)),
                tunnel_next=_next_tunnel_key(value.get("tunnel_next")),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(path) from error

    def save_keys(self, keys: DeviceKeys) -> None:
        """Replace the device's keys, durably."""
        value: dict[str, Any] = {
            "format": FORMAT,
            "identity": keys.identity_seed.hex(),
            "static": keys.static_private.hex(),
            "sealing": keys.sealing_private.hex(),
            "tunnel": keys.tunnel_seed.hex(),
            "tunnel_number": keys.tunnel_number,
            "tunnel_made": keys.tunnel_made_unix_s,
            "prekeys": [[number, key.hex(), made] for number, key, made in keys.prekeys],
        }
        following = keys.tunnel_next
        if following is not None:
            value["tunnel_next"] = [following.seed.hex(), following.prekey, following.made_unix_s]
        self._save_json(self.directory / "keys.json", value)

    def load_membership(self) -> Membership | None:
        """Read which clan this is; None on a device in none. Raises StateError for a damaged file."""
        path = self.directory / "clan.json"
        value = self._load_json(path)
        if value is None:
            return None
        try:
            clan = bytes.fromhex(value["clan"])
            if len(clan) != CLAN_ID_BYTES:
                raise ValueError("clan id")
            former = tuple((bytes.fromhex(each), int(until)) for each, until in value.get("former", []))
            looked = tuple(bytes.fromhex(each) for each in value.get("looked", []))
            if len(looked) not in (0, 2):
                raise ValueError("looked")
            discovery = bytes.fromhex(value["discovery"])
            return Membership(
                ClanId(clan), str(value["name"]), discovery, former, (looked[0], looked[1]) if looked else None
            )
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(path) from error

    def save_membership(self, membership: Membership) -> None:
        """Remember the clan, durably."""
        value = {
            "format": FORMAT,
            "clan": membership.clan.hex(),
            "name": membership.name,
            "discovery": membership.discovery.hex(),
            **(
                {"former": [[each.hex(), until] for each, until in membership.former]} if membership.former else {}
            ),
            **({"looked": [each.hex() for each in membership.looked]} if membership.looked else {}),
        }
        self._save_json(self.directory / "clan.json", value)

    def load_anchor(self) -> RecordId | None:
        """Read the operation that this device holds as final; None: the genesis. Raises StateError."""
        path = self.directory / "anchor.json"
        value = self._load_json(path)
        if value is None:
            return None
        try:
            return RecordId(_key(value["operation"]))
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(path) from error

    def save_anchor(self, operation: RecordId) -> None:
        """Remember the operation that is final, durably."""
        value = {"format": FORMAT, "operation": operation.hex()}
        self._save_json(self.directory / "anchor.json", value)

    def _load_json(self, path: Path) -> dict[str, Any] | None:
        try:
            value = json.loads(self._files.read(path))
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError) as error:
            raise _damaged(path) from error
        if not isinstance(value, dict):
            raise _damaged(path)
        if value.get("format") != FORMAT:
            raise StateError(
                f"{path}: format {value.get('format')!r}, this version reads {FORMAT}; "
                "install the version that wrote it"
            )
        return value

    def _save_json(self, path: Path, value: dict[str, Any]) -> None:
        self._files.write_atomic(path, json.dumps(value, indent=1).encode() + b"\n")

    # --- records ---------------------------------------------------------------------------------------

    def load_records(self) -> LoadedRecords:
        """Read the log, mend it where it is torn or damaged, and say so."""
        try:
            data = self._files.read(self._log)
        except FileNotFoundError:
            return LoadedRecords([], None)
        records, sound_bytes, skipped = read_log_untrusted(data)
        self._entries = len(records)
        if not skipped and sound_bytes == len(data):
            return LoadedRecords(records, None)
        if not skipped:
            self._files.truncate_synced(self._log, sound_bytes)
            torn = len(data) - sound_bytes
            return LoadedRecords(records, f"{self._log}: cut {torn} bytes of a half-written record")
        self._files.write_atomic(self._log.with_suffix(".damaged"), data)
        self.compact(records)
        return LoadedRecords(
            records,
            f"{self._log}: {skipped} damaged bytes left out, {len(records)} records are sound; "
            f"the file as it was is beside it as records.damaged, what is missing comes from the other members",
        )

    def append(self, records: Sequence[bytes]) -> None:
        """Store records, durably, in one sync. Raises OSError."""
        self._files.append_synced(self._log, b"".join(map(_entry, records)))
        self._entries += len(records)

    def wants_compaction(self, live: int) -> bool:
        """Say whether most of the log has been replaced by newer records, `live` being those that still count."""
        return self._entries > COMPACT_ENTRIES_MIN and self._entries > COMPACT_RATIO * live

    def compact(self, records: Iterable[bytes]) -> None:
        """Replace the log by one with these records alone, durably."""
        entries = [_entry(record) for record in records]
        self._files.write_atomic(self._log, b"".join(entries))
        self._entries = len(entries)


def _entry(record: bytes) -> bytes:
    return ENTRY_MARKER + len(record).to_bytes(4, "big") + zlib.crc32(record).to_bytes(4, "big") + record


def read_log_untrusted(data: bytes) -> tuple[list[bytes], int, int]:
    """Split a log into its sound records, the end of the last sound one, and the bytes skipped before it."""
    records: list[bytes] = []
    at = end = skipped = 0
    while (at := data.find(ENTRY_MARKER, at)) >= 0:
        head = data[at + 2 : at + ENTRY_HEAD_BYTES]
        length, crc = int.from_bytes(head[:4], "big"), int.from_bytes(head[4:], "big")
        record = data[at + ENTRY_HEAD_BYTES : at + ENTRY_HEAD_BYTES + length]
        # Length 0 is a marker in a run of zeros that a file system grew the file over: zeros have a CRC of 0.
        if (
            len(head) < 8
            or not 0 < length <= RECORD_BYTES_MAX
            or len(record) < length
            or zlib.crc32(record) != crc
        ):
            at += 1
            continue
        skipped += at - end
        records.append(record)
        at = end = at + ENTRY_HEAD_BYTES + length
    return records, end, skipped


def _key(text: str) -> bytes:
    key = bytes.fromhex(text)
    if len(key) != KEY_BYTES:
        raise ValueError("key length")
    return key


def _next_tunnel_key(value: Any) -> NextTunnelKey | None:
    if value is None:
        return None
    seed, prekey, made = value
    return NextTunnelKey(_key(seed), int(prekey), int(made))


def _damaged(path: Path) -> StateError:
    return StateError(
        f"{path}: damaged; restore this file from a backup, or move {path.parent} away and join the clan anew"
    )
