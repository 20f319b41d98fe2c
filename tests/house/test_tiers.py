"""The runner of the tiers: it counts, it kills what hangs, and it does not take nothing for success."""

import os
import sys
import time
from pathlib import Path

import pytest

from tests import tiers
from tests.clock import wait_until
from tests.tiers import Result, Running, Tier

QUICK_S = 60.0


@pytest.fixture(autouse=True)
def own_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This very run has reports that must not be written over."""
    monkeypatch.setattr(tiers, "REPORTS", tmp_path)


def run(tier: Tier) -> Result:
    """Run one tier to its end."""
    [result] = tiers.run_round([tier])
    return result


def is_running(pid: int) -> bool:
    """Whether a process is there and not dead already."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def python(code: str) -> tuple[str, ...]:
    """A command."""
    return (sys.executable, "-c", code)


def test_each_command_counts_as_one() -> None:
    """A failing one does not keep the rest from running."""
    result = run(Tier("static", QUICK_S, commands=(python("raise SystemExit(1)"), python("print(1)"))))
    assert (result.passed, result.failed) == (1, 1)


def test_pytest_is_counted_by_its_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Passed, failed, failed in a fixture, skipped with its reason."""
    (tmp_path / "sample").mkdir()
    (tmp_path / "sample" / "test_sample.py").write_text(
        "import pytest\n"
        "def test_good(): pass\n"
        "def test_bad(): assert False\n"
        "@pytest.fixture\n"
        "def broken(): raise ValueError\n"
        "def test_broken(broken): pass\n"
        "@pytest.mark.skip(reason='no kernel')\n"
        "def test_later(): pass\n"
    )
    monkeypatch.setattr(tiers, "ROOT", tmp_path)
    result = run(Tier("sample", QUICK_S, ("sample",)))
    assert (result.passed, result.failed, result.troubles) == (1, 2, [])
    assert [line.endswith("test_later: no kernel") for line in result.skipped] == [True]
    assert result.idle == []


def test_half_a_tier_does_not_pass_for_a_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each of its folders something has to run."""
    for folder, mark in (("tried", ""), ("skipped", "@pytest.mark.skip(reason='no root')\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").touch()
        (tmp_path / folder / f"test_{folder}.py").write_text(f"import pytest\n{mark}def test(): pass\n")
    monkeypatch.setattr(tiers, "ROOT", tmp_path)
    assert run(Tier("both", QUICK_S, ("tried", "skipped"))).idle == ["skipped"]


def test_what_hangs_is_killed_with_all_that_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A grandchild too, and it counts as a failure."""
    monkeypatch.setattr(tiers, "PATIENCE_S", 0.0)
    pid_file = tmp_path / "pid"
    report = f"p or open({str(pid_file)!r}, 'w').write(str(os.getpid()))"
    hang = f"import os, time; p = os.fork(); {report}; time.sleep(600)"
    running = Running(Tier("hang", 0.5, commands=(python(hang), python("print('never')"))))
    running.advance()
    assert wait_until(lambda: pid_file.exists() and pid_file.read_text(), QUICK_S)
    running._started_s = time.monotonic()  # whatever its start took
    while running.advance():
        os.sched_yield()
    assert running.result.troubles == ["killed after 1 s"]
    assert running.result.passed == 0
    assert wait_until(lambda: not is_running(int(pid_file.read_text())), QUICK_S)
    assert tiers.conclude([running.result], strict=False) == 1


def test_two_tiers_at_a_time(tmp_path: Path) -> None:
    """Each says when it began and ended; the third begins when one of the first two is over."""
    names = ("first", "second", "third")
    code = "import time, pathlib as p; f = p.Path({!r}); f.write_text(str(time.monotonic()) + ' '); {}"
    ends = "f.write_text(f.read_text() + str(time.monotonic()))"
    waits = f"[0 for _ in iter(lambda: p.Path({str(tmp_path / 'second')!r}).exists(), True)]"
    commands = {name: code.format(str(tmp_path / name), f"{waits}; {ends}") for name in names}
    results = tiers.run_round([Tier(name, QUICK_S, commands=(python(commands[name]),)) for name in names])
    assert [result.passed for result in results] == [1, 1, 1]
    times = {name: [float(word) for word in (tmp_path / name).read_text().split()] for name in names}
    assert times["second"][0] < times["first"][1], "side by side"
    assert times["third"][0] > min(times["first"][1], times["second"][1]), "but no three of them"


def test_pytest_that_dies_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a report, an empty count is no success."""
    (tmp_path / "sample").mkdir()
    (tmp_path / "sample" / "test_dies.py").write_text("import os\ndef test(): os._exit(9)\n")
    monkeypatch.setattr(tiers, "ROOT", tmp_path)
    result = run(Tier("sample", QUICK_S, ("sample",)))
    assert result.troubles == ["pytest ended with status 9"]


def test_a_tier_of_which_nothing_ran_fails_where_nobody_reads(capsys: pytest.CaptureFixture[str]) -> None:
    """For a person it is said and counted; for CI it is an error."""
    idle = Result(Tier("kernel", 40, ("tests/kernel",)), skipped=["test_boots: no emulator"])
    good = Result(Tier("core", 90, ("tests/core",)), passed=3, tried={"tests/core"})
    assert tiers.conclude([good, idle], strict=False) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "3 passed, 0 failed, 1 skipped"
    assert tiers.conclude([good, idle], strict=True) == 1
    out = capsys.readouterr().out
    assert "nothing of tests/kernel ran" in out
    assert "SKIPPED  test_boots: no emulator" in out
    assert out.splitlines()[-1] == "3 passed, 1 failed, 1 skipped"


def test_no_test_at_all_is_no_success() -> None:
    """Of everything, not one thing was tried."""
    assert tiers.conclude([Result(Tier("core", 90, ("tests/core",)))], strict=False) == 1


@pytest.mark.parametrize(("value", "strict"), [("true", True), ("1", True), ("", False), ("false", False)])
def test_ci_is_told_by_the_environment(monkeypatch: pytest.MonkeyPatch, value: str, strict: bool) -> None:
    """As most services set it."""
    monkeypatch.setenv("CI", value)
    assert tiers.in_ci() is strict
