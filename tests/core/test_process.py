"""Child processes: bounded in time and output, in a group of their own, never waited for longer than they live."""

import os
from functools import partial
from pathlib import Path

import pytest
import trio

from clanmeshd.process import run
from tests.clock import Stopwatch

PATIENCE_S = 20.0


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def _until_dead(pid: int) -> None:
    with trio.fail_after(PATIENCE_S):
        while _alive(pid):
            await trio.sleep(0.01)


async def test_output_and_exit_status_come_back() -> None:
    done = await run(["sh", "-c", "cat; echo wrong >&2; exit 3"], stdin=b"in", timeout_s=10)
    assert (done.stdout, done.stderr, done.returncode) == (b"in", b"wrong\n", 3)
    assert not done.ok
    assert done.complaint == "wrong"


async def test_an_ended_program_is_not_waited_for() -> None:
    await run(["true"], timeout_s=10)
    with Stopwatch() as watch:
        for _ in range(10):
            assert (await run(["true"], timeout_s=10)).ok
    assert watch.passed_s < 1.5  # waiting out the linger would take 2 s


async def test_a_grandchild_that_holds_the_pipes_holds_nobody() -> None:
    with Stopwatch() as watch:
        done = await run(["sh", "-c", "sleep 30 & echo $!"], timeout_s=20)
    assert watch.passed_s < 5
    assert done.ok
    await _until_dead(int(done.stdout))


async def test_the_whole_group_dies_at_the_timeout(tmp_path: Path) -> None:
    script = f"sleep 60 & echo $! > {tmp_path}/child; sleep 60"
    done = await run(["sh", "-c", script], timeout_s=0.5)
    if not (tmp_path / "child").exists():  # the machine stood still for so long
        done = await run(["sh", "-c", script], timeout_s=PATIENCE_S / 4)
    assert done.timed_out
    assert not done.ok
    await _until_dead(int((tmp_path / "child").read_text()))


async def test_output_is_kept_by_its_end() -> None:
    done = await run(["sh", "-c", "seq 1 100000"], timeout_s=20, output_bytes_max=1000)
    assert len(done.stdout) == 1000
    assert done.stdout.endswith(b"100000\n")


async def test_a_program_that_does_not_read_is_no_fault() -> None:
    assert (await run(["true"], stdin=b"x" * 1_000_000, timeout_s=10)).returncode == 0


async def test_cancelling_kills(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            script = f"echo $$ > {path}.new; mv {path}.new {path}; sleep 60"
            nursery.start_soon(partial(run, ["sh", "-c", script], timeout_s=100))
            while not path.exists():
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    await _until_dead(int(path.read_text()))


async def test_a_missing_program_is_the_worlds_fault() -> None:
    with pytest.raises(FileNotFoundError):
        await run(["/no/such/program"], timeout_s=1)


async def test_only_the_given_environment_is_seen() -> None:
    os.environ["CLANMESH_TEST_LEAK"] = "1"
    try:
        done = await run(["env"], env={"A": "b", "PATH": os.environ["PATH"]}, timeout_s=10)
    finally:
        del os.environ["CLANMESH_TEST_LEAK"]
    assert b"A=b\n" in done.stdout
    assert b"LEAK" not in done.stdout
