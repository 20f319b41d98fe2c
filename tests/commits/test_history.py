"""What counts: merges of several branches, vouched history, commits far apart, OpenSSH's word for other keys."""

from pathlib import Path

import pytest

from clanmesh_protocol.control import Fault
from clanmesh_protocol.errors import MalformedError
from clanmeshd.rollout import history
from clanmeshd.rollout.history import Commit
from clanmeshd.rollout.objects import Objects
from clanmeshd.rollout.signers import read_signature_untrusted, read_signer_untrusted
from clanmeshd.rollout.sshsig import surely_signed
from tests.net.rollout_world import Author, Device, Key, make_key


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Key]:
    directory = tmp_path_factory.mktemp("keys")
    return {
        "alice": make_key(directory, "alice"),
        "bob": make_key(directory, "bob"),
        "rsa": make_key(directory, "rsa", "rsa"),
    }


@pytest.fixture
def author(tmp_path: Path, keys: dict[str, Key]) -> Author:
    return Author(tmp_path / "author", keys["alice"])


@pytest.fixture
def device(tmp_path: Path, keys: dict[str, Key]) -> Device:
    return Device(1, tmp_path / "device", tuple(key.line for key in keys.values()))


@pytest.fixture(params=[64, 0])
def near(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Both ways of looking: one commit after the other, and by git's own list."""
    monkeypatch.setattr(history, "NEAR_COMMITS_MAX", request.param)
    return int(request.param)


class Branches:
    """Branches of one repository, from one base."""

    def __init__(self, author: Author, key: Key) -> None:
        self.author = author
        self.key = key
        self.base = author.commit()
        self._number = 0

    def branch(self, *, by: Key | None, commits: int = 1, start: bytes | None = None) -> bytes:
        """Some commits upon the base; signed by somebody or nobody."""
        self.author.git("reset", "-q", "--hard", (start or self.base).hex())
        self.author.key = by
        for _ in range(commits):
            self._number += 1
            self.author.commit({f"f{self._number}": "1"}, message=f"number {self._number}")
        self.author.key = self.key
        return self.author.head()

    def merge(self, *others: bytes, vouches: tuple[bytes, ...] = (), text: str = "merge") -> bytes:
        """Merge into where we are."""
        lines = "".join(f"Clan-Vouches: {commit.hex()}\n" for commit in vouches)
        return self.author.merge(*others, message=f"{text}\n\n{lines}" if lines else text)


async def pushed(device: Device, author: Author, key: Key) -> Branches:
    """Branches whose base the device has."""
    branches = Branches(author, key)
    await device.push(author, key, None, branches.base)
    return branches


async def test_an_octopus_of_signed_branches(
    device: Device, author: Author, keys: dict[str, Key], near: int
) -> None:
    branches = await pushed(device, author, keys["alice"])
    sides = [branches.branch(by=keys[name], commits=2) for name in ("alice", "bob", "rsa", "bob")]
    author.git("reset", "-q", "--hard", sides[0].hex())
    head = branches.merge(*sides[1:])
    await device.push(author, keys["alice"], branches.base, head)
    assert device.rollout.head == head


async def test_an_octopus_vouches_for_some_of_its_branches(
    device: Device, author: Author, keys: dict[str, Key], near: int
) -> None:
    branches = await pushed(device, author, keys["alice"])
    stranger, nobody = branches.branch(by=None, commits=3), branches.branch(by=None)
    signed = branches.branch(by=keys["bob"])
    branches.branch(by=keys["alice"])
    head = branches.merge(stranger, signed, nobody, vouches=(stranger, nobody))
    await device.push(author, keys["alice"], branches.base, head)
    assert device.rollout.head == head


async def test_an_octopus_vouches_for_too_few(
    device: Device, author: Author, keys: dict[str, Key], near: int
) -> None:
    branches = await pushed(device, author, keys["alice"])
    stranger, nobody = branches.branch(by=None, commits=3), branches.branch(by=None)
    branches.branch(by=keys["alice"])
    head = branches.merge(stranger, nobody, vouches=(stranger,))
    with pytest.raises(Fault, match="it is not signed") as caught:
        await device.push(author, keys["alice"], branches.base, head)
    assert nobody.hex()[:12] in caught.value.what
    assert "Clan-Vouches" in caught.value.remedy


async def test_an_upstream_is_merged_again_and_again(
    device: Device, author: Author, keys: dict[str, Key], near: int
) -> None:
    """Its new commits are vouched for, too; some of its old ones are reached on two ways."""
    branches = await pushed(device, author, keys["alice"])
    upstream, own = branches.branch(by=None, commits=2), branches.base
    for _ in range(3):
        own_before = branches.branch(by=keys["alice"], start=own)
        upstream = branches.branch(by=None, commits=2, start=upstream)
        author.git("reset", "-q", "--hard", own_before.hex())
        own = branches.merge(upstream, vouches=(upstream,))
    await device.push(author, keys["alice"], branches.base, own)
    assert device.rollout.head == own


async def test_an_upstream_larger_than_all_bounds(
    device: Device, author: Author, keys: dict[str, Key], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is vouched for is not looked at one by one."""
    monkeypatch.setattr(history, "COMMITS_MAX", 10)
    monkeypatch.setattr("clanmeshd.rollout.objects.COMMITS_MAX", 10)
    monkeypatch.setattr(history, "NEAR_COMMITS_MAX", 0)
    branches = await pushed(device, author, keys["alice"])
    upstream = branches.branch(by=None, commits=40)
    branches.branch(by=keys["alice"])
    head = branches.merge(upstream, vouches=(upstream,))
    await device.push(author, keys["alice"], branches.base, head)
    long = branches.branch(by=keys["alice"], commits=11, start=head)
    with pytest.raises(Fault, match="over 10 commits"):
        await device.push(author, keys["alice"], head, long)


async def test_a_branch_that_began_before_the_head(device: Device, author: Author, keys: dict[str, Key]) -> None:
    """Its way back ends behind what is accepted, not at it."""
    branches = await pushed(device, author, keys["alice"])
    head = branches.branch(by=keys["alice"], commits=3)
    await device.push(author, keys["alice"], branches.base, head)
    side = branches.branch(by=keys["bob"])
    author.git("reset", "-q", "--hard", head.hex())
    merged = branches.merge(side)
    await device.push(author, keys["alice"], head, merged)
    assert device.rollout.head == merged


async def test_a_branch_from_before_unsigned_history_was_accepted(
    device: Device, author: Author, keys: dict[str, Key]
) -> None:
    """A checkpoint accepts what lies behind it on whatever way it is reached."""
    author.key = None
    old = author.commit(message="long ago")
    checkpoint = author.commit({"a": "1"}, message="unsigned")
    author.key = keys["alice"]
    device.checkpoints = (checkpoint,)
    branches = Branches(author, keys["alice"])
    side = branches.branch(by=keys["bob"], start=old)
    author.git("reset", "-q", "--hard", branches.base.hex())
    head = branches.merge(side)
    await device.push(author, keys["alice"], None, head)
    assert device.rollout.head == head


@pytest.mark.parametrize(
    ("message", "counts"),
    [
        ("merge\n\nClan-Vouches: {id}", True),
        ("merge\n\nClan-Vouches: {id}\n\n", True),
        ("merge\n\ntext\n\nSigned-off-by: A <a@b>\nClan-Vouches: {id}\n", True),
        ("Clan-Vouches: {id}", False),  # a subject
        ("\n\nClan-Vouches: {id}", False),
        ("merge\n\nclan-vouches: {id}", False),
        ("merge\n\n Clan-Vouches: {id}", False),
        ("merge\n\nClan-Vouches: {id} and more", False),
        ("merge\n\nClan-Vouches:{id}", False),
        ("merge\n\nClan-Vouches: {id}\n\nend", False),
    ],
)
def test_trailers(message: str, counts: bool) -> None:
    first, second = bytes([1] * 20), bytes([2] * 20)
    text = f"tree {'0' * 40}\n\n{message.format(id=second.hex())}".encode()
    assert Commit(bytes(20), text, (first, second)).vouched == (frozenset({second}) if counts else frozenset())
    assert Commit(bytes(20), text, (second, first)).vouched == frozenset()
    assert Commit(bytes(20), text, (second, second)).vouched == frozenset()
    assert Commit(bytes(20), text, (second,)).vouched == frozenset()


async def test_what_is_signed_is_what_git_says(author: Author, keys: dict[str, Key]) -> None:
    """Our reading of a commit and of a signature agrees with git and OpenSSH."""
    commit = author.commit(message="subject\n\nwith text\n\nand more")
    objects = Objects(author.path / ".git")
    read = await history.read_commit(objects, commit)
    assert read.signature is not None
    signature = read_signature_untrusted(read.signature)
    signer = read_signer_untrusted(keys["alice"].line)
    assert surely_signed(signer, signature, "git", read.signed)
    assert read.text == read.signed.replace(
        b"\n\n", b"\ngpgsig " + read.signature.rstrip().replace(b"\n", b"\n ") + b"\n\n", 1
    )


@pytest.mark.parametrize(
    "change", ["namespace", "message", "signer", "key type", "hash", "cut", "longer", "version"]
)
def test_what_is_not_surely_signed(keys: dict[str, Key], change: str) -> None:
    message = b"a text"
    data = read_signature_untrusted(keys["alice"].sign(message, "git")).binary
    signer, namespace = read_signer_untrusted(keys["alice"].line), "git"
    assert surely_signed(signer, read_signature_untrusted(data), namespace, message)
    match change:
        case "namespace":
            namespace = "file"
        case "message":
            message += b"."
        case "signer":
            signer = read_signer_untrusted(keys["bob"].line)
        case "key type":
            signer = read_signer_untrusted(keys["rsa"].line)
            data = read_signature_untrusted(keys["rsa"].sign(message, "git")).binary
        case "hash":
            data = data.replace(b"sha512", b"sha513")
        case "cut":
            data = data[:-1]
        case "longer":
            data += b"\0"
        case "version":
            data = data.replace(b"SSHSIG\0\0\0\x01", b"SSHSIG\0\0\0\x02")
    if change == "version":
        with pytest.raises(MalformedError, match="version 2"):
            read_signature_untrusted(data)
    else:
        assert not surely_signed(signer, read_signature_untrusted(data), namespace, message)
