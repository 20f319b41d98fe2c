"""A quarantine that is over leaves its shell to the next one, and nothing else."""

from pathlib import Path

import pytest
import trio

from clanmeshd.rollout.repository import Quarantine, Repository


@pytest.fixture
async def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "rollout")
    assert await made.open() is None
    return made


def names(quarantine: Quarantine) -> list[str]:
    """All that is in it."""
    return sorted(str(path.relative_to(quarantine.path)) for path in quarantine.path.rglob("*"))


async def test_the_next_one_finds_nothing_of_the_one_before(repository: Repository) -> None:
    async with repository.quarantine() as first:
        fresh = names(first)
        first.incoming.write_bytes(b"PACK")
        (first.pack_directory / "pack-1.idx").write_bytes(b"index")
        (first.path / "objects" / "ab").mkdir()
        (first.path / "objects" / "ab" / "cd").write_bytes(b"loose")
        (first.path / "refs" / "heads" / "incoming").write_text("0" * 40)
        (first.path / "refs" / "remotes").symlink_to(first.path)
        first.is_published = True
    async with repository.quarantine() as second:
        assert second.path == first.path
        assert names(second) == fresh
        async with repository.quarantine() as beside:
            assert beside.path != second.path
            assert names(beside) == fresh


@pytest.mark.parametrize("name", ["config", "HEAD", "objects/info/alternates"])
async def test_one_in_which_something_else_was_written_is_not_used_again(
    repository: Repository, name: str
) -> None:
    async with repository.quarantine() as first:
        (first.path / name).write_text("[core]\n\tfsmonitor = /tmp/evil\n")
        first.is_published = True
    async with repository.quarantine() as second:
        assert second.path != first.path
    assert not first.path.exists()


async def test_one_that_was_not_published_is_not_used_again(repository: Repository) -> None:
    """Something may have been killed in it that has not ended yet."""
    async with repository.quarantine() as first:
        pass
    assert not first.path.exists()


async def test_of_two_that_end_together_one_leaves_its_shell(repository: Repository) -> None:
    async def use() -> None:
        async with repository.quarantine() as quarantine:
            await trio.lowlevel.checkpoint()
            quarantine.is_published = True

    for _ in range(3):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(use)
            nursery.start_soon(use)
        async with repository.quarantine() as last:
            assert list(last.path.parent.iterdir()) == [last.path]
            last.is_published = True


async def test_one_that_has_lost_a_part_is_not_used_again(repository: Repository) -> None:
    async with repository.quarantine() as first:
        (first.path / "refs" / "heads").rmdir()
        first.is_published = True
    assert not first.path.exists()
