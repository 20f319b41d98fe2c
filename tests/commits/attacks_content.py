"""What is in a commit, properly signed: by a careless signer, or by one whose key was stolen.

The signature is good, so a device that hears of such a head may follow it; it must not run it, nor come to harm.
"""

from tests.commits.stage import Attempt, Scene, attack

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 12345\n"


def _named(scene: Scene, name: str) -> Attempt:
    return scene.attempt(scene.tree_commit(("100644", name, scene.blob(b"hi"))))


@attack("objects were refused", gossip="")
def path_into_gits_own_folder(scene: Scene) -> Attempt:
    """`.git` as a file."""
    return _named(scene, ".git")


@attack("objects were refused", gossip="")
def path_into_gits_own_folder_in_capitals(scene: Scene) -> Attempt:
    """The same where case does not count."""
    return _named(scene, ".GIT")


@attack("objects were refused", gossip="")
def path_upward(scene: Scene) -> Attempt:
    """`..` as a name."""
    return _named(scene, "..")


@attack("objects were refused", gossip="")
def path_with_a_slash(scene: Scene) -> Attempt:
    """A name that is a path: checked out, it would lie where no tree says."""
    return _named(scene, "../../owned")


@attack("objects were refused", gossip="")
def path_absolute(scene: Scene) -> Attempt:
    """A name that begins at the root."""
    return _named(scene, "/etc/cron.d/owned")


@attack("objects were refused", gossip="")
def path_by_a_short_name(scene: Scene) -> Attempt:
    """`.git` as DOS calls it."""
    return _named(scene, "git~1")


@attack("objects were refused", gossip="")
def path_with_invisible_letters(scene: Scene) -> Attempt:
    """`.git` with a letter that some file systems do not see."""
    return _named(scene, ".g\u200cit")


@attack("objects were refused", gossip="")
def name_twice(scene: Scene) -> Attempt:
    """A link and a folder of one name: what is written into the folder goes where the link points."""
    link = ("120000", "x", scene.blob(b"/etc"))
    folder = ("40000", "x", scene.tree(("100644", "owned", scene.blob(b"hi"))))
    return scene.attempt(scene.tree_commit(link, folder))


@attack("objects were refused", gossip="")
def gitmodules_by_a_link(scene: Scene) -> Attempt:
    """`.gitmodules` that leads to another file."""
    return scene.attempt(scene.tree_commit(("120000", ".gitmodules", scene.blob(b"activate"))))


@attack("objects were refused", gossip="")
def submodule_with_an_option_as_its_url(scene: Scene) -> Attempt:
    """CVE-2018-17456's form."""
    return _submodule(scene, "-u./activate", "sub")


@attack("objects were refused", gossip="")
def submodule_that_lies_above(scene: Scene) -> Attempt:
    """CVE-2018-11235's form: the submodule's own folder outside of `.git/modules`."""
    return _submodule(scene, "https://example.org/x", "../../hooks")


@attack("submodule", followed=True)
def submodule(scene: Scene) -> Attempt:
    """A commit of some other repository: nothing here verifies or fetches it."""
    return _submodule(scene, "https://example.org/x", "sub")


@attack("submodule", followed=True)
def submodule_by_an_ext_url(scene: Scene) -> Attempt:
    """A URL that is a command."""
    return _submodule(scene, f"ext::sh -c touch% {scene.marker}", "sub")


def _submodule(scene: Scene, url: str, name: str) -> Attempt:
    text = f'[submodule "{name}"]\n\tpath = sub\n\turl = {url}\n\tupdate = checkout\n'
    modules = ("100644", ".gitmodules", scene.blob(text.encode()))
    return scene.attempt(scene.tree_commit(modules, ("160000", "sub", scene.base)))


@attack("filter", followed=True)
def lfs(scene: Scene) -> Attempt:
    """Files whose content lies at a server that the commit names: a device would run on the pointers."""
    attributes = ("100644", ".gitattributes", scene.blob(b"*.bin filter=lfs diff=lfs merge=lfs -text\n"))
    server = ("100644", ".lfsconfig", scene.blob(b"[lfs]\n\turl = https://evil.example.org/\n"))
    return scene.attempt(scene.tree_commit(attributes, server, ("100644", "x.bin", scene.blob(LFS_POINTER))))


@attack("filter", followed=True)
def filter_of_the_commits_own(scene: Scene) -> Attempt:
    """A filter's name; its command would be one of a device's own settings, or of a `.gitconfig` in the commit."""
    command = f'[filter "run"]\n\tsmudge = touch {scene.marker}\n'
    attributes = ("100644", ".gitattributes", scene.blob(b"* filter=run\n"))
    settings = ("100644", ".gitconfig", scene.blob(command.encode()))
    below = ("40000", "etc", scene.tree(attributes, settings))
    return scene.attempt(scene.tree_commit(below))


@attack("filter", followed=True)
def filter_in_what_looks_binary(scene: Scene) -> Attempt:
    """A zero byte behind the line: a search may take the file for no text, git reads the line."""
    attributes = ("100644", ".gitattributes", scene.blob(b"* filter=run\n\0\n"))
    return scene.attempt(scene.tree_commit(attributes))


@attack("MiB of files", followed=True)
def giant_blob(scene: Scene) -> Attempt:
    """Small when it travels, larger than the disk when it is laid out."""
    piece = scene.blob(bytes(40 << 20))
    names = [f"f{number}" for number in range(30)]
    return scene.attempt(scene.tree_commit(*[("100644", name, piece) for name in names]))


@attack("files", followed=True)
def tree_bomb(scene: Scene) -> Attempt:
    """Ten folders in each of ten folders, and so on: a few hundred bytes, ten thousand million files."""
    entry = ("100644", "f0", scene.blob(b"x"))
    tree = scene.tree(*[(entry[0], f"f{number}", entry[2]) for number in range(10)])
    for _ in range(9):
        tree = scene.tree(*[("40000", f"d{number}", tree) for number in range(10)])
    return scene.attempt(scene.tree_commit(("40000", "bomb", tree)))


@attack("files", followed=True)
def folders_without_files(scene: Scene) -> Attempt:
    """The same with nothing in the innermost ones: git would walk through them for years."""
    tree = scene.tree()
    for _ in range(10):
        tree = scene.tree(*[("40000", f"d{number}", tree) for number in range(10)])
    return scene.attempt(scene.tree_commit(("40000", "bomb", tree)))


@attack("a link that no system can make", followed=True)
def link_to_nothing(scene: Scene) -> Attempt:
    """A link without a target, which fsck lets pass: the checkout would fail today and tomorrow."""
    return scene.attempt(scene.tree_commit(("120000", "nowhere", scene.blob(b""))))


@attack("a link that no system can make", followed=True)
def link_beyond_a_path(scene: Scene) -> Attempt:
    """A link longer than paths may be."""
    return scene.attempt(scene.tree_commit(("120000", "far", scene.blob(b"x" * 4096))))


@attack("the commit has none", followed=True)
def nothing_to_run(scene: Scene) -> Attempt:
    """No clan.toml."""
    scene.author.git("rm", "-q", "clan.toml")
    return scene.attempt(scene.commit(by=scene.alice, files={"x": "y"}))


@attack("clan.toml", followed=True)
def settings_by_a_link(scene: Scene) -> Attempt:
    """A clan.toml that leads out of the checkout."""
    (scene.author.path / "clan.toml").unlink()
    (scene.author.path / "clan.toml").symlink_to("/etc/clanmesh/clanmesh.toml")
    return scene.attempt(scene.commit(by=scene.alice, files={"x": "y"}))


@attack("rollout.settle_s is", followed=True)
def settings_with_a_number_that_is_too_long_to_print(scene: Scene) -> Attempt:
    """Who reads it, or says what it is, falls; and reads it again when it is back."""
    text = (scene.author.path / "clan.toml").read_text() + f"settle_s = 0x{'f' * 5000}\n"
    return scene.attempt(scene.commit(by=scene.alice, files={"clan.toml": text}))


@attack("digits", followed=True)
def settings_with_a_number_that_is_too_long_to_read(scene: Scene) -> Attempt:
    """The same, written with ten digits."""
    text = (scene.author.path / "clan.toml").read_text() + f"settle_s = {'9' * 5000}\n"
    return scene.attempt(scene.commit(by=scene.alice, files={"clan.toml": text}))


@attack("no setting rollout.beacon", followed=True)
def settings_beyond_a_signers_say(scene: Scene) -> Attempt:
    """What a commit's signer does not decide."""
    text = (scene.author.path / "clan.toml").read_text()
    return scene.attempt(scene.commit(by=scene.alice, files={"clan.toml": text + "beacon = true\n"}))
