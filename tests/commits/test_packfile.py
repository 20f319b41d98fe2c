"""What is read out of packs here is what git reads out of them; whatever is odd about them is left to git."""

import hashlib
import os
import random
import subprocess
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clanmeshd.rollout import packfile, reader
from clanmeshd.rollout.git import environment
from clanmeshd.rollout.packfile import Store, Stored, Unsure, apply_delta, read_object
from clanmeshd.rollout.reader import Found, Reader

BYTES_MAX = 1 << 20
COMMITS = 40  # a list that grows by one line is a delta upon the one before it


def git(path: Path, *words: str, stdin: bytes = b"") -> bytes:
    words = ("git", f"--git-dir={path}", *words)
    names = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return subprocess.run(words, input=stdin, env=environment() | names, capture_output=True, check=True).stdout


def _add(path: Path, number: int, lines: list[bytes]) -> bytes:
    blob = git(path, "hash-object", "-w", "--stdin", stdin=b"".join(lines)).decode().strip()
    tree = git(path, "mktree", stdin=f"100644 blob {blob}\tlist\n".encode()).decode().strip()
    parent = ["-p", "main"] if number else []
    commit = git(path, "commit-tree", "-m", f"number {number}", *parent, tree).decode().strip()
    git(path, "update-ref", "refs/heads/main", commit)
    return bytes.fromhex(commit)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with two packs: one with long chains of deltas, a newer one with a single commit."""
    path, dice = tmp_path_factory.mktemp("packs") / "repo.git", random.Random(1)
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", path], check=True, env=environment())
    lines = [dice.randbytes(40).hex().encode() + b"\n" for _ in range(200)]
    for number in range(COMMITS):
        lines.insert(dice.randrange(len(lines)), b"%d\n" % number)
        _add(path, number, lines)
    git(path, "repack", "-a", "-d", "-f", "-q", f"--depth={COMMITS}", "--window=50")
    _add(path, COMMITS, [b"one line\n"])
    git(path, "repack", "-d", "-q")
    return path


def _all(path: Path) -> list[tuple[bytes, str, int]]:
    rows = git(path, "cat-file", "--batch-all-objects", "--batch-check").decode().splitlines()
    return [(bytes.fromhex(name), kind, int(size)) for name, kind, size in (row.split() for row in rows)]


def _content(path: Path, object_id: bytes, kind: str) -> bytes:
    return git(path, "cat-file", kind, object_id.hex())


def _some_delta(path: Path) -> bytes:
    """An object that is kept as a delta, with some behind it."""
    (index, *_) = sorted((path / "objects/pack").glob("*.idx"), key=lambda each: each.stat().st_size)[::-1]
    rows = [line.split() for line in git(path, "verify-pack", "-v", str(index)).splitlines()]
    return bytes.fromhex(max((int(row[5]), row[0].decode()) for row in rows if len(row) == 7)[1])


@pytest.mark.parametrize("options", [(), ("--no-delta-base-offset",)])
def test_each_object_is_read_as_git_reads_it(made: Path, options: tuple[str, ...], tmp_path: Path) -> None:
    """Bases named by where they are in the pack, and by their ids."""
    path = made
    if options:
        path = tmp_path / "repo.git"
        subprocess.run(["git", "clone", "-q", "--bare", made, path], check=True, env=environment(protocols="file"))
        git(path, "-c", "repack.useDeltaBaseOffset=false", "repack", "-a", "-d", "-F", "-q")
    found = _all(path)
    assert len(found) == 3 * (COMMITS + 1)
    for object_id, kind, size in found:
        expected = Stored(kind, size, _content(path, object_id, kind))
        assert read_object([Store(path / "objects")], object_id, BYTES_MAX) == expected


def test_what_is_too_large_is_not_read(made: Path) -> None:
    for object_id, kind, size in _all(made):
        assert read_object([Store(made / "objects")], object_id, size - 1) == Stored(kind, size, None)


def test_what_is_nowhere_is_absent(made: Path, tmp_path: Path) -> None:
    """In all of several stores; one with loose objects may have it."""
    (tmp_path / "pack").mkdir()
    for first in (0, 1, 127, 255):
        assert read_object([Store(tmp_path), Store(made / "objects")], bytes([first] * 20), BYTES_MAX) is None
    (tmp_path / "5a").mkdir()
    with pytest.raises(Unsure):
        read_object([Store(tmp_path), Store(made / "objects")], bytes(20), BYTES_MAX)


def test_a_chain_that_is_too_long_is_for_git(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packfile, "CHAIN_MAX", 1)
    with pytest.raises(Unsure):
        read_object([Store(made / "objects")], _some_delta(made), BYTES_MAX)


@pytest.mark.parametrize("kind", ["pack", "idx"])
def test_a_damaged_pack_or_index_never_gives_another_content(made: Path, tmp_path: Path, kind: str) -> None:
    """What is read is right, or is not read; a size alone, which nothing proves, is asked for nothing here."""
    path, expected = tmp_path / "repo.git", {}
    subprocess.run(["cp", "-r", made, path], check=True)
    for object_id, name, size in _all(made)[::5]:
        expected[object_id] = Stored(name, size, _content(made, object_id, name))
    victims = [(victim, victim.read_bytes()) for victim in sorted((path / "objects/pack").glob(f"*.{kind}"))]
    outcomes: Counter[str] = Counter()
    for seed in range(60):
        dice = random.Random(seed)
        victim, whole = dice.choice(victims)
        data = bytearray(whole)
        for _ in range(dice.choice([1, 20, 400])):
            data[dice.randrange(len(data))] = dice.randrange(256)
        victim.chmod(0o600)
        victim.write_bytes(data[: dice.choice([len(data), len(data), len(data) // 2])])
        for object_id, right in expected.items():
            outcomes[_outcome(path, object_id, right)] += 1
        victim.write_bytes(whole)
    assert outcomes["read"] > 100
    assert outcomes["unsure"] > 100


def _outcome(path: Path, object_id: bytes, right: Stored) -> str:
    try:
        found = read_object([Store(path / "objects")], object_id, BYTES_MAX)
    except Unsure:
        return "unsure"
    if found is None or found.content is None:
        return "absent"
    assert found == right
    return "read"


def test_an_older_kind_of_index_is_for_git(made: Path, tmp_path: Path) -> None:
    path = tmp_path / "repo.git"
    subprocess.run(["cp", "-r", made, path], check=True)
    for pack in (path / "objects/pack").glob("*.pack"):
        pack.with_suffix(".idx").unlink()
        git(path, "index-pack", "--index-version=1", str(pack))
    object_id, kind, _ = _all(path)[0]
    assert _content(path, object_id, kind) == _content(made, object_id, kind)
    with pytest.raises(Unsure):
        read_object([Store(path / "objects")], object_id, BYTES_MAX)


def test_empty_objects_are_read(tmp_path: Path) -> None:
    """An empty file, and an empty folder."""
    path = tmp_path / "repo.git"
    git(path, "init", "-q", "--bare")
    names = [git(path, *words).decode().strip() for words in (("hash-object", "-w", "--stdin"), ("mktree",))]
    git(path, "pack-objects", "-q", str(path / "objects/pack/pack"), stdin="\n".join([*names, ""]).encode())
    git(path, "prune-packed")
    found = [read_object([Store(path / "objects")], bytes.fromhex(name), 0) for name in names]
    assert found == [Stored("blob", 0, b""), Stored("tree", 0, b"")]


def test_a_pack_that_comes_in_the_same_tick_is_seen(made: Path, tmp_path: Path) -> None:
    path = tmp_path / "repo.git"
    subprocess.run(["cp", "-r", made, path], check=True)
    packs, stores = path / "objects/pack", [Store(path / "objects")]
    files = {each: each.read_bytes() for each in packs.iterdir()}
    for each in files:
        each.unlink()
    os.utime(packs, ns=(7, 7))
    object_id, kind, size = _all(made)[0]
    assert read_object(stores, object_id, BYTES_MAX) is None
    for each, data in files.items():
        each.write_bytes(data)
    os.utime(packs, ns=(7, 7))
    assert read_object(stores, object_id, BYTES_MAX) == Stored(kind, size, _content(made, object_id, kind))


def test_a_pack_that_goes_away_meanwhile_is_for_git(made: Path, tmp_path: Path) -> None:
    path = tmp_path / "repo.git"
    subprocess.run(["cp", "-r", made, path], check=True)
    for pack in (path / "objects/pack").glob("*.pack"):
        pack.unlink()
    with pytest.raises(Unsure):
        read_object([Store(path / "objects")], _all(made)[0][0], BYTES_MAX)


# --- deltas --------------------------------------------------------------------------------------------


def _sized(number: int) -> bytes:
    data = bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*data, number])


def _copy(start: int, count: int) -> bytes:
    numbers = [*start.to_bytes(4, "little"), *count.to_bytes(3, "little")]
    order = 0x80 | sum(1 << at for at, number in enumerate(numbers) if number)
    return bytes([order, *(number for number in numbers if number)])


BASE = bytes(range(256)) * 300


@given(
    st.lists(
        st.one_of(st.binary(min_size=1, max_size=127), st.tuples(st.integers(0, 4000), st.integers(1, 66000)))
    )
)
def test_deltas_copy_and_insert(orders: list[bytes | tuple[int, int]]) -> None:
    made, expected = b"", b""
    for order in orders:
        if isinstance(order, bytes):
            made += bytes([len(order)]) + order
            expected += order
        else:
            start, count = order
            made += _copy(start, 0 if count == 0x10000 else count)
            expected += BASE[start : start + count]
    assert apply_delta(BASE, _sized(len(BASE)) + _sized(len(expected)) + made) == expected


@pytest.mark.parametrize(
    "delta",
    [
        b"",
        _sized(4),
        _sized(3) + _sized(1) + b"\1a",  # upon another base
        _sized(4) + _sized(2) + b"\1a",  # less than it says
        _sized(4) + _sized(1) + b"\2ab",  # more
        _sized(4) + _sized(3) + b"\3ab",  # cut short
        _sized(4) + _sized(1) + b"\0",  # an order that means nothing
        _sized(4) + _sized(4) + _copy(1, 4),  # behind the base's end
        _sized(4) + _sized(1 << 40) + _copy(0, 4),
        b"\x84" + b"\x80" * 30,
    ],
)
def test_deltas_that_do_not_fit_are_refused(delta: bytes) -> None:
    with pytest.raises((Unsure, IndexError)):
        apply_delta(b"base", delta)


def _part(data: bytes, base: bytes | None = None, deflate: Callable[[bytes], bytes] = zlib.compress) -> bytes:
    """A file in a pack; with a base, a delta upon that."""
    kind, more = 3 if base is None else 7, len(data) >> 4
    head = bytes([kind << 4 | len(data) & 15 | (0x80 if more else 0)]) + (_sized(more) if more else b"")
    return head + (b"" if base is None else _id(base)) + deflate(data)


def _id(content: bytes) -> bytes:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).digest()


def _delta(base: bytes, target: bytes, orders: bytes) -> bytes:
    return _sized(len(base)) + _sized(len(target)) + orders


def _padded(data: bytes) -> bytes:
    """Deflated behind many blocks of nothing."""
    return b"\x78\1" + b"\0\0\0\xff\xff" * 4000 + zlib.compress(data)[2:]


TARGET, LARGE, MANY, HUGE = b"target", bytes(1 << 16), b"a" * 40_000, bytes(48 << 16)
INSERT = bytes([len(TARGET)]) + TARGET


@pytest.mark.parametrize(
    "parts",
    [
        [_part(b"base"), _part(b"\x84" + b"\x80" * 40 + b"\0" + _sized(len(TARGET)) + INSERT, b"base")],
        [_part(b"base"), _part(_delta(b"base", MANY, b"\1a" * len(MANY)), b"base"),
         _part(_delta(MANY, TARGET, INSERT), MANY)],
        [_part(LARGE), _part(_delta(LARGE, HUGE, b"\x80" * 48), LARGE), _part(_delta(HUGE, TARGET, INSERT), HUGE)],
        [_part(TARGET, deflate=_padded)],
    ],
    ids=["a size that is padded", "orders for single bytes", "much on the way", "blocks of nothing"],
)  # fmt: skip
def test_what_would_keep_us_busy_is_for_git(tmp_path: Path, parts: list[bytes]) -> None:
    """A member may put together what it sends as it likes, if what comes of it has the hash that was signed."""
    pack = b"PACK" + (2).to_bytes(4, "big") + len(parts).to_bytes(4, "big") + b"".join(parts)
    git(tmp_path, "init", "-q", "--bare")
    git(tmp_path, "index-pack", "--stdin", "--strict", stdin=pack + hashlib.sha1(pack).digest())
    assert _content(tmp_path, _id(TARGET), "blob") == TARGET
    with pytest.raises(Unsure):
        read_object([Store(tmp_path / "objects")], _id(TARGET), BYTES_MAX)


def test_a_bomb_ends_at_the_bound(tmp_path: Path) -> None:
    """A small pack that says a small size of an object that inflates to a gigabyte."""
    path = tmp_path / "bomb.pack"
    path.write_bytes(b"\x3f" + zlib.compress(bytes(100 << 20)))
    with pytest.raises(Unsure):
        packfile._read([], packfile._Place(path, 0), BYTES_MAX)


# --- the reader ----------------------------------------------------------------------------------------


async def test_the_reader_asks_git_only_for_the_rest(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same answers by either way, and no process for what lies in packs."""
    head = git(made, "rev-parse", "main").decode().strip()
    names = [head, f"{head}^{{tree}}", f"{head}:list", f"{head}:none", "0" * 40, _some_delta(made).hex()]
    ours = Reader(made)
    answers = [(await ours.find(name), await ours.read(name, BYTES_MAX)) for name in names]
    assert ours._process is None
    assert [found is None for found, _ in answers] == [False, False, False, True, True, False]
    monkeypatch.setattr(reader, "read_object", _unsure)
    gits = Reader(made)
    async with gits.open():
        assert [(await gits.find(name), await gits.read(name, BYTES_MAX)) for name in names] == answers
        assert gits._process is not None


async def test_the_reader_reads_large_objects(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, data = tmp_path / "repo.git", random.Random(2).randbytes(3 * reader.AT_ONCE_BYTES_MAX)
    git(path, "init", "-q", "--bare")
    blob = git(path, "hash-object", "-w", "--stdin", stdin=data).decode().strip()
    git(path, "pack-objects", "-q", str(path / "objects/pack/pack"), stdin=f"{blob}\n".encode())
    git(path, "prune-packed")
    found = Found(bytes.fromhex(blob), "blob", len(data))
    ours = Reader(made, path / "objects")
    assert await ours.read(blob, len(data)) == (found, data)
    assert await ours.read(blob, len(data) - 1) == (found, b"")
    assert ours._process is None
    monkeypatch.setattr(packfile, "OBJECT_BYTES_MAX", len(data) - 1)
    assert await Reader(path).read(blob, len(data)) == (found, data)


async def test_other_expressions_are_gits(made: Path) -> None:
    ours = Reader(made)
    head = git(made, "rev-parse", "main").decode().strip()
    assert (await ours.find("main")) == (await ours.find(head))
    assert (await ours.find(f"{head}~1")) is not None
    assert (await ours.find(f"{head}:no/such")) is None


def _unsure(stores: object, object_id: bytes, bytes_max: int) -> Stored | None:
    raise Unsure


def test_descriptors_are_given_back(made: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for object_id, _, _ in _all(made):
        read_object([Store(made / "objects")], object_id, BYTES_MAX)
    assert len(os.listdir("/proc/self/fd")) == before
