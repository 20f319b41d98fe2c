"""A quarantine that is over leaves its shell to the next one, and nothing else."""

from pathlib import Path

import pytest

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
    async with repository.quarantine() as second:
        assert second.path != first.path
    assert not first.path.exists()


async def test_one_that_ended_early_is_not_used_again(repository: Repository) -> None:
    with pytest.raises(RuntimeError, match="cut"):
        async with repository.quarantine() as first:
            raise RuntimeError("cut")
    assert not first.path.exists()


async def test_one_that_has_lost_a_part_is_not_used_again(repository: Repository) -> None:
    async with repository.quarantine() as first:
        (first.path / "refs" / "heads").rmdir()
    assert not first.path.exists()
