"""A small world for the rollout: real git and ssh-keygen; devices are `Rollout`s that meet in memory."""

import os
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import trio
import trio.testing

from clanmesh_protocol.keys import ClanId, NodeId
from clanmesh_protocol.records import Resolution, RolloutState, head_statement
from clanmesh_protocol.stream_rollout import Pack, WantPack
from clanmeshd.core.effects import HeadClaim, Holder, Order, SetRollout, Trial
from clanmeshd.reconcile import Latest
from clanmeshd.rollout.fetching import OldVersion
from clanmeshd.rollout.machine import Rollout
from clanmeshd.rollout.packs import NoPack

CLAN = ClanId(bytes(range(16)))
ROOT = Path(__file__).parents[2]
PATIENCE_S = 20.0  # of any wait for something that takes well under a second on an idle machine
BUNDLE_CHUNK = 7919  # odd on purpose: a header's lines arrive in pieces

CLAN_TOML = """\
[rollout]
driver = "command"
build = ["./build"]
activate = ["./activate"]
health = ["./health"]
health_timeout_s = 5
build_timeout_s = 5
activate_timeout_s = 5
"""
BUILD = '#!/bin/sh\necho "built $CLAN_COMMIT" >artifact\n'
ACTIVATE = '#!/bin/sh\necho "$CLAN_PHASE $CLAN_COMMIT $(cat artifact)" >>"$CLAN_RUNTIME_DIR/trace"\n'
HEALTH = "#!/bin/sh\nexit 0\n"
REPOSITORY = {"clan.toml": CLAN_TOML, "build": BUILD, "activate": ACTIVATE, "health": HEALTH}

_GIT_ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.org",
}


@dataclass(frozen=True)
class Key:
    """An SSH key on disk."""

    path: Path

    @property
    def line(self) -> str:
        return self.path.with_suffix(".pub").read_text().strip()

    def sign(self, statement: bytes, namespace: str = "head@clanmesh") -> bytes:
        words = ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(self.path)]
        return subprocess.run(words, input=statement, capture_output=True, check=True).stdout


def make_key(directory: Path, name: str, key_type: str = "ed25519") -> Key:
    path = directory / name
    words = ["ssh-keygen", "-q", "-t", key_type, "-N", "", "-C", name, "-f", str(path)]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
    return Key(path)


def run_program(*words: object) -> "subprocess.CompletedProcess[str]":
    """Run something short to its end."""
    return subprocess.run(
        [str(word) for word in words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )


class Author:
    """Somebody's working repository."""

    def __init__(self, path: Path, key: Key | None) -> None:
        self.path = path
        self.key = key
        self.dates: dict[str, str] = {}
        path.mkdir()
        self.git("init", "-q", "-b", "main")
        self.write(REPOSITORY)

    def git(self, *words: str, data: bytes = b"") -> str:
        finished = subprocess.run(
            ["git", *words],
            cwd=self.path,
            env=_GIT_ENVIRONMENT | self.dates,
            input=data,
            capture_output=True,
            check=False,
        )
        assert finished.returncode == 0, finished.stderr.decode()
        return finished.stdout.decode().strip()

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            (self.path / name).write_text(text)
            (self.path / name).chmod(0o755 if text.startswith("#!") else 0o644)

    def commit(
        self, files: dict[str, str] | None = None, *, message: str = "change", key: Key | None = None
    ) -> bytes:
        """Commit, signed with `key` or the author's own; unsigned when there is neither."""
        self.write(files or {})
        self.git("add", "-A")
        self.git(*self._signing(key or self.key), "commit", "-q", "--allow-empty", "-m", message)
        return self.head()

    def merge(self, *others: bytes, message: str = "merge") -> bytes:
        ids = [other.hex() for other in others]
        self.git(*self._signing(self.key), "merge", "-q", "--no-ff", "-m", message, *ids)
        return self.head()

    def head(self) -> bytes:
        return bytes.fromhex(self.git("rev-parse", "HEAD"))

    def bundle(self, new: bytes, *exclude: bytes) -> bytes:
        self.git("update-ref", "refs/clanmesh/push", new.hex())
        words = ["git", "bundle", "create", "-q", "-", "refs/clanmesh/push", *(f"^{old.hex()}" for old in exclude)]
        return subprocess.run(words, cwd=self.path, env=_GIT_ENVIRONMENT, capture_output=True, check=True).stdout

    @contextmanager
    def clock_at(self, date: str) -> Iterator[None]:
        """Commit with these dates meanwhile."""
        self.dates = {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
        yield
        self.dates = {}

    @staticmethod
    def _signing(key: Key | None) -> list[str]:
        if key is None:
            return ["-c", "commit.gpgsign=false"]
        return ["-c", "gpg.format=ssh", "-c", f"user.signingkey={key.path}", "-c", "commit.gpgsign=true"]


def claim(key: Key, old: bytes | None, new: bytes, *, author: int = 1, ref: str = "main") -> HeadClaim:
    signature = key.sign(head_statement(CLAN, ref, old, new))
    return HeadClaim(NodeId(bytes([author] * 32)), ref, old, new, signature)


async def no_progress(text: str) -> None:
    assert text


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), BUNDLE_CHUNK):
        yield data[at : at + BUNDLE_CHUNK]


@dataclass
class Report:
    commit: bytes | None
    wanted: bytes | None
    state: RolloutState
    bad: tuple[bytes, ...]


@dataclass
class Device:
    """One device's rollout with what it needs around it."""

    number: int
    root: Path
    signers: tuple[str, ...]
    reports: list[Report] = field(default_factory=list)
    wants: list[WantPack] = field(default_factory=list)
    peers: "list[Device]" = field(default_factory=list)  # nearest first
    slot: Latest[SetRollout] = field(default_factory=Latest)
    checkpoints: tuple[bytes, ...] = ()
    tags: tuple[str, ...] = ("all", "backup")
    resolutions: tuple[Resolution, ...] = ()
    orders: tuple[Order, ...] = ()
    trials: tuple[Trial, ...] = ()
    told: list[tuple[str, str]] = field(default_factory=list)
    before_serving: Callable[[trio.SocketStream], None] = lambda stream: None
    served: int = 0
    sent: int = 0  # bytes of packs
    speaks_packs: bool = True  # False: a daemon of an earlier version
    on_pack: Callable[[int], bytes | None] = lambda sent: None  # what to send in the place of the next bytes

    def __post_init__(self) -> None:
        self.runtime = self.root / "run"
        self.runtime.mkdir(parents=True, exist_ok=True)
        self.rollout = self._make()

    def _make(self) -> Rollout:
        directory = self.root / "rollout"
        hooks = self.root / "hooks.d"
        return Rollout(directory, self.runtime, sources=self, report=self._report, tell=self._tell, hooks=hooks)

    def _tell(self, kind: str, text: str) -> None:
        self.told.append((kind, text))

    def restart(self) -> None:
        """A new life of the daemon on the same state. The old one's tasks must have been cancelled."""
        self.slot = Latest()
        self.reports.clear()
        self.rollout = self._make()

    @property
    def node(self) -> NodeId:
        return NodeId(bytes([self.number] * 32))

    async def _report(
        self, commit: bytes | None, wanted: bytes | None, state: RolloutState, bad: tuple[bytes, ...]
    ) -> None:
        self.reports.append(Report(commit, wanted, state, bad))

    def _peer(self, holder: Holder) -> "Device":
        return next(peer for peer in self.peers if peer.node == holder.node)

    @asynccontextmanager
    async def pack(self, holder: Holder, want: WantPack) -> AsyncIterator[tuple[Pack, trio.abc.ReceiveStream]]:
        """Ask a peer for a pack, in memory."""
        peer = self._peer(holder)
        if not peer.speaks_packs:
            raise OldVersion
        peer.served += 1
        peer.wants.append(want)
        ours, theirs = trio.testing.memory_stream_pair()
        opened, answers = trio.open_memory_channel[Pack | NoPack](1)
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.serve_pack, want, self.node, theirs, opened)
            answer = await answers.receive()
            if isinstance(answer, NoPack):
                failure = OSError(f"{answer} ({answer.code})")
            else:
                try:
                    yield answer, ours
                except OSError as error:
                    failure = error  # kept out of the nursery, which would wrap it up
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def serve_pack(
        self,
        want: WantPack,
        client: NodeId,
        stream: trio.testing.MemorySendStream,
        answers: "trio.MemorySendChannel[Pack | NoPack]",
    ) -> None:
        """Serve a pack, or whatever a test puts in its place."""
        async with stream:
            try:
                async with self.offer(want, client) as (frame, chunks):
                    await answers.send(frame)
                    for chunk in chunks:
                        if (instead := self.on_pack(self.sent)) is not None:
                            await stream.send_all(instead)
                            return
                        self.sent += len(chunk)
                        await stream.send_all(chunk)
            except NoPack as none:
                await answers.send(none)

    def offer(self, want: WantPack, client: NodeId) -> AbstractAsyncContextManager[tuple[Pack, Iterator[bytes]]]:
        """What this device's rollout gives."""
        return self.rollout.offers.pack(want, client)

    @asynccontextmanager
    async def git(self, holder: Holder) -> AsyncIterator[trio.abc.Stream]:
        """Open a stream to a peer's git, in memory."""
        peer = self._peer(holder)
        ours, theirs = (trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in socket.socketpair())
        peer.served += 1
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.serve, theirs)
            async with ours:
                try:
                    yield ours
                except OSError as error:
                    failure = error  # kept out of the nursery, which would wrap it up
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            self.before_serving(stream)
            await self.rollout.offers.upload_pack(stream)

    def wanted(self, *claims: HeadClaim, holders: "Sequence[Device] | None" = None) -> SetRollout:
        commits = frozenset(one.new for one in claims)
        sources = self.peers if holders is None else holders
        return SetRollout(
            clan=CLAN,
            node_name=f"node{self.number}",
            tags=self.tags,
            signers=self.signers,
            checkpoints=tuple(("main", commit) for commit in self.checkpoints),
            heads=tuple(sorted(claims, key=lambda one: one.author)),
            holders=tuple(Holder(peer.node, (), commits) for peer in sources),
            resolutions=self.resolutions,
            orders=self.orders,
            trials=self.trials,
        )

    def quarantined(self) -> list[str]:
        """What is left of quarantines, beside the one shell that waits for the next."""
        folder = self.root / "rollout" / "quarantine"
        shells = list(folder.iterdir()) if folder.exists() else []
        try:
            left = [path.relative_to(shell) for shell in shells for path in shell.rglob("*") if not path.is_dir()]
        except FileNotFoundError:
            return ["what is going away in this moment"]
        made = {"HEAD", "config", "objects/info/alternates"}
        return [str(path) for path in left if str(path) not in made] + [shell.name for shell in shells[1:]]

    async def push(
        self, author: Author, key: Key, old: bytes | None, new: bytes, bundle: bytes | None = None
    ) -> HeadClaim:
        """Push as git-remote-clan does; give the claim that the daemon would publish."""
        data = author.bundle(new, *([old] if old else [])) if bundle is None else bundle
        signature = key.sign(head_statement(CLAN, "main", old, new))
        return await self.push_raw(data, old, new, signature)

    async def push_raw(
        self, data: bytes, old: bytes | None, new: bytes, signature: bytes, ref: str = "main"
    ) -> HeadClaim:
        binary = await self.rollout.push(
            self.wanted(),
            ref=ref,
            old=old,
            new=new,
            signature=signature,
            bundle=chunks(data),
            progress=no_progress,
        )
        return HeadClaim(self.node, "main", old, new, binary)

    def put(self, *claims: HeadClaim, holders: "Sequence[Device] | None" = None) -> None:
        self.slot.put(self.wanted(*claims, holders=holders))

    async def reaches(self, state: RolloutState, commit: bytes | None) -> Report:
        """Wait for a report with this state and running commit. Fails when it takes too long."""
        with trio.move_on_after(PATIENCE_S):
            while True:
                for report in self.reports:
                    if report.state is state and report.commit == commit:
                        return report
                await trio.sleep(0.01)
        raise AssertionError(
            f"{state.text} at {commit and commit.hex()} not among {self.reports}; {self.rollout.view()}"
        )

    def trace(self) -> list[list[str]]:
        """What the activate scripts wrote: phase, commit, and the content of the build's artifact."""
        path = self.runtime / "trace"
        return [line.split(maxsplit=2) for line in path.read_text().splitlines()] if path.exists() else []

    def with_signers(self, *keys: Key) -> None:
        self.signers = tuple(key.line for key in keys)


def phases(device: Device) -> list[tuple[str, str]]:
    return [(phase, commit) for phase, commit, _ in device.trace()]


def relay_claim(given: HeadClaim, author: int) -> HeadClaim:
    """The same statement in another device's register."""
    return replace(given, author=NodeId(bytes([author] * 32)))


def processes_with(text: bytes) -> Iterator[int]:
    """Processes whose environment has this."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if text in Path(f"/proc/{name}/environ").read_bytes():
                    yield int(name)
            except OSError:
                continue
