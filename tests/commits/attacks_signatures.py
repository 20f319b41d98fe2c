"""Whose signature it is, and for what."""

import subprocess

from clanmesh_protocol.keys import ClanId
from tests.commits.stage import Attempt, Scene, attack
from tests.net.rollout_world import Key


@attack("it is not signed")
def unsigned(scene: Scene) -> Attempt:
    """A commit without a signature; only the head statement has one."""
    return scene.attempt(scene.commit(by=None))


@attack("no signer of the clan")
def unknown_key(scene: Scene) -> Attempt:
    """A commit that mallory signed."""
    return scene.attempt(scene.commit(by=scene.mallory))


@attack("no signer of the clan")
def unknown_key_says_it_is_the_head(scene: Scene) -> Attempt:
    """Alice's commit, meant for another branch; mallory says that it is the head."""
    return scene.attempt(scene.commit(by=scene.alice), by=scene.mallory)


@attack("no signer of the clan")
def removed_signer(scene: Scene) -> Attempt:
    """A commit that bob signed, and alice's word for it."""
    return scene.attempt(scene.commit(by=scene.bob))


@attack("no signer of the clan")
def removed_signer_says_it_is_the_head(scene: Scene) -> Attempt:
    """Alice's commit; bob says that it is the head."""
    return scene.attempt(scene.commit(by=scene.alice), by=scene.bob)


@attack("no signer of the clan")
def back_dated_past_removal(scene: Scene) -> Attempt:
    """Bob's commit, dated when he was a signer: a date is its author's word."""
    with scene.author.clock_at("2001-01-01T00:00:00Z"):
        return scene.attempt(scene.commit(by=scene.bob))


@attack("it is not signed")
def unsigned_middle_commit(scene: Scene) -> Attempt:
    """A commit without a signature below one of alice's."""
    scene.commit(by=None, message="middle")
    return scene.attempt(scene.commit(by=scene.alice, message="tip"))


@attack("no signer of the clan")
def unknown_key_two_below(scene: Scene) -> Attempt:
    """Mallory's commit below two of alice's."""
    for by in (scene.mallory, scene.alice):
        scene.commit(by=by, message=by.path.name)
    return scene.attempt(scene.commit(by=scene.alice, message="tip"))


@attack("no signer of the clan")
def tip_only_self_authorisation(scene: Scene) -> Attempt:
    """A commit that brings the list of signers which it would be good under, and settings that name the list."""
    settings = '[gpg]\n\tformat = ssh\n[gpg "ssh"]\n\tallowedSignersFile = allowed_signers\n'
    files = {
        "allowed_signers": f"* {scene.mallory.line}\nsigner {scene.mallory.line}\n",
        ".gitconfig": settings,
        "clan.toml": (scene.author.path / "clan.toml").read_text(),
    }
    return scene.attempt(scene.commit(by=scene.mallory, files=files))


@attack("no signer of the clan")
def self_authorised_head(scene: Scene) -> Attempt:
    """The same, and mallory says that it is the head: its list has been followed by then, if any is."""
    files = {"allowed_signers": f"* {scene.mallory.line}\n"}
    return scene.attempt(scene.commit(by=scene.mallory, files=files), by=scene.mallory)


@attack("does not fit its content")
def wrong_namespace(scene: Scene) -> Attempt:
    """Alice's signature of a file that has a commit's text."""
    return scene.attempt(_resigned(scene, scene.alice, "file"))


@attack("it was made for 'git'")
def head_in_the_namespace_of_commits(scene: Scene) -> Attempt:
    """A head statement as alice's commit: `git commit-tree` signs any text that looks like one."""
    return scene.attempt(scene.commit(by=scene.alice), namespace="git")


@attack("something else: another clan")
def head_of_another_clan(scene: Scene) -> Attempt:
    """Alice is a signer of two clans."""
    return scene.attempt(scene.commit(by=scene.alice), clan=ClanId(bytes(16)))


@attack("something else: another clan, ref")
def head_of_another_ref(scene: Scene) -> Attempt:
    """Alice's word that a commit is the head of her experiments."""
    return scene.attempt(scene.commit(by=scene.alice), ref="experiments")


@attack("something else: another clan, ref or commit")
def head_from_another_commit(scene: Scene) -> Attempt:
    """Alice's word for a move from elsewhere, in a record that says otherwise."""
    return scene.attempt(scene.commit(by=scene.alice), signed_old=bytes(20))


@attack("does not fit its content")
def signature_of_another_commit(scene: Scene) -> Attempt:
    """Alice's commit with another text and its old signature."""
    signed = scene.commit(by=scene.alice, message="open port 22")
    return scene.attempt(scene.raw_commit(signed, lambda text: text.replace("port 22", "port 23")))


@attack("does not fit its content")
def signature_of_another_tree(scene: Scene) -> Attempt:
    """Alice's commit upon other files."""
    mallorys = scene.commit(by=None, files={"activate": "#!/bin/sh\n: > /tmp/owned\n"})
    tree = scene.author.git("rev-parse", f"{mallorys.hex()}^{{tree}}")
    scene.back_to(scene.base)
    signed = scene.commit(by=scene.alice)
    own = scene.author.git("rev-parse", f"{signed.hex()}^{{tree}}")
    return scene.attempt(scene.raw_commit(signed, lambda text: text.replace(own, tree)))


@attack("it has several signatures")
def two_signatures(scene: Scene) -> Attempt:
    """Mallory's good signature in front of one of alice's for something else."""
    alices = _armor(scene.author.git("cat-file", "commit", scene.commit(by=scene.alice).hex()))
    scene.back_to(scene.base)
    mallorys = scene.commit(by=scene.mallory, message="hers")

    def doubled(text: str) -> str:
        return text.replace("\n\n", f"\ngpgsig {alices}\n\n", 1)

    return scene.attempt(scene.raw_commit(mallorys, doubled))


@attack("it is not signed")
def signature_under_another_header(scene: Scene) -> Attempt:
    """A signature where git looks for one in repositories of the other hash."""
    signed = scene.commit(by=scene.alice)
    return scene.attempt(scene.raw_commit(signed, lambda text: text.replace("gpgsig ", "gpgsig-sha256 ", 1)))


@attack("it is not signed")
def signature_in_the_message(scene: Scene) -> Attempt:
    """A header that comes too late is text."""
    signed = scene.commit(by=scene.alice)
    armor = _armor(scene.author.git("cat-file", "commit", signed.hex()))

    def moved(text: str) -> str:
        return text.replace(f"gpgsig {armor}\n", "", 1) + f"gpgsig {armor}\n"

    return scene.attempt(scene.raw_commit(signed, moved))


@attack("something else than an SSH key")
def openpgp(scene: Scene) -> Attempt:
    """A signature of the other kind: whose keyring would it be?"""
    armor = "-----BEGIN PGP SIGNATURE-----\n \n iHUEABYKAB0=\n -----END PGP SIGNATURE-----"
    return scene.attempt(_with_armor(scene, armor))


@attack("web page of a forge")
def web_flow(scene: Scene) -> Attempt:
    """A commit that a forge signed for whoever could log in there."""
    armor = "-----BEGIN PGP SIGNATURE-----\n \n iHUEABYKAB0=\n -----END PGP SIGNATURE-----"
    signed = _with_armor(scene, armor)
    committer = "committer GitHub <noreply@github.com> "
    return scene.attempt(
        scene.raw_commit(signed, lambda text: text.replace("committer A <a@example.org> ", committer))
    )


@attack("no signer of the clan")
def certificate_by_a_signer(scene: Scene) -> Attempt:
    """Alice's key certifies mallory's: signers are keys, and no authorities over keys."""
    words = ["ssh-keygen", "-q", "-s", str(scene.alice.path), "-I", "mallory", "-n", "signer"]
    key = scene.root / "certified"
    for suffix in ("", ".pub"):
        key.with_name(key.name + suffix).write_bytes(
            scene.mallory.path.with_name(scene.mallory.path.name + suffix).read_bytes()
        )
    key.chmod(0o600)
    subprocess.run([*words, str(key.with_suffix(".pub"))], check=True)
    return scene.attempt(scene.commit(by=Key(key.with_name("certified-cert.pub"))))


@attack("not an SSH signature")
def head_signed_by_nobody(scene: Scene) -> Attempt:
    """A head without a signature at all."""
    made = scene.attempt(scene.commit(by=scene.alice))
    return Attempt(made.new, made.old, b"", made.bundle)


# --- texts of commits ----------------------------------------------------------------------------------


def _armor(text: str) -> str:
    head, _, _ = text.partition("\n\n")
    lines = head.split("\n")
    first = next(at for at, line in enumerate(lines) if line.startswith("gpgsig "))
    rows = [lines[first].removeprefix("gpgsig ")]
    for line in lines[first + 1 :]:
        if not line.startswith(" "):
            break
        rows.append(line)
    return "\n".join(rows)


def _plain(scene: Scene) -> str:
    text = scene.author.git("cat-file", "commit", scene.commit(by=scene.alice).hex()) + "\n"
    return text.replace(f"gpgsig {_armor(text)}\n", "", 1)


def _with_armor(scene: Scene, armor: str) -> bytes:
    text = _plain(scene)
    return scene.object("commit", text.replace("\n\n", f"\ngpgsig {armor}\n\n", 1).encode())


def _resigned(scene: Scene, by: Key, namespace: str) -> bytes:
    return scene.signed_commit(_plain(scene), by=by, namespace=namespace)
