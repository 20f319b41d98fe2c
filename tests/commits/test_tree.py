"""What is laid out of a revision is what git lays out, by either way; what cannot be laid out is said once."""

import os
from pathlib import Path

import pytest
import trio

from clanmeshd.rollout import objects, tree
from clanmeshd.rollout.build import BuildFailed, check_out
from clanmeshd.rollout.git import environment
from clanmeshd.rollout.objects import Objects
from clanmeshd.rollout.tree import read_few, sync_few
from tests.net.rollout_world import Author

Entries = list[tuple[str, str, bytes]]  # mode, path, content


@pytest.fixture
def author(tmp_path: Path) -> Author:
    return Author(tmp_path / "author", None)


def _commit(author: Author, entries: Entries) -> bytes:
    """A commit with exactly these entries, at whose like `git add` might balk."""
    lines = []
    for mode, path, content in entries:
        blob = author.git("hash-object", "-w", "--stdin", data=content)
        lines.append(f"{mode} {blob}\t{path}\n")
    author.git("read-tree", "--empty")
    author.git("update-index", "--index-info", data="".join(lines).encode())
    made = author.git("commit-tree", "-m", "odd", author.git("write-tree"))
    return bytes.fromhex(made)


def _content(directory: Path) -> dict[str, tuple[int, bytes]]:
    found = {}
    for folder, folders, files in os.walk(directory):
        for name in [*folders, *files]:
            path = Path(folder, name)
            mode = path.lstat().st_mode
            data = os.fsencode(os.readlink(path)) if path.is_symlink() else b""
            found[str(path.relative_to(directory))] = (mode, path.read_bytes() if path.is_file() else data)
    return found


ODD: dict[str, Entries] = {
    "modes": [("100644", "a", b"1"), ("100755", "b", b"2"), ("120000", "c", b"a"), ("100755", "d/e/f", b"")],
    "names": [("100644", name, b"x") for name in ("-rf", "a b", "ä", "a\\b", "$(id)", "*", "A", "a/B", "a/b")],
    "links": [("120000", "up", b"../.."), ("120000", "root", b"/etc/passwd"), ("120000", "loop", b"loop")],
    "a link with a zero byte": [("120000", "cut", b"here\0and no more")],  # fsck lets it pass
    "line ends": [("100644", "dos", b"a\r\nb\r\n"), ("100644", "ident", b"$Id$\n")],
    "attributes": [
        ("100644", ".gitattributes", b"*.txt eol=crlf\n*.c ident\n"),
        ("100644", "a.txt", b"a\nb\n"),
        ("100644", "a.c", b"$Id$\n"),
    ],
    "attributes below": [("100644", "x/.gitattributes", b"*.txt eol=crlf\n"), ("100644", "x/a.txt", b"a\n")],
    "attributes by another name": [
        ("100644", ".GITATTRIBUTES", b"*.txt eol=crlf\n"),
        ("100644", "a.txt", b"a\n"),
    ],
    "an ignore file": [("100644", ".gitignore", b"*\n"), ("100644", "a", b"1")],
}


@pytest.mark.parametrize("umask", [0o022, 0o077])
@pytest.mark.parametrize("case", ODD)
async def test_laid_out_as_git_does(
    author: Author, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, umask: int
) -> None:
    commit = _commit(author, ODD[case])
    before = os.umask(umask)
    try:
        await check_out(Objects(author.path / ".git"), commit, tmp_path / "ours")
        monkeypatch.setattr(tree, "FEW_FILES_MAX", 0)
        await check_out(Objects(author.path / ".git"), commit, tmp_path / "gits")
    finally:
        os.umask(before)
    assert _content(tmp_path / "ours") == _content(tmp_path / "gits") != {}


async def test_both_ways_are_gone(author: Author, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison above is one: few plain files are read here, and none beyond the bound."""
    commit, place = _commit(author, ODD["modes"]), Objects(author.path / ".git")
    assert await read_few(place.reader, commit)
    assert await read_few(place.reader, _commit(author, ODD["attributes"])) is None
    monkeypatch.setattr(tree, "FEW_FILES_MAX", 0)
    assert await read_few(place.reader, commit) is None


async def test_what_no_system_can_name_is_not_tried_again(author: Author, tmp_path: Path) -> None:
    """git alone knows what it could not write; it would be the same tomorrow."""
    commit = _commit(author, [("100644", "n" * 256, b"x")])
    with pytest.raises(BuildFailed, match="too long"):
        await check_out(Objects(author.path / ".git"), commit, tmp_path / "out")


async def test_a_folder_within_a_folder_without_end(
    author: Author, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "FILES_MAX", 10)
    commit = _commit(author, [("100644", "/".join("d" * 200), b"x")])
    with pytest.raises(BuildFailed, match="over 10 files"):
        await check_out(Objects(author.path / ".git"), commit, tmp_path / "out")


def test_the_machines_own_attributes_have_no_say() -> None:
    """Those in /etc would have git lay something else out than is laid out without it."""
    assert environment()["GIT_ATTR_NOSYSTEM"] == "1"


async def test_a_path_through_a_link_is_not_laid_out(author: Author) -> None:
    """fsck refuses a name twice; should it ever not, nothing is written elsewhere."""
    link = author.git("hash-object", "-w", "--stdin", data=b"/etc")
    folder = author.git("rev-parse", f"{_commit(author, [('100644', 'owned', b'1')]).hex()}^{{tree}}")
    rows = b"120000 x\0" + bytes.fromhex(link) + b"40000 x\0" + bytes.fromhex(folder)
    twice = author.git("hash-object", "-t", "tree", "-w", "--stdin", "--literally", data=rows)
    commit = bytes.fromhex(author.git("commit-tree", "-m", "twice", twice))
    assert await read_few(Objects(author.path / ".git").reader, commit) is None


async def test_pipes_and_sockets_of_a_build_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("x")
    with trio.fail_after(5):
        assert await sync_few(tmp_path)
