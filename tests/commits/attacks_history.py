"""Where a head lies, and what it brings along."""

from tests.commits.stage import GOSSIP, SILENT, Attempt, Scene, attack


@attack("does not descend from the head", gossip=SILENT)
def downgrade(scene: Scene) -> Attempt:
    """Alice's word that an old revision is the head again: the way back is a new commit."""
    root = bytes.fromhex(scene.author.git("rev-list", "--max-parents=0", "HEAD"))
    return scene.attempt(root, bundle=scene.author.bundle(root))


@attack("does not descend from the head", gossip="heads diverge")
def force_push(scene: Scene) -> Attempt:
    """Alice rewrote history. Nothing moves, and both heads are named."""
    signing = ["-c", "gpg.format=ssh", "-c", f"user.signingkey={scene.alice.path}"]
    scene.author.git(*signing, "commit", "-q", "-S", "--amend", "--allow-empty", "-m", "rewritten")
    return scene.attempt(scene.author.head(), bundle=scene.author.bundle(scene.author.head()))


@attack("does not descend from the head", gossip="heads diverge")
def another_history(scene: Scene) -> Attempt:
    """A root of its own, signed by alice: some other repository of hers."""
    scene.author.git("checkout", "-q", "--orphan", "other")
    new = scene.commit(by=scene.alice, message="another root")
    return scene.attempt(new, bundle=scene.author.bundle(new))


@attack("does not descend from the head", gossip="heads diverge")
def parent_that_git_does_not_see(scene: Scene) -> Attempt:
    """Alice's rewritten history, which names the head as a parent where no parents stand any more."""
    tree = scene.author.git("rev-parse", "HEAD^{tree}")
    who = "A <a@example.org> 1600000000 +0000"
    text = f"tree {tree}\nauthor {who}\ncommitter {who}\nparent {scene.base.hex()}\n\nrewritten\n"
    new = scene.signed_commit(text, by=scene.alice)
    return scene.attempt(new, bundle=scene.author.bundle(new))


@attack("no signer of the clan")
def evicted_merge(scene: Scene) -> Attempt:
    """Alice merges a branch of bob's, as she did when he was a signer."""
    bobs = scene.commit(by=scene.bob, message="bobs", files={"b": "1"})
    scene.back_to(scene.base)
    scene.commit(by=scene.alice, message="hers", files={"a": "1"})
    return scene.attempt(scene.author.merge(bobs))


@attack("no signer of the clan")
def merge_by_an_evicted_key(scene: Scene) -> Attempt:
    """Bob merges two branches of alice's."""
    left = scene.commit(by=scene.alice, message="left", files={"l": "1"})
    scene.back_to(scene.base)
    scene.commit(by=scene.alice, message="right", files={"r": "1"})
    scene.author.key = scene.bob
    return scene.attempt(scene.author.merge(left))


@attack("it is not signed")
def unsigned_side_of_an_octopus(scene: Scene) -> Attempt:
    """Three branches, and one of them is nobody's."""
    sides = []
    for number, by in enumerate((scene.alice, None, scene.alice)):
        scene.back_to(scene.base)
        sides.append(scene.commit(by=by, message=f"side {number}", files={f"s{number}": "1"}))
    scene.back_to(scene.base)
    return scene.attempt(scene.author.merge(*sides))


@attack("it is not signed")
def tampered_tag(scene: Scene) -> Attempt:
    """A merge that quotes alice's tag of a branch; the tag's text was changed, and the branch is unsigned."""
    side = scene.commit(by=None, message="side", files={"s": "1"})
    tagging = ["-c", "gpg.format=ssh", "-c", f"user.signingkey={scene.alice.path}"]
    scene.author.git(*tagging, "tag", "-s", "-m", "good", "v1", scene.base.hex())
    text = scene.author.git("cat-file", "tag", "v1").replace(scene.base.hex(), side.hex())
    scene.author.git("update-ref", "refs/tags/v2", scene.object("tag", f"{text}\n".encode()).hex())
    scene.back_to(scene.base)
    scene.commit(by=scene.alice, message="hers", files={"a": "1"})
    scene.author.git(*tagging, "merge", "-q", "--no-ff", "-S", "-m", "merge", "v2")
    return scene.attempt(scene.author.head())


@attack("", gossip="names no commit")
def tag_as_head(scene: Scene) -> Attempt:
    """An object that is no commit, though it leads to one."""
    scene.commit(by=None)
    tagging = ["-c", "gpg.format=ssh", "-c", f"user.signingkey={scene.alice.path}"]
    scene.author.git(*tagging, "tag", "-s", "-m", "good", "v1")
    tag = bytes.fromhex(scene.author.git("rev-parse", "v1"))
    bundle = scene.author.bundle(scene.author.head(), scene.base)
    scene.author.git("update-ref", "refs/clanmesh/tag", tag.hex())
    return scene.attempt(tag, bundle=bundle)


@attack("it is not signed", ways=(GOSSIP,), gossip="")
def cut_history_hides_a_commit(scene: Scene) -> Attempt:
    """A holder that says its history begins at the tip: nothing below it, so nothing to check."""
    scene.commit(by=None, message="hidden")
    tip = scene.commit(by=scene.alice, message="tip")
    made = scene.attempt(tip)
    (scene.author.path / ".git" / "shallow").write_text(f"{tip.hex()}\n")
    return made


@attack("it is not signed", ways=(GOSSIP,))
def replaced_objects(scene: Scene) -> Attempt:
    """A holder whose `refs/replace` shows a signed commit in the place of the unsigned one."""
    bad = scene.commit(by=None, message="bad")
    made = scene.attempt(bad)
    scene.back_to(scene.base)
    good = scene.commit(by=scene.alice, message="good")
    scene.author.git("replace", bad.hex(), good.hex())
    return made


# --- vouching ------------------------------------------------------------------------------------------


def _vouching(scene: Scene, trailer: str, *, first: bool = False, signed: bool = True) -> Attempt:
    """Merge an unsigned branch under a trailer; `{side}` and `{own}` are the two parents."""
    side = scene.commit(by=None, message="side", files={"s": "1"})
    scene.back_to(scene.base)
    own = scene.commit(by=None if first else scene.alice, message="own", files={"a": "1"})
    text = "merge\n\n" + trailer.format(side=side.hex(), own=own.hex(), base=scene.base.hex()) + "\n"
    scene.author.key = scene.alice if signed else None
    return scene.attempt(scene.author.merge(side, message=text))


@attack("it is not signed")
def unsigned_merge_vouches(scene: Scene) -> Attempt:
    """Who merges must sign: the trailer alone is anybody's text."""
    return _vouching(scene, "Clan-Vouches: {side}", signed=False)


@attack("it is not signed")
def vouching_for_the_first_parent(scene: Scene) -> Attempt:
    """The clan's own line is not vouched for, else one merge would clear everything below it."""
    return _vouching(scene, "Clan-Vouches: {own}\nClan-Vouches: {side}", first=True)


@attack("it is not signed")
def vouching_by_a_short_id(scene: Scene) -> Attempt:
    """A beginning of an id can be made to fit another commit."""
    return _vouching(scene, "Clan-Vouches: {side:.12}")


@attack("it is not signed")
def vouching_for_something_else(scene: Scene) -> Attempt:
    """The trailer names no parent of the merge."""
    return _vouching(scene, "Clan-Vouches: {base}")


@attack("it is not signed")
def vouching_in_the_middle_of_the_text(scene: Scene) -> Attempt:
    """What stands above other paragraphs is quoted text, and no trailer."""
    return _vouching(scene, "Clan-Vouches: {side}\n\nThe end.")


@attack("no signer of the clan")
def evicted_key_vouches(scene: Scene) -> Attempt:
    """Bob, who was removed, merges and vouches."""
    side = scene.commit(by=None, message="side", files={"s": "1"})
    scene.back_to(scene.base)
    scene.commit(by=scene.alice, message="own", files={"a": "1"})
    scene.author.key = scene.bob
    return scene.attempt(scene.author.merge(side, message=f"merge\n\nClan-Vouches: {side.hex()}\n"))


@attack("it is not signed")
def vouched_branch_vouches_for_the_rest(scene: Scene) -> Attempt:
    """An unsigned merge beside the vouched one vouches for a branch that the signed merge does not bring in."""
    stray = scene.commit(by=None, message="stray", files={"x": "1"})
    scene.back_to(scene.base)
    side = scene.commit(by=None, message="side", files={"s": "1"})
    scene.back_to(scene.base)
    scene.commit(by=scene.alice, message="own", files={"a": "1"})
    scene.author.key = None
    scene.author.merge(stray, message=f"merge\n\nClan-Vouches: {stray.hex()}\n")
    scene.author.key = scene.alice
    return scene.attempt(scene.author.merge(side, message=f"merge\n\nClan-Vouches: {side.hex()}\n"))
