"""What the rollout remembers across restarts: one small file, replaced as a whole, and the logs of what was tried.

    state.json         the running revision and whether it is still watched, the failed ones, the history, under
                       which keys the anchor was verified, the signers' words for heads that diverge, which retries
                       were heeded
    logs/<commit>.log  what build, activation and health wrote

A damaged state.json costs the memory of failures and the history, never a start: the running revision is also a
ref of the repository.
"""

import json
import logging
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from clanmesh_protocol.keys import NodeId
from clanmesh_protocol.limits import BAD_COMMITS_MAX
from clanmeshd.core.effects import HeadClaim
from clanmeshd.files import Files

FORMAT: Final = 1
HISTORY_MAX: Final = 100  # entries: months of a busy clan
BAD_MAX: Final = 64  # failed commits that are remembered; a status names the newest few of them
HEEDED_MAX: Final = 64  # authors of retries: twice as many as there are admins at one time
SOAKS_MAX: Final = 2
WITNESSED_MAX: Final = 64  # as many as there may be heads beside the followed one
LOGS_MAX: Final = 20  # files
LOG_TEXT_BYTES_MAX: Final = 1 << 20  # of a log that is shown: its end has the reason

CURRENT: Final = "current"  # the states of an entry
ROLLED_BACK: Final = "rolled-back"
FAILED: Final = "failed"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """One revision that was tried."""

    commit: str
    state: str  # `current`, `rolled-back`, `failed`
    why: str
    at_unix_s: float
    seconds: float  # from the start of the build to the result


@dataclass(frozen=True, slots=True)
class Soak:
    """For how long a commit is to be watched once it runs. After a restart the time begins anew."""

    commit: str
    seconds: int


@dataclass(frozen=True, slots=True)
class Memory:
    """The content of state.json."""

    good: bytes | None = None
    activation: str = ""  # id of the newest activation whose result is in here
    anchor_keys: tuple[str, ...] = ()  # signers' fingerprints and checkpoints upon which the anchor was verified
    anchor: str = ""  # which that was: the repository may be a step ahead after a crash
    bad: tuple[Entry, ...] = ()  # newest last
    history: tuple[Entry, ...] = ()  # newest last
    soaks: tuple[Soak, ...] = ()  # of the running commit while it is watched, and of one that is being tried
    heeded: tuple[tuple[str, int], ...] = ()  # (author in hex, seq) of the newest retry of each author
    witnessed: tuple[HeadClaim, ...] = ()  # the signers' words for heads that diverge; see `Claims`

    def keys_of(self, anchor: bytes | None) -> frozenset[str]:
        """What this anchor was verified upon, if that was remembered of it."""
        same = anchor is not None and anchor.hex() == self.anchor
        return frozenset(self.anchor_keys) if same else frozenset()

    @property
    def soaking(self) -> Soak | None:
        """What is still awaited of the running revision."""
        return next(
            (soak for soak in self.soaks if self.good is not None and soak.commit == self.good.hex()), None
        )

    def failure_of(self, commit: bytes) -> Entry | None:
        """How a commit failed here, if it did."""
        return next((entry for entry in self.bad if entry.commit == commit.hex()), None)

    @property
    def bad_commits(self) -> tuple[bytes, ...]:
        """The newest failed ones, as a status has room for."""
        return tuple(bytes.fromhex(entry.commit) for entry in self.bad[-BAD_COMMITS_MAX:])

    def with_result(self, entry: Entry, activation: str) -> "Memory":
        """Remember how a revision ended."""
        others = tuple(bad for bad in self.bad if bad.commit != entry.commit)
        succeeded = entry.state == CURRENT
        return replace(
            self,
            good=bytes.fromhex(entry.commit) if succeeded else self.good,
            activation=activation or self.activation,
            bad=others if succeeded else (*others, entry)[-BAD_MAX:],
            history=(*self.history, entry)[-HISTORY_MAX:],
        )

    def with_soak(self, commit: bytes, seconds: int) -> "Memory":
        """Remember for how long a commit is to be watched, should it come to run; no time is none."""
        running = tuple(soak for soak in self.soaks if soak is self.soaking and soak.commit != commit.hex())
        return replace(self, soaks=(*running, Soak(commit.hex(), seconds)) if seconds else running)

    def watched(self) -> "Memory":
        """The running revision was watched for long enough."""
        return replace(self, soaks=tuple(soak for soak in self.soaks if soak is not self.soaking))

    def with_retry(self, author: str, seq: int, commit: bytes) -> "Memory":
        """Heed an admin's word to try a commit again; heeded already, it changes nothing."""
        if dict(self.heeded).get(author, -1) >= seq:
            return self
        others = tuple(each for each in self.heeded if each[0] != author)
        bad = tuple(entry for entry in self.bad if entry.commit != commit.hex())
        return replace(self, bad=bad, heeded=(*others, (author, seq))[-HEEDED_MAX:])


@dataclass(slots=True)
class Journal:
    """The file and the folder of logs. Blocking, and small."""

    directory: Path
    files: Files
    memory: Memory = field(default_factory=Memory)

    @property
    def _path(self) -> Path:
        return self.directory / "state.json"

    def load(self, good: bytes | None) -> str | None:
        """Read the file. `good` is the running revision as the repository knows it.

        Gives a line for people when the file is damaged: it is then begun anew from what is sound.
        """
        try:
            self.memory = _read(json.loads(self.files.read(self._path)))
        except FileNotFoundError:
            self.memory = Memory(good=good)
        except (ValueError, KeyError, TypeError, AttributeError):
            self.memory = Memory(good=good)
            return f"{self._path}: damaged and begun anew; the history and the memory of failed revisions are lost"
        return None

    def save(self, memory: Memory) -> None:
        """Replace the file, durably, then take the content as ours. Raises OSError."""
        good = memory.good.hex() if memory.good else None
        value = {"format": FORMAT, **asdict(memory), "good": good, "witnessed": [*map(_plain, memory.witnessed)]}
        self.files.write_atomic(self._path, json.dumps(value, indent=1).encode() + b"\n")
        self.memory = memory

    # --- logs ------------------------------------------------------------------------------------------

    def log_path(self, commit: bytes) -> Path:
        """Where the log of a commit is."""
        return self.directory / "logs" / f"{commit.hex()}.log"

    def begin_log(self, commit: bytes) -> Path:
        """An empty log; the oldest ones make room. Raises OSError."""
        path = self.log_path(commit)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.write_bytes(b"")
        for old in sorted(path.parent.glob("*.log"), key=lambda file: file.stat().st_mtime_ns)[:-LOGS_MAX]:
            old.unlink(missing_ok=True)
        return path

    def read_log(self, commit: bytes) -> str:
        """The end of a log; empty when there is none. Raises OSError."""
        try:
            with open(self.log_path(commit), "rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - LOG_TEXT_BYTES_MAX))
                return file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""


def _read(value: dict[str, Any]) -> Memory:
    if value["format"] != FORMAT:
        raise ValueError(f"format {value['format']!r}")
    return Memory(
        good=bytes.fromhex(value["good"]) if value["good"] is not None else None,
        activation=str(value["activation"]),
        anchor_keys=tuple(str(key) for key in value["anchor_keys"]),
        anchor=str(value.get("anchor", "")),
        bad=tuple(map(_read_entry, value["bad"]))[-BAD_MAX:],
        history=tuple(map(_read_entry, value["history"]))[-HISTORY_MAX:],
        soaks=tuple(Soak(str(soak["commit"]), int(soak["seconds"])) for soak in value.get("soaks", ()))[
            -SOAKS_MAX:
        ],
        heeded=tuple((str(author), int(seq)) for author, seq in value.get("heeded", ()))[-HEEDED_MAX:],
        witnessed=tuple(map(_read_claim, value.get("witnessed", ())))[-WITNESSED_MAX:],
    )


def _read_entry(value: dict[str, Any]) -> Entry:
    commit = str(value["commit"])
    bytes.fromhex(commit)
    return Entry(
        commit, str(value["state"]), str(value["why"]), float(value["at_unix_s"]), float(value["seconds"])
    )


def _plain(claim: HeadClaim) -> dict[str, str]:
    old = claim.old.hex() if claim.old is not None else ""
    return {
        "author": claim.author.hex(),
        "ref": claim.ref,
        "old": old,
        "new": claim.new.hex(),
        "signature": claim.signature.hex(),
    }


def _read_claim(value: dict[str, Any]) -> HeadClaim:
    old, new, signature = (bytes.fromhex(value[name]) for name in ("old", "new", "signature"))
    return HeadClaim(NodeId(bytes.fromhex(value["author"])), str(value["ref"]), old or None, new, signature)
