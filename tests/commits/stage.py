"""What attackers of a repository are let loose on: two devices of one clan that run a good commit.

Alice signs for the clan, bob did until he was removed, mallory never has. Whoever attacks controls one member's
daemon, which checks nothing and serves whatever it likes, and any working repository; not alice's private key,
unless a case says so.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
import trio
import trio.testing

from clanmesh_protocol.control import Fault
from clanmesh_protocol.keys import ClanId, NodeId
from clanmesh_protocol.records import RolloutState, head_statement
from clanmesh_protocol.stream_rollout import Pack, WantPack
from clanmeshd.core.effects import HeadClaim
from clanmeshd.rollout.activation import activator_lives
from clanmeshd.rollout.objects import Objects
from clanmeshd.rollout.packs import Packs
from clanmeshd.rollout.transfer import serve_upload_pack
from tests.net.rollout_devices import deploy, running, wait_until
from tests.net.rollout_world import ACTIVATE, CLAN, PATIENCE_S, Author, Device, Key

PUSH: Final = "push"  # by a local user of the device under attack
GOSSIP: Final = "gossip"  # as a member's head record, with the commits at that member
SILENT: Final = ""  # a reason that is none: an old head is no news
MARKER: Final = "executed"  # what hostile commands would leave


@dataclass(frozen=True)
class Attempt:
    """What an attacker shows: a head, who says that it is one, and the commits that go with it."""

    new: bytes
    old: bytes | None
    signature: bytes
    bundle: bytes


@dataclass
class Scene:
    """The people, alice's working repository at the good commit, and the devices that run it."""

    root: Path
    keys: dict[str, Key]
    author: Author
    base: bytes
    given: HeadClaim  # alice's word that the base is the head
    device: Device
    holder: "Careless" = field(init=False)

    def __post_init__(self) -> None:
        self.holder = Careless(9, self.root / "careless", ())
        self.holder.repository = self.author.path / ".git"
        self.device.peers = [self.holder]

    @property
    def alice(self) -> Key:
        """The one signer."""
        return self.keys["alice"]

    @property
    def bob(self) -> Key:
        """A signer until he was removed."""
        return self.keys["bob"]

    @property
    def mallory(self) -> Key:
        """Somebody with a key."""
        return self.keys["mallory"]

    @property
    def marker(self) -> Path:
        """Made by commands that must never run."""
        return self.root / MARKER

    def commit(self, *, by: Key | None, message: str = "change", files: dict[str, str] | None = None) -> bytes:
        """Commit, signed by somebody or nobody."""
        self.author.key = by
        try:
            return self.author.commit(files or {"more": message}, message=message)
        finally:
            self.author.key = self.alice

    def back_to(self, commit: bytes) -> None:
        """Go on from an earlier commit."""
        self.author.git("reset", "-q", "--hard", commit.hex())

    def object(self, kind: str, data: bytes) -> bytes:
        """Write any object, however wrong."""
        words = ("hash-object", "-t", kind, "-w", "--stdin", "--literally")
        return bytes.fromhex(self.author.git(*words, data=data))

    def tree_commit(self, *entries: tuple[str, str, bytes], by: Key | None = None) -> bytes:
        """A commit signed by alice whose tree has these entries (mode, name, id) beside the usual ones."""
        listed = self.author.git("ls-tree", self.base.hex()).splitlines()
        usual = [(line.split()[0], line.split("\t")[1], bytes.fromhex(line.split()[2])) for line in listed]
        tree = self.tree(*usual, *entries)
        signing = ["-c", "gpg.format=ssh", "-c", f"user.signingkey={(by or self.alice).path}"]
        words = ("commit-tree", "-S", "-m", "hostile", "-p", self.base.hex(), tree.hex())
        return bytes.fromhex(self.author.git(*signing, *words))

    def tree(self, *entries: tuple[str, str, bytes]) -> bytes:
        """A tree of exactly these entries, in git's order."""
        ordered = sorted(entries, key=lambda entry: entry[1].encode() + b"/" * (entry[0] == "40000"))
        return self.object(
            "tree", b"".join(f"{mode.lstrip('0')} {name}\0".encode() + blob for mode, name, blob in ordered)
        )

    def blob(self, data: bytes) -> bytes:
        """A file's content."""
        return self.object("blob", data)

    def raw_commit(self, commit: bytes, change: Callable[[str], str]) -> bytes:
        """A commit whose text is another one's, changed."""
        text = self.author.git("cat-file", "commit", commit.hex()) + "\n"
        return self.object("commit", change(text).encode())

    def signed_commit(self, text: str, *, by: Key, namespace: str = "git") -> bytes:
        """A commit of this text, with a signature put into it."""
        armor = by.sign(text.encode(), namespace).decode().strip().replace("\n", "\n ")
        return self.object("commit", text.replace("\n\n", f"\ngpgsig {armor}\n\n", 1).encode())

    def attempt(
        self,
        new: bytes,
        *,
        by: Key | None = None,
        old: bytes | None = None,
        namespace: str = "head@clanmesh",
        ref: str = "main",
        clan: ClanId = CLAN,
        signed_old: bytes | None = None,
        bundle: bytes | None = None,
    ) -> Attempt:
        """Say with a signature (alice's, as long as a case names nobody else) that this is the head."""
        old = self.base if old is None else old
        statement = head_statement(clan, ref, old if signed_old is None else signed_old, new)
        signature = (by or self.alice).sign(statement, namespace)
        data = self.author.bundle(new, self.base) if bundle is None else bundle
        return Attempt(new, old, signature, data)


class Anything(Objects):
    """Objects that are all taken for commits."""

    async def commits_here(self, commits: Collection[bytes]) -> set[bytes]:
        """Those that are here."""
        return {commit for commit in commits if await self.reader.find(commit.hex()) is not None}


class Careless(Device):
    """A member's daemon in the hands of an attacker: it serves a repository that nobody has checked."""

    repository: Path

    def offer(self, want: WantPack, client: NodeId) -> AbstractAsyncContextManager[tuple[Pack, Iterator[bytes]]]:
        """Pack everything that is there."""
        packs = Packs(Anything(self.repository), self.root / "packs")
        packs.open()
        return packs.offer(want)

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve everything that is there."""
        async with stream:
            await serve_upload_pack(Objects(self.repository), stream)


Case = Callable[[Scene], Attempt]


@dataclass(frozen=True)
class Attack:
    """One case: its name, what the refusal says on each way, and how it is made."""

    name: str
    make: Case
    reasons: dict[str, str]  # by way: a part of what is said; a way that is not there makes no sense for it
    runs_never: bool  # properly signed, so it may be followed, but it must never run


ATTACKS: list[Attack] = []


def attack(
    reason: str, *, gossip: str | None = None, ways: tuple[str, ...] = (PUSH, GOSSIP), followed: bool = False
) -> Callable[[Case], Case]:
    """Enter a case into the corpus under its function's name."""

    def enter(make: Case) -> Case:
        said = {PUSH: reason, GOSSIP: reason if gossip is None else gossip}
        reasons = {way: text for way, text in said.items() if way in ways}
        ATTACKS.append(Attack(make.__name__.replace("_", " "), make, reasons, followed))
        return make

    return enter


async def prepare(root: Path, keys: dict[str, Key]) -> None:
    """Lay the good commit down, at its author and on a device, for scenes to be copied from."""
    author = Author(root / "author", keys["alice"])
    device = Device(1, root / "device", (keys["alice"].line,))
    author.commit(message="the first")
    base = author.commit({"activate": ACTIVATE, "more": "1"})
    async with running(device):
        await deploy(device, author, keys["alice"], None, base)
        await device.reaches(RolloutState.CURRENT, base)
    await wait_until(
        lambda: not activator_lives(device.root / "rollout")
    )  # it writes where scenes are copied from


def enter_scene(template: Path, root: Path, keys: dict[str, Key]) -> Scene:
    """A scene of its own for one case."""
    shutil.copytree(template, root, symlinks=True, dirs_exist_ok=True)
    author = Author.__new__(Author)
    author.path, author.key, author.dates = root / "author", keys["alice"], {}
    base = author.head()
    signature = keys["alice"].sign(head_statement(CLAN, "main", None, base))
    given = HeadClaim(NodeId(bytes([1] * 32)), "main", None, base, signature)
    return Scene(root, keys, author, base, given, Device(1, root / "device", (keys["alice"].line,)))


async def refused_as_push(scene: Scene, attempt: Attempt) -> str:
    """Push; give what is said. Fails when it is taken."""
    with pytest.raises(Fault) as caught:
        await scene.device.push_raw(attempt.bundle, attempt.old, attempt.new, attempt.signature)
    assert caught.value.kind == "refused"
    assert caught.value.remedy
    return str(caught.value)


async def refused_as_claim(scene: Scene, attempt: Attempt, attack: Attack, *, speaks_packs: bool = True) -> str:
    """Hear of it from the careless member; give what is shown of it in the end."""
    device, reason = scene.device, attack.reasons[GOSSIP]
    silent = reason == SILENT and PUSH in attack.reasons and attack.name == "downgrade"
    scene.holder.speaks_packs = speaks_packs
    claim = HeadClaim(scene.holder.node, "main", attempt.old, attempt.new, attempt.signature)
    async with running(device):
        device.put(scene.given, claim)
        shown = ""
        if silent:
            await wait_until(lambda: device.rollout.view()["wanted"] == scene.base.hex())
            await trio.testing.wait_all_tasks_blocked(0.3)
        else:
            with trio.move_on_after(PATIENCE_S):  # a holder that was slow is asked once more before it is refused
                while not (said := _shown(device)) or reason not in said:
                    await trio.sleep(0.01)
            shown = _shown(device)
        if not attack.runs_never and "diverge" not in reason:
            await wait_until(lambda: device.rollout.view()["wanted"] == scene.base.hex())
        await trio.testing.wait_all_tasks_blocked(0.05)
    return shown


def _shown(device: Device) -> str:
    view = device.rollout.view()
    settled = view["state"] not in ("fetching", "verifying", "building", "testing", "behind")
    why = str(view["why"] or "") if settled else ""
    return "; ".join(filter(None, [*map(str, view["refused"]), why]))


def published(device: Device) -> set[str]:
    """All objects that the device would serve."""
    words = ["git", f"--git-dir={device.root / 'rollout' / 'repo.git'}", "cat-file", "--batch-all-objects"]
    return set(run_lines([*words, "--batch-check=%(objectname)"]))


def run_lines(words: list[str]) -> list[str]:
    """The lines that a program prints."""
    environment = {"PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
