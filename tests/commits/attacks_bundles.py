"""What is wrong with the way that commits come: bundles, refs, packs."""

from tests.commits.stage import GOSSIP, PUSH, Attempt, Scene, attack


def _with_bundle(scene: Scene, change: "object") -> Attempt:
    assert callable(change)
    made = scene.attempt(scene.commit(by=scene.alice))
    return Attempt(made.new, made.old, made.signature, change(made.bundle))


def _with_line(scene: Scene, line: bytes) -> Attempt:
    """A bundle with one more line in its header."""

    def change(data: bytes) -> bytes:
        first, rest = data.split(b"\n", 1)
        return first + b"\n" + line + b"\n" + rest

    return _with_bundle(scene, change)


@attack("a line that means nothing", ways=(PUSH,))
def ref_with_a_line_break(scene: Scene) -> Attempt:
    """A ref's name with more in it than a name."""
    return _with_line(scene, b"f" * 40 + b" refs/heads/x y")


@attack("it builds upon", ways=(PUSH,))
def foundation_that_is_not_here(scene: Scene) -> Attempt:
    """A bundle that builds upon a commit nobody has."""
    return _with_line(scene, b"-" + b"f" * 40)


@attack("asks for filter", ways=(PUSH,))
def partial_bundle(scene: Scene) -> Attempt:
    """A bundle without its files, which would be fetched when they are needed."""
    return _with_line(scene, b"@filter=blob:none")


@attack("asks for object-format=sha256", ways=(PUSH,))
def other_hash(scene: Scene) -> Attempt:
    """A bundle of a repository of the other kind."""
    return _with_line(scene, b"@object-format=sha256")


@attack("the bundle is damaged", ways=(PUSH,))
def no_bundle(scene: Scene) -> Attempt:
    """A pack alone."""
    return _with_bundle(scene, lambda data: data[data.index(b"PACK") :])


@attack("objects were refused", ways=(PUSH,))
def cut_pack(scene: Scene) -> Attempt:
    """A bundle that ends early."""
    return _with_bundle(scene, lambda data: data[:-30])


@attack("objects were refused", ways=(PUSH,))
def changed_pack(scene: Scene) -> Attempt:
    """One bit of a pack."""
    return _with_bundle(scene, lambda data: data[:-30] + bytes([data[-30] ^ 1]) + data[-29:])


@attack("objects were refused", ways=(PUSH,))
def more_behind_the_pack(scene: Scene) -> Attempt:
    """Something behind a pack's end."""
    return _with_bundle(scene, lambda data: data + b"PACK")


@attack("is not in the bundle", ways=(PUSH,))
def other_commit_than_announced(scene: Scene) -> Attempt:
    """The head is one commit, the bundle has another."""
    other = scene.commit(by=scene.alice, message="other")
    bundle = scene.author.bundle(other, scene.base)
    scene.back_to(scene.base)
    return scene.attempt(scene.commit(by=scene.alice, message="head"), bundle=bundle)


@attack("no reachable member", ways=(GOSSIP,))
def head_that_nobody_has(scene: Scene) -> Attempt:
    """A head whose commits its own author cannot show."""
    return scene.attempt(bytes(range(20)), bundle=b"")
