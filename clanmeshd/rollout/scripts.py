"""Running the repository's executables from the activator: bounded in time, their output in the log.

Standard library only. Nothing here raises for what a script does: it gives a line that says why it failed.
"""

from __future__ import annotations

import os
import select
import time

from clanmeshd.rollout.activation import MARKER, NIXOS, has_room

TYPE_CHECKING = False
if TYPE_CHECKING:
    from io import BufferedWriter
    from subprocess import Popen

    from clanmeshd.rollout.activation import Activation, Revision

LOG_BYTES_MAX = 16 << 20  # by one script, which is ended when it writes more
LEFTOVER_ROUNDS_MAX = 50  # a process that forks while it is being looked for is found in a later round
LEFTOVER_PAUSE_S = 0.02
SIGKILL, SIGPIPE, SIGXFSZ = 9, 13, 25  # on Linux; `signal` makes enumerations of all, which takes a while
_WATCH_S = 1.0  # between two looks at the log's size
_ENVIRON_BYTES_MAX = 1 << 20

# What a NixOS system's own switching may take beside `activate_timeout_s` (see `switching`).
SWITCH_LOCK_WAIT_S = 120  # for somebody's own nixos-rebuild to be over
PROFILE_TIMEOUT_S = 60  # nix-env makes two symbolic links
UNITS_TIMEOUT_S = 30

TEST = "test"
COMMIT = "commit"
ROLLBACK = "rollback"


def limit_s(revision: Revision) -> int:
    """The most that `activate` takes for a phase of a revision; going back may switch and set the boot loader."""
    if revision.driver == NIXOS:
        return 2 * (revision.activate_timeout_s + SWITCH_LOCK_WAIT_S + UNITS_TIMEOUT_S) + PROFILE_TIMEOUT_S
    return revision.activate_timeout_s


def activate(activation: Activation, revision: Revision, phase: str) -> str | None:
    """Carry out a phase by the revision's driver. Gives None, or why it failed."""
    if revision.driver == NIXOS:
        from clanmeshd.rollout.switching import switch  # other devices never need it

        with _open_log(activation) as log:
            return switch(activation, revision, phase, log)
    return _run(activation, revision, revision.activate, phase, revision.activate_timeout_s, f"activate ({phase})")


def check_health(activation: Activation, revision: Revision, phase: str) -> str | None:
    """Call a revision's health executable. Gives None when it is healthy, or why it is not."""
    if not revision.health:
        return None
    return _run(activation, revision, revision.health, phase, revision.health_timeout_s, "health")


class Program:
    """A program that was started here and leads a session of its own."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def wait(self) -> int:
        """Wait for its end; give its exit status, negative for the signal that ended it."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def _start(argv: list[str], cwd: str, environment: dict[str, str], log: int) -> Program:
    """Start a program as `subprocess` would, whose import takes longer than a script. Raises OSError."""
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, log, 1),
        (os.POSIX_SPAWN_DUP2, log, 2),
    ]
    before = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chdir(cwd)
        program = _found(argv[0], environment)
        # Python ignores these two signals, and what it starts would, too.
        signals = [SIGPIPE, SIGXFSZ]
        return Program(
            os.posix_spawn(program, argv, environment, file_actions=actions, setsid=True, setsigdef=signals)
        )
    finally:
        os.fchdir(before)
        os.close(before)


def _found(name: str, environment: dict[str, str]) -> str:
    """Where a program is: a name without a folder is looked up in the PATH that it will have."""
    if "/" in name:
        return name
    places = [os.path.join(folder, name) for folder in os.get_exec_path(environment)]
    return next((place for place in places if os.access(place, os.X_OK) and not os.path.isdir(place)), name)


def _run(
    activation: Activation, revision: Revision, argv: list[str], phase: str, timeout_s: int, what: str
) -> str | None:
    return call(
        activation,
        argv,
        what=what,
        cwd=revision.checkout,
        timeout_s=timeout_s,
        extra={"CLAN_COMMIT": revision.commit, "CLAN_PHASE": phase},
    )


def call(
    activation: Activation, argv: list[str], *, what: str, cwd: str, timeout_s: int, extra: dict[str, str]
) -> str | None:
    """Run a program with the activation's environment, its output in the log. Gives None, or why it failed."""
    environment = {**activation.environment, **extra, MARKER: activation.id}
    note(activation, f"{what} of {extra['CLAN_COMMIT'][:12]}")
    with _open_log(activation) as log:
        why: str | None
        try:
            process = _start(argv, cwd, environment, log.fileno())
        except OSError as error:
            why = f"{what}: {argv[0]} cannot be run: {error.strerror}"
        else:
            why = wait_for(process, activation.id, timeout_s, log.fileno(), what)
    if why is not None:
        note(activation, why)
    return why


def note(activation: Activation, text: str) -> None:
    """Write a line of our own into the log, if it can be written: it must hold nothing up."""
    try:
        with open(activation.log, "ab", buffering=0) as log:
            log.write(f"--- {text}\n".encode())
    except OSError:
        return


def _open_log(activation: Activation) -> BufferedWriter:
    """The log for a script to write to. On a full disk it is nothing: a script must not fail for its words."""
    if has_room(os.path.dirname(activation.log)):
        try:
            return open(activation.log, "ab")
        except OSError:
            pass
    return open(os.devnull, "ab")


def wait_for(
    process: Program | Popen[bytes], activation_id: str, timeout_s: int, log: int, what: str
) -> str | None:
    """Wait for a program's end, or bring it about. Gives None for status 0, or how it ended."""
    deadline = time.monotonic() + timeout_s
    grown_max = os.fstat(log).st_size + LOG_BYTES_MAX
    with open(os.pidfd_open(process.pid), "rb", buffering=0) as pidfd:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        while not poll.poll(max(0.0, min(_WATCH_S, deadline - time.monotonic())) * 1000):
            if time.monotonic() >= deadline:
                _end(process, activation_id)
                return f"{what} did not end within {timeout_s} s"
            if os.fstat(log).st_size > grown_max:
                _end(process, activation_id)
                return f"{what} wrote over {LOG_BYTES_MAX >> 20} MiB of output"
    status = process.wait()
    if status < 0:
        return f"{what} was killed by {_signal_name(-status)}"
    return f"{what} exited with {status}" if status else None


def _signal_name(number: int) -> str:
    import signal

    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"  # one of those for programs' own use, which have no names


def _end(process: Program | Popen[bytes], activation_id: str) -> None:
    """Kill a script that hangs, with all that it started."""
    os.killpg(process.pid, SIGKILL)
    process.wait()
    end_leftovers(activation_id)


def end_leftovers(activation_id: str) -> int:
    """Kill whatever an activation started and left behind, except this process; give how many it were.

    They are known by the marker in their environment, so it does not matter whose children they became.
    """
    mark = f"{MARKER}={activation_id}".encode()
    ended: set[int] = set()
    for _ in range(LEFTOVER_ROUNDS_MAX):
        found = [pid for pid in processes() if pid != os.getpid() and _is_marked(pid, mark)]
        if not found:
            break
        for pid in found:
            try:
                os.kill(pid, SIGKILL)
            except ProcessLookupError:
                continue
            ended.add(pid)
        time.sleep(LEFTOVER_PAUSE_S)
    return len(ended)


def processes() -> list[int]:
    """All that this program can see."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _is_marked(pid: int, mark: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            environment = file.read(_ENVIRON_BYTES_MAX)
    except OSError:
        return False  # gone, or another user's
    return mark in environment.split(b"\0")
