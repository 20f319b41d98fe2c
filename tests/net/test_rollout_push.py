"""Pushes that are taken, and every way of being refused, on real git and ssh-keygen."""

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio

from clanmesh_protocol.control import Fault
from clanmesh_protocol.keys import ClanId
from clanmesh_protocol.records import head_statement
from clanmeshd.rollout import receiving, repository
from tests.net.rollout_world import CLAN, CLAN_TOML, Author, Device, Key, make_key, no_progress, run_program


@pytest.fixture
def mallory(keys: dict[str, Key]) -> Key:
    return keys["mallory"]


@pytest.fixture
def device(tmp_path: Path, alice: Key) -> Iterator[Device]:
    device = Device(1, tmp_path / "device", (alice.line,))
    yield device
    assert not device.quarantined(), "a push left something behind"


async def refused(device: Device, *arguments: object, **named: object) -> Fault:
    """Expect a refusal that says what to do, and leaves nothing published."""
    before = device.rollout.head
    with pytest.raises(Fault) as caught:
        await device.push(*arguments, **named)  # type: ignore[arg-type]
    _check_refusal(device, caught.value, before)
    return caught.value


def _check_refusal(device: Device, fault: Fault, before: bytes | None) -> None:
    assert fault.kind == "refused"
    assert fault.remedy
    assert "\n" not in str(fault)
    assert device.rollout.head == before


async def test_a_signed_push_is_taken(device: Device, author: Author, alice: Key) -> None:
    new = author.commit()
    claim = await device.push(author, alice, None, new)
    assert claim.signature.startswith(b"SSHSIG")
    assert len(claim.signature) <= 1900
    assert device.rollout.head == new
    second = author.commit({"more": "text"})
    await device.push(author, alice, new, second)
    assert device.rollout.head == second


@pytest.mark.parametrize("key_type", ["rsa", "ecdsa"])
async def test_other_key_types_sign_too(tmp_path: Path, key_type: str) -> None:
    key = make_key(tmp_path, "other", key_type)
    author, device = Author(tmp_path / "author", key), Device(1, tmp_path / "device", (key.line,))
    new = author.commit()
    claim = await device.push(author, key, None, new)
    assert len(claim.signature) <= 1900


async def test_an_unsigned_commit_is_named(device: Device, tmp_path: Path, alice: Key) -> None:
    author = Author(tmp_path / "unsigned", None)
    new = author.commit(message="no signature here")
    fault = await refused(device, author, alice, None, new)
    assert new.hex()[:12] in fault.what
    assert "no signature here" in fault.what
    assert "git commit -S" in fault.remedy


async def test_an_unsigned_middle_commit_is_named(device: Device, author: Author, alice: Key) -> None:
    author.commit()
    author.key = None
    middle = author.commit(message="middle")
    author.key = alice
    fault = await refused(device, author, alice, None, author.commit(message="tip"))
    assert middle.hex()[:12] in fault.what
    assert fault.why == "it is not signed"


async def test_a_key_that_nobody_knows_is_named(device: Device, author: Author, alice: Key, mallory: Key) -> None:
    new = author.commit(key=mallory)
    fault = await refused(device, author, alice, None, new)
    assert run_program("ssh-keygen", "-lf", mallory.path).stdout.split()[1] in fault.why
    assert "clanctl signer add" in fault.remedy


async def test_a_tip_cannot_authorise_its_own_key(
    device: Device, author: Author, alice: Key, mallory: Key
) -> None:
    """A commit that carries a signers' file with its own key, and git settings that point at it."""
    base = author.commit()
    await device.push(author, alice, None, base)
    signers = f"* {mallory.line}\n"
    files = {"allowed_signers": signers, ".gitconfig": "[gpg.ssh]\n\tallowedSignersFile = allowed_signers\n"}
    new = author.commit(files, key=mallory)
    fault = await refused(device, author, alice, base, new)
    assert "no signer of the clan" in fault.why


async def test_a_head_by_an_unknown_key(device: Device, author: Author, mallory: Key) -> None:
    fault = await refused(device, author, mallory, None, author.commit())
    assert "no signer of the clan" in fault.why


async def test_a_commit_signed_for_another_purpose(device: Device, author: Author, alice: Key) -> None:
    """Signatures of the wrong namespace: a file's signature moved into a commit."""
    text = author.git("cat-file", "commit", author.commit(key=None).hex())
    lines = [line for line in text.split("\n") if not line.startswith(("gpgsig", " "))]
    plain = ("\n".join(lines) + "\n").encode()
    armor = alice.sign(plain, namespace="file").decode().strip().replace("\n", "\n ")
    head, _, message = plain.decode().partition("\n\n")
    forged = f"{head}\ngpgsig {armor}\n\n{message}".encode()
    new = bytes.fromhex(author.git("hash-object", "-t", "commit", "-w", "--stdin", data=forged))
    fault = await refused(device, author, alice, None, new)
    assert new.hex()[:12] in fault.what


async def test_a_changed_commit_with_a_real_signature(device: Device, author: Author, alice: Key) -> None:
    text = author.git("cat-file", "commit", author.commit(message="paid 10").hex())
    forged = text.replace("paid 10", "paid 99").encode() + b"\n"
    new = bytes.fromhex(author.git("hash-object", "-t", "commit", "-w", "--stdin", data=forged))
    fault = await refused(device, author, alice, None, new)
    assert "does not fit" in fault.why


async def test_a_back_dated_commit_by_a_removed_signer(
    device: Device, author: Author, alice: Key, mallory: Key
) -> None:
    device.with_signers(alice, mallory)
    base = author.commit(key=mallory)
    await device.push(author, alice, None, base)
    device.with_signers(alice)
    with author.clock_at("2001-01-01T00:00:00Z"):
        new = author.commit(key=mallory)
    fault = await refused(device, author, alice, base, new)
    assert "no signer of the clan" in fault.why


async def test_an_openpgp_signature_is_no_signers(device: Device, author: Author, alice: Key) -> None:
    text = author.git("cat-file", "commit", author.commit().hex())
    lines = [line for line in text.split("\n") if not line.startswith(("gpgsig", " "))]
    head, _, message = "\n".join(lines).partition("\n\n")
    armor = "-----BEGIN PGP SIGNATURE-----\n \n iHUEABYKAB0=\n -----END PGP SIGNATURE-----"
    forged = f"{head}\ngpgsig {armor}\n\n{message}\n".encode()
    new = bytes.fromhex(author.git("hash-object", "-t", "commit", "-w", "--stdin", data=forged))
    fault = await refused(device, author, alice, None, new)
    assert "something else than an SSH key" in fault.why


@pytest.mark.parametrize("replayed", ["clan", "ref", "old", "namespace"])
async def test_a_statement_for_something_else(device: Device, author: Author, alice: Key, replayed: str) -> None:
    new = author.commit()
    clan = ClanId(bytes(16)) if replayed == "clan" else CLAN
    ref = "other" if replayed == "ref" else "main"
    old = bytes(20) if replayed == "old" else None
    namespace = "git" if replayed == "namespace" else "head@clanmesh"
    signature = alice.sign(head_statement(clan, ref, old, new), namespace)
    with pytest.raises(Fault) as caught:
        await device.push_raw(author.bundle(new), None, new, signature)
    _check_refusal(device, caught.value, None)
    assert ("was made for 'git'" in caught.value.why) == (replayed == "namespace")


@pytest.mark.parametrize("signature", [b"", b"SSHSIG", b"SSHSIG" + bytes(100), b"-----BEGIN SSH SIGNATURE-----\n"])
async def test_damaged_signatures(device: Device, author: Author, signature: bytes) -> None:
    new = author.commit()
    with pytest.raises(Fault) as caught:
        await device.push_raw(author.bundle(new), None, new, signature)
    _check_refusal(device, caught.value, None)


async def test_not_a_fast_forward(device: Device, author: Author, alice: Key) -> None:
    first = author.commit()
    second = author.commit({"a": "1"})
    await device.push(author, alice, None, second)
    author.git("reset", "-q", "--hard", first.hex())
    fault = await refused(device, author, alice, first, author.commit({"b": "1"}))
    assert "pull" in fault.remedy or "merge" in fault.remedy
    assert second.hex()[:12] in fault.why


async def test_going_back_is_no_fast_forward(device: Device, author: Author, alice: Key) -> None:
    first = author.commit()
    await device.push(author, alice, None, author.commit({"a": "1"}))
    await refused(device, author, alice, None, first, author.bundle(first))


async def test_no_signer_yet(tmp_path: Path, author: Author, alice: Key) -> None:
    device = Device(2, tmp_path / "empty", ())
    fault = await refused(device, author, alice, None, author.commit())
    assert "clanctl signer add" in fault.remedy


async def test_history_before_the_checkpoint_may_be_unsigned(device: Device, author: Author, alice: Key) -> None:
    author.key = None
    author.commit(message="long ago")
    checkpoint = author.commit(message="the last unsigned one", files={"x": "y"})
    author.key = alice
    new = author.commit(message="signed")
    await refused(device, author, alice, None, new)
    device.checkpoints = (checkpoint,)
    await device.push(author, alice, None, new)
    assert device.rollout.head == new


async def test_a_checkpoint_does_not_vouch_for_what_follows(device: Device, author: Author, alice: Key) -> None:
    author.key = None
    device.checkpoints = (author.commit(message="checkpoint"),)
    author.commit(message="unsigned after")
    author.key = alice
    fault = await refused(device, author, alice, None, author.commit())
    assert "unsigned after" in fault.what


async def test_no_clan_toml(device: Device, author: Author, alice: Key) -> None:
    author.git("rm", "-q", "--cached", "-f", "clan.toml", "--ignore-unmatch")
    (author.path / "clan.toml").unlink()
    fault = await refused(device, author, alice, None, author.commit())
    assert "clan.toml" in fault.what + fault.remedy
    assert "activate" in fault.remedy


async def test_a_clan_toml_with_an_unknown_key(device: Device, author: Author, alice: Key) -> None:
    new = author.commit({"clan.toml": CLAN_TOML + "beacon = 1\n"})
    fault = await refused(device, author, alice, None, new)
    assert "beacon (line 9)" in fault.why


async def test_a_repository_that_grows_without_end(
    device: Device, author: Author, alice: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each push is small enough, and all together are more than a late device could fetch at once."""
    monkeypatch.setattr(repository, "REPOSITORY_BYTES_MAX", 500_000)
    monkeypatch.setattr(receiving, "REPOSITORY_BYTES_MAX", 500_000)
    old = None
    for number in range(4):
        new = author.commit({f"noise{number}": secrets.token_hex(100_000)})
        await device.push(author, alice, old, new)
        old = new
    with pytest.raises(Fault, match="with all of its history") as caught:
        await device.push(author, alice, old, author.commit({"noise4": secrets.token_hex(100_000)}))
    assert caught.value.kind == "refused"
    assert device.rollout.head == old
    author.git("reset", "-q", "--hard", old.hex() if old else "")
    await device.push(author, alice, old, author.commit({"small": "1"}))


@pytest.mark.parametrize(("namespace", "why"), [("head@clanmesh", "took over"), ("git", "it was made for")])
async def test_a_push_that_does_not_end(
    device: Device, author: Author, alice: Key, monkeypatch: pytest.MonkeyPatch, namespace: str, why: str
) -> None:
    """Another one has its place then, whether or not anybody had a use for what is sent."""
    monkeypatch.setattr(receiving, "RECEIVE_TIMEOUT_S", 0.2)
    new = author.commit()
    signature = alice.sign(head_statement(CLAN, "main", None, new), namespace)

    async def endless() -> AsyncIterator[bytes]:
        while device.rollout.head is None:
            yield b"#"
            await trio.sleep(0.01)

    with pytest.raises(Fault, match=why), trio.fail_after(20):
        await device.rollout.push(
            device.wanted(),
            ref="main",
            old=None,
            new=new,
            signature=signature,
            bundle=endless(),
            progress=no_progress,
        )


async def test_too_large(device: Device, author: Author, alice: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "PACK_BYTES_MAX", 4096)
    new = author.commit({"noise": "".join(map(str, range(20_000)))})
    fault = await refused(device, author, alice, None, new)
    assert "large" in fault.what


@pytest.mark.parametrize("name", [".git", "..", ".GIT", "a/b", "git~1"])
async def test_hostile_names(device: Device, author: Author, alice: Key, name: str) -> None:
    """Trees that would write outside of the checkout, or into git's own folder."""
    new = hostile_commit(author, alice, name)
    fault = await refused(device, author, alice, None, new)
    assert "objects were refused" in fault.why


async def test_a_hostile_submodule_url_is_refused(device: Device, author: Author, alice: Key) -> None:
    """A URL that git would take for an option is known to fsck."""
    new = author.commit({".gitmodules": '[submodule "a"]\n\tpath = a\n\turl = --upload-pack=touch\n'})
    fault = await refused(device, author, alice, None, new)
    assert "objects were refused" in fault.why


@pytest.mark.parametrize("cut", [0, 3, 40, 200, -20])
async def test_a_truncated_bundle(device: Device, author: Author, alice: Key, cut: int) -> None:
    new = author.commit()
    await refused(device, author, alice, None, new, author.bundle(new)[:cut])


async def test_a_flipped_bit_in_a_bundle(device: Device, author: Author, alice: Key) -> None:
    new = author.commit()
    data = bytearray(author.bundle(new))
    data[-30] ^= 1
    await refused(device, author, alice, None, new, bytes(data))


async def test_a_bundle_upon_commits_that_are_not_here(device: Device, author: Author, alice: Key) -> None:
    first = author.commit()
    new = author.commit({"a": "1"})
    fault = await refused(device, author, alice, None, new, author.bundle(new, first))
    assert first.hex()[:12] in fault.why


async def test_a_bundle_without_the_commit(device: Device, author: Author, alice: Key) -> None:
    first = author.commit()
    new = author.commit({"a": "1"})
    fault = await refused(device, author, alice, None, new, author.bundle(first))
    assert "not in the bundle" in fault.why


async def test_sha256_is_refused_by_name(device: Device, author: Author, alice: Key) -> None:
    author.commit()
    with pytest.raises(Fault, match="SHA-256"):
        await device.push_raw(b"", None, bytes(32), b"")


async def test_another_ref(device: Device, author: Author, alice: Key) -> None:
    new = author.commit()
    signature = alice.sign(head_statement(CLAN, "other", None, new))
    with pytest.raises(Fault, match="only main"):
        await device.push_raw(author.bundle(new), None, new, signature, ref="other")


def hostile_commit(author: Author, key: Key, name: str) -> bytes:
    blob = bytes.fromhex(author.git("hash-object", "-w", "--stdin", data=b"hi"))
    tree_data = b"100644 " + name.encode() + b"\0" + blob
    tree = author.git("hash-object", "-t", "tree", "--literally", "-w", "--stdin", data=tree_data)
    signing = ["-c", "gpg.format=ssh", "-c", f"user.signingkey={key.path}"]
    return bytes.fromhex(author.git(*signing, "commit-tree", "-S", "-m", "hostile", tree))
