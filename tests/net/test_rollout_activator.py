"""The activator alone: whatever is killed at whatever step, the last good revision comes back."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from clanmeshd import systemd
from clanmeshd.rollout import steward
from clanmeshd.rollout.activation import (
    COMMITTING,
    DONE,
    FAILED,
    GOOD,
    HEALTH,
    LOCK_NAME,
    REQUEST_NAME,
    ROLLED_BACK,
    ROLLING_BACK,
    STATE_NAME,
    TESTING,
    Activation,
    Revision,
    State,
    activator_lives,
    read_request,
    read_state,
    request_bytes,
    write_state,
)
from tests.net.rollout_world import PATIENCE_S, ROOT, processes_with, run_program

NEW, OLD = "b" * 40, "a" * 40
TRACE = 'echo "$CLAN_PHASE $CLAN_COMMIT" >>"$TRACE"\n'
WORKER = "$PPID"
GUARD = "$(awk '/^PPid/ {print $2}' /proc/$PPID/status)"


class Stage:
    """A folder with a request in it, two revisions, and their scripts."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.trace_path = root / "trace"
        for commit in (NEW, OLD):
            (root / commit).mkdir()
            self.script(commit, "activate", "")
            self.script(commit, "health", "")

    def script(self, commit: str, name: str, body: str) -> None:
        path = self.root / commit / name
        path.write_text("#!/bin/sh\n" + (TRACE if name == "activate" else "") + body + "\n")
        path.chmod(0o755)

    def revision(self, commit: str, timeout_s: int = 5) -> Revision:
        return Revision(commit, str(self.root / commit), ["./activate"], ["./health"], timeout_s, timeout_s)

    def request(self, *, last_good: bool = True, timeout_s: int = 5) -> Path:
        environment = {"PATH": os.environ["PATH"], "TRACE": str(self.trace_path)}
        old = self.revision(OLD) if last_good else None  # the way back is not what has little time
        new = self.revision(NEW, timeout_s)
        path = self.root / REQUEST_NAME
        activation = Activation(
            "id1", new, old, environment, str(self.root / "log"), hooks=str(self.root / "hooks.d")
        )
        path.write_bytes(request_bytes(activation))
        return path

    def touch(self, name: str) -> None:
        (self.root / name).touch()

    def hook(self, name: str, body: str) -> None:
        path = self.root / "hooks.d" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    async def result(self) -> State:
        """Wait for the activator's end; give what it left."""
        self.wait(self._is_done)
        self.wait(lambda: not activator_lives(self.root))
        state = read_state(self.root)
        assert state is not None
        return state

    def _is_done(self) -> bool:
        try:
            state = read_state(self.root)
        except ValueError:
            return False
        return state is not None and state.id == "id1" and state.step == DONE

    @staticmethod
    def wait(condition: Callable[[], object]) -> object:
        deadline = time.monotonic() + PATIENCE_S
        while not (value := condition()):
            assert time.monotonic() < deadline, "it took too long"
            time.sleep(0.01)
        return value

    def trace(self) -> list[str]:
        names = {NEW: "new", OLD: "old"}
        lines = (
            [line.split() for line in self.trace_path.read_text().splitlines()] if self.trace_path.exists() else []
        )
        return [f"{phase} {names[commit]}" for phase, commit in lines]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


async def test_all_goes_well(stage: Stage) -> None:
    await steward.launch(stage.request())
    assert (await stage.result()).result == GOOD
    assert stage.trace() == ["test new", "commit new"]


async def test_the_result_of_a_done_activation_stays(stage: Stage) -> None:
    path = stage.request()
    await steward.launch(path)
    before = await stage.result()
    await steward.launch(path)
    stage.wait(lambda: not activator_lives(stage.root))
    assert read_state(stage.root) == before
    assert stage.trace() == ["test new", "commit new"]


# Where a script kills the program that called it, and then goes on as `then` says.
KILLS = {
    "test": ("activate", '[ "$CLAN_PHASE" != test ] || {{ kill -9 {who}; {then}; }}'),
    "health": ("health", "kill -9 {who}; {then}"),
    "commit": ("activate", '[ "$CLAN_PHASE" != commit ] || {{ kill -9 {who}; {then}; }}'),
}
FOR_EVER = "sleep 1000"


@pytest.mark.parametrize("step", KILLS)
async def test_a_killed_worker_is_made_good_by_its_guard(stage: Stage, step: str) -> None:
    name, body = KILLS[step]
    stage.script(NEW, name, body.format(who=WORKER, then=FOR_EVER))
    await steward.launch(stage.request())
    state = await stage.result()
    assert state.result == ROLLED_BACK
    assert "killed" in state.why
    assert stage.trace()[-1] == "rollback old"
    stage.wait(lambda: not _leftovers(stage))


async def test_a_worker_that_is_killed_while_going_back(stage: Stage) -> None:
    """Once: the second attempt at going back succeeds."""
    stage.script(NEW, "health", "exit 1")
    stage.script(OLD, "activate", f"[ -e once ] || {{ touch once; kill -9 {WORKER}; sleep 1000; }}")
    await steward.launch(stage.request())
    assert (await stage.result()).result == ROLLED_BACK
    assert stage.trace() == ["test new", "rollback old", "rollback old"]
    stage.wait(lambda: not _leftovers(stage))


async def test_a_worker_that_is_killed_for_ever(stage: Stage) -> None:
    stage.script(OLD, "activate", f"kill -9 {WORKER}")
    stage.script(NEW, "health", "exit 1")
    await steward.launch(stage.request())
    state = await stage.result()
    assert state.result == FAILED
    assert "was killed 4 times" in state.why


@pytest.mark.parametrize("step", KILLS)
async def test_a_killed_guard_leaves_the_worker_to_finish(stage: Stage, step: str) -> None:
    name, body = KILLS[step]
    stage.script(NEW, name, body.format(who=GUARD, then="true"))
    await steward.launch(stage.request())
    assert (await stage.result()).result == GOOD
    assert stage.trace() == ["test new", "commit new"]


@pytest.mark.parametrize("step", KILLS)
async def test_both_killed_and_started_again(stage: Stage, step: str) -> None:
    name, body = KILLS[step]
    stage.script(NEW, name, body.format(who=f"{GUARD} {WORKER}", then=FOR_EVER))
    path = stage.request()
    await steward.launch(path)
    stage.wait(lambda: not activator_lives(stage.root))
    await steward.launch(path)
    assert (await stage.result()).result == ROLLED_BACK
    assert stage.trace()[-1] == "rollback old"
    stage.wait(lambda: not _leftovers(stage))


@pytest.mark.parametrize("step", [TESTING, HEALTH, COMMITTING, ROLLING_BACK])
async def test_after_a_power_cut_at_each_step(stage: Stage, step: str) -> None:
    write_state(stage.root, State("id1", step))
    await steward.launch(stage.request())
    state = await stage.result()
    assert state.result == ROLLED_BACK
    assert step in state.why
    assert stage.trace() == ["rollback old"]


async def test_a_damaged_state_means_going_back(stage: Stage) -> None:
    (stage.root / STATE_NAME).write_bytes(b"{")
    await steward.launch(stage.request())
    assert (await stage.result()).result == ROLLED_BACK


async def test_the_state_of_another_activation_means_nothing(stage: Stage) -> None:
    write_state(stage.root, State("id0", DONE, FAILED))
    await steward.launch(stage.request())
    assert (await stage.result()).result == GOOD


async def test_a_stopped_worker_meets_the_dead_man(stage: Stage) -> None:
    """A worker that does not even watch its own bounds: SIGSTOP, as a process stuck in the kernel would be."""
    stage.script(NEW, "health", f"kill -STOP {WORKER}; sleep 1000")
    path = stage.request(timeout_s=1)
    program = (
        "import sys; from clanmeshd.rollout import guard; guard.deadline_s = lambda activation: 1\n"
        "from clanmeshd.rollout.activator import main; sys.exit(main(['--detach', sys.argv[1]]))"
    )
    assert run_program(sys.executable, "-c", program, path).returncode == 0
    assert (await stage.result()).result == ROLLED_BACK
    stage.wait(lambda: not _leftovers(stage))


async def test_a_worker_that_falls_over_its_own_feet_is_undone_and_says_why(stage: Stage) -> None:
    program = (
        "import sys; from clanmeshd.rollout import health\n"
        "health._CHECKS.append(('odd', lambda *given: given[3] == 'test' and 1 // 0 or None))\n"
        "from clanmeshd.rollout.activator import main; sys.exit(main([sys.argv[1]]))"
    )
    assert run_program(sys.executable, "-c", program, stage.request()).returncode == 0
    assert (await stage.result()).result == ROLLED_BACK
    assert "ZeroDivisionError" in (stage.root / "log").read_text()


async def test_a_service_that_was_started_stays(stage: Stage) -> None:
    """What activate puts into the background outlives the activation, and does not hold it up."""
    stage.script(NEW, "activate", '[ "$CLAN_PHASE" = test ] && (sleep 1000 & echo $! >service); true')
    await steward.launch(stage.request())
    assert (await stage.result()).result == GOOD
    service = int((stage.root / NEW / "service").read_text())
    os.kill(service, signal.SIGTERM)  # raises when it is gone


async def test_two_never_run(stage: Stage) -> None:
    stage.script(NEW, "health", "while [ ! -e go ]; do sleep 0.02; done")
    path = stage.request(timeout_s=60)
    await steward.launch(path)
    program = (
        "import sys; from clanmeshd.rollout import activator; activator.LOCK_WAIT_S = 0.1\n"
        "sys.exit(activator.main([sys.argv[1]]))"
    )
    second = run_program(sys.executable, "-c", program, path)
    assert second.returncode == 1
    assert "another activator is at work" in second.stderr
    (stage.root / NEW / "go").touch()
    assert (await stage.result()).result == GOOD
    assert stage.trace() == ["test new", "commit new"]


@pytest.mark.parametrize("content", [b"", b"{}", b'{"format": 1}', b'{"format": 2}', b"\xff"])
async def test_a_damaged_request_is_refused_in_one_line(stage: Stage, content: bytes) -> None:
    path = stage.request()
    path.write_bytes(content)
    with pytest.raises(OSError, match="could not be started"):
        await steward.launch(path)
    assert not (stage.root / LOCK_NAME).exists() or not activator_lives(stage.root)


async def test_a_vanished_checkout_is_a_failure_and_no_crash(stage: Stage) -> None:
    path = stage.request()
    (stage.root / NEW).rename(stage.root / "elsewhere")
    await steward.launch(path)
    state = await stage.result()
    assert state.result == ROLLED_BACK
    assert "cannot be run" in state.why


OUTCOME = 'echo "$0 $CLAN_RESULT $CLAN_COMMIT $CLAN_RUNNING $CLAN_WHY" >>"$TRACE.hooks"'


def _told(stage: Stage) -> list[list[str]]:
    path = Path(f"{stage.trace_path}.hooks")
    lines = path.read_text().splitlines() if path.exists() else []
    return [[Path(line.split()[0]).name, *line.split(maxsplit=4)[1:]] for line in lines]


async def test_hooks_are_told_the_outcome(stage: Stage) -> None:
    stage.hook("10-first", OUTCOME)
    stage.hook("20-second", OUTCOME)
    await steward.launch(stage.request())
    assert (await stage.result()).result == GOOD
    assert _told(stage) == [["10-first", "good", NEW, NEW], ["20-second", "good", NEW, NEW]]


async def test_hooks_are_told_what_failed(stage: Stage) -> None:
    stage.script(NEW, "health", "exit 3")
    stage.hook("10-first", OUTCOME)
    await steward.launch(stage.request())
    assert (await stage.result()).result == ROLLED_BACK
    assert _told(stage) == [["10-first", "rolled-back", NEW, OLD, "health exited with 3"]]


async def test_hooks_are_told_what_could_not_be_built(stage: Stage) -> None:
    """Nothing is activated, and nothing undone."""
    stage.hook("10-first", OUTCOME)
    path = stage.request()
    path.write_bytes(request_bytes(read_request(path)._replace(refused="build exited with 1")))
    await steward.launch(path)
    assert (await stage.result()).why == "build exited with 1"
    assert stage.trace() == []
    assert _told(stage) == [["10-first", "failed", NEW, "build", "exited with 1"]]


@pytest.mark.parametrize("who", [WORKER, f"{GUARD} {WORKER}"])
async def test_each_hook_runs_once_whatever_is_killed(stage: Stage, who: str) -> None:
    """The one that was under way is not run again, those behind it are run."""
    stage.hook("10-first", OUTCOME)
    stage.hook("20-second", f"{OUTCOME}; kill -9 {who}; exit 1")
    stage.hook("30-third", OUTCOME)
    path = stage.request()
    await steward.launch(path)
    stage.wait(lambda: not activator_lives(stage.root))
    await steward.launch(path)
    assert (await stage.result()).result == GOOD
    assert [line[0] for line in _told(stage)] == ["10-first", "20-second", "30-third"]


async def test_a_result_is_there_before_the_hooks_have_ended(stage: Stage) -> None:
    """They may take a minute each; nobody waits for them but the next activation."""
    stage.hook("10-first", 'while [ ! -e "$TRACE.go" ]; do sleep 0.02; done')
    await steward.launch(stage.request())
    stage.wait(stage._is_done)
    assert activator_lives(stage.root)
    stage.touch("trace.go")
    stage.wait(lambda: not activator_lives(stage.root))


@pytest.mark.parametrize("step", [TESTING, HEALTH])
async def test_an_overdue_activation_is_taken_over(stage: Stage, step: str) -> None:
    """Guard and worker both hang: what the timer of systemd's starts ends them and goes back."""
    name = "activate" if step == TESTING else "health"
    stage.script(NEW, name, f"kill -STOP {GUARD} {WORKER}; sleep 1000")
    path = stage.request()
    await steward.launch(path)
    stage.wait(lambda: len(_leftovers(stage)) >= 2)  # the script and its sleep
    module = ("-m", "clanmeshd.rollout.activator", "--overdue", path)
    assert run_program(sys.executable, *module, "another").returncode == 0
    assert _leftovers(stage)
    assert run_program(sys.executable, *module, "id1").returncode == 0
    state = await stage.result()
    assert state.result == ROLLED_BACK
    assert step in state.why
    assert stage.trace()[-1] == "rollback old"
    stage.wait(lambda: not _leftovers(stage))


async def test_the_next_boot_goes_back(stage: Stage) -> None:
    """What the daemon leaves beside the request starts the activator by itself."""
    path = stage.request()
    write_state(stage.root, State("id1", TESTING))
    script = stage.root / "activation.resume"
    script.write_bytes(steward.resumption(path))
    assert run_program("sh", script).returncode == 0
    assert (await stage.result()).result == ROLLED_BACK


async def test_the_next_boot_begins_nothing(stage: Stage) -> None:
    """The daemon asks anew whether a commit may run that nobody began to activate: days may have gone by."""
    path = stage.request()
    script = stage.root / "activation.resume"
    script.write_bytes(steward.resumption(path))
    assert run_program("sh", script).returncode == 0
    assert stage.trace() == []
    assert read_state(stage.root) is None


def test_the_program_needs_the_standard_library_alone() -> None:
    """It must start fast, and whatever happens to the packages that the daemon uses."""
    program = "import clanmeshd.rollout.activator, sys; print(sorted({m.split('.')[0] for m in sys.modules}))"
    words = [sys.executable, "-S", "-P", "-c", program]
    finished = subprocess.run(words, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True)
    for heavy in ("trio", "msgpack", "nacl", "clanmesh_protocol", "asyncio"):
        assert f"'{heavy}'" not in finished.stdout


def test_outside_of_systemd_nothing_is_asked_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYSTEMD_EXEC_PID", "1")
    assert not systemd.is_service()


def _leftovers(stage: Stage) -> list[int]:
    return list(processes_with(f"TRACE={stage.trace_path}".encode()))
