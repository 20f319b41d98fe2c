"""What a failed run of Nix means for trying again, by exit code and by what it says."""

import pytest

from clanmeshd.process import Finished
from clanmeshd.rollout.nix import STORE_PATH, Cause, cause_of_build, cause_of_evaluation, complaint

PATH = "/nix/store/6n8d7z397d338140br6kp9f7mhmf6ibp-x"

FETCH = "/nix/store/7n8d7z397d338140br6kp9f7mhmf6ibp-source"


def finished(code: int, said: str = "", *, timed_out: bool = False) -> Finished:
    return Finished(code, b"", said.encode(), timed_out)


@pytest.mark.parametrize(
    ("code", "said", "cause"),
    [
        (100, f"error: builder for '{PATH}.drv' failed with exit code 3", Cause.REVISION),
        (102, "error: hash mismatch in fixed-output derivation", Cause.REVISION),
        (104, "error: derivation may not be deterministic", Cause.REVISION),
        (101, f"error: building of '{PATH}.drv' timed out after 1 seconds", Cause.STALL),
        (103, "a timeout and a hash mismatch", Cause.STALL),
        (100, f"error: builder for '{PATH}.drv' failed due to signal 9 (Killed)", Cause.STALL),
        (-9, "", Cause.STALL),
        (1, "error: unable to download 'https://example.org/x': Couldn't resolve host name (6)", Cause.WORLD),
        (1, f"error: builder for '{PATH}.drv' failed with exit code 1", Cause.REVISION),
        (1, f"error: builder for '{FETCH}.drv' failed with exit code 1", Cause.WORLD),
        (1, f"error: builder for '{FETCH}.drv' failed\nerror: builder for '{PATH}.drv' failed", Cause.REVISION),
        (1, f"error: Cannot build '{PATH}.drv'.\n Reason: builder failed with exit code 1.", Cause.REVISION),
        (1, f"error: builder for '{PATH}.drv' failed; note: … caused by lack of free disk space", Cause.WORLD),
        (1, f"error: building of '{PATH}.drv' timed out after 1 seconds", Cause.STALL),
        (1, f"error: builder for '{PATH}.drv' failed due to signal 9 (Killed)", Cause.STALL),
        (1, "error: hash mismatch in fixed-output derivation", Cause.REVISION),
        (1, "error: getting status of /nix/var: No such file", Cause.WORLD),
        (1, f"error: builder for '{PATH}.drv' failed to produce output path for output 'out'", Cause.REVISION),
    ],
)
def test_a_failed_build(code: int, said: str, cause: Cause) -> None:
    assert cause_of_build(finished(code, said), {f"{FETCH}.drv"}) is cause


@pytest.mark.parametrize(
    ("code", "said", "cause"),
    [
        (1, "error: syntax error, unexpected end of file", Cause.REVISION),
        (1, "error: stack overflow (possible infinite recursion)", Cause.REVISION),
        (1, "error: cannot build 'x.drv' during evaluation because the option …", Cause.REVISION),
        (1, "error: flake 'x' requires lock file changes but they're not allowed", Cause.REVISION),
        (1, "error: unable to download 'http://x': Couldn't connect to server (7)", Cause.WORLD),
        (1, "fatal: x\nerror: program 'git' failed with exit code 128", Cause.WORLD),
        (1, "error: writing to file: No space left on device", Cause.WORLD),
        (-9, "", Cause.STALL),
    ],
)
def test_a_failed_evaluation(code: int, said: str, cause: Cause) -> None:
    assert cause_of_evaluation(finished(code, said)) is cause


def test_what_takes_too_long_is_a_stall_whatever_it_said() -> None:
    late = finished(-9, "error: unable to download 'x'", timed_out=True)
    assert cause_of_evaluation(late) is Cause.STALL
    assert cause_of_build(late) is Cause.STALL


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("error: a\nerror: b\n  at x\n", "b"),
        ("error:\n  … while evaluating\n\n  error: the cause\n", "the cause"),
        ("trace: x\nlast line\n", "last line"),
        ("error: \x1b[31mred\n", "?[31mred"),
    ],
)
def test_the_last_error_is_shown(said: str, shown: str) -> None:
    assert complaint(finished(1, said)) == shown


def test_a_store_path_is_told_from_others() -> None:
    assert STORE_PATH.fullmatch(PATH)
    assert STORE_PATH.fullmatch(f"{PATH}\n") is None
    assert STORE_PATH.fullmatch(f"{PATH} --option") is None
    assert STORE_PATH.fullmatch("/nix/store/short-x") is None
