"""Runs the tiers, each within its time budget, and closes with one line of counts.

    static   ruff, mypy, import-linter
    house    its own rules: sizes, names, layout, tools, this runner
    core     the formats, the pure core
    commits  attacks on the configuration's history, with git and OpenSSH
    fuzz     damaged messages for all that reads what others sent
    sim      many cores on virtual clocks, and what hostile ones try
    faults   hundreds of seeds of faults and of members that lie, on virtual clocks
    net      real daemons in network namespaces
    systemd  a real systemd in a container; Nix
    kernel   WireGuard in a stock kernel, in an emulator

A tier that is over its budget, which is for an idle machine of two cores, is said to be; one that takes more than
twice as long and a minute is killed and has failed. What was skipped is listed. With CI=true a folder of which
nothing ran is a failure.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / ".cache" / "tests"
PATIENCE = 2.0  # budgets until a tier is killed, and
PATIENCE_S = 60.0  # this on top: an emulator on a busy machine is slower than twice
GRACE_S = 10.0  # for a tier to undo its namespaces and containers after SIGINT
NOTHING_COLLECTED = 5  # pytest's exit status


@dataclass(frozen=True)
class Tier:
    """Folders for pytest, or commands; and how long it may take, in seconds."""

    name: str
    budget_s: float
    folders: tuple[str, ...] = ()
    commands: tuple[tuple[str, ...], ...] = ()

    @property
    def limit_s(self) -> float:
        """When it is killed, in seconds: budgets are for an idle machine."""
        return self.budget_s * PATIENCE + PATIENCE_S


TIERS = (
    Tier(
        "static",
        60,
        commands=(
            ("ruff", "check", "."),
            ("ruff", "format", "--check", "."),
            ("mypy",),
            ("mypy", "-p", "tools"),
            ("lint-imports",),
        ),
    ),
    Tier("house", 30, ("tests/house",)),
    Tier("core", 120, ("tests/vectors", "tests/core", "tests/golden")),
    Tier("fuzz", 60, ("tests/fuzz",)),
    Tier("sim", 220, ("tests/sim", "tests/hostile")),
    Tier("faults", 300, ("tests/faults",)),
    Tier("commits", 120, ("tests/commits",)),
    Tier("net", 600, ("tests/net",)),
    Tier("systemd", 330, ("tests/systemd", "tests/nixos")),
    Tier("kernel", 45, ("tests/kernel",)),
)

SIDE_BY_SIDE_MAX = 2  # budgets are for two cores

# Side by side only what does not mind a busy machine; the rest looks at real clocks. The longest goes first.
ROUNDS = (("core", "commits", "static", "house", "fuzz"), ("sim", "faults"), ("net",), ("systemd",), ("kernel",))


@dataclass
class Result:
    """What came of a tier."""

    tier: Tier
    seconds: float = 0.0
    passed: int = 0
    failed: int = 0
    tried: set[str] = field(default_factory=set)  # folders of which something ran
    skipped: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    @property
    def idle(self) -> list[str]:
        """The parts of the tier of which nothing was tried."""
        if self.tier.folders:
            return [folder for folder in self.tier.folders if folder not in self.tried]
        return [] if self.passed + self.failed else [self.tier.name]


class Running:
    """One tier under way: its commands one after the other, in a session of their own."""

    def __init__(self, tier: Tier) -> None:
        self.result = Result(tier)
        self._report = REPORTS / f"{tier.name}.xml"
        self._report.unlink(missing_ok=True)
        self._waiting = [list(words) for words in tier.commands] or [self._pytest_words(tier)]
        self._log = REPORTS / f"{tier.name}.log"
        self._log.write_bytes(b"")
        self._process: subprocess.Popen[bytes] | None = None
        self._started_s = time.monotonic()

    def _pytest_words(self, tier: Tier) -> list[str]:
        folders = [folder for folder in tier.folders if any((ROOT / folder).rglob("test_*.py"))]
        words = ["-q", "-p", "no:cacheprovider", f"--junitxml={self._report}", "-o", "junit_family=xunit2"]
        return [sys.executable, "-m", "pytest", *words, *folders] if folders else ["false"]

    def advance(self) -> bool:
        """Start the next command when the last has ended. Gives False once all have."""
        if self._process is not None:
            if self._process.poll() is None:
                if time.monotonic() - self._started_s > self.result.tier.limit_s:
                    self._give_up()
                return True
            if not self.result.troubles:
                self._judge(self._process)
        if not self._waiting:
            self._finish()
            return False
        words = self._waiting.pop(0)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                words, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        return True

    def end(self) -> None:
        """End what is under way, and everything that it started in its group."""
        if self._process is None:
            return
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGINT)  # pytest undoes its fixtures
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE_S)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def output(self) -> str:
        """What it printed."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def _give_up(self) -> None:
        self.result.troubles.append(f"killed after {self.result.tier.limit_s:.0f} s")
        self._waiting.clear()
        self.end()

    def _judge(self, process: "subprocess.Popen[bytes]") -> None:
        if not self.result.tier.commands:
            if process.returncode not in (0, 1, NOTHING_COLLECTED) and self.result.tier.folders:
                self.result.troubles.append(f"pytest ended with status {process.returncode}")
        elif process.returncode == 0:
            self.result.passed += 1
        else:
            self.result.failed += 1

    def _finish(self) -> None:
        self.result.seconds = time.monotonic() - self._started_s
        if self._report.exists():
            _read_report(self._report, self.result)
        self._process = None


def _read_report(report: Path, result: Result) -> None:
    """Add up pytest's report."""
    try:
        cases = list(ElementTree.parse(report).iter("testcase"))
    except ElementTree.ParseError:
        result.troubles.append("it was cut off while it wrote its report")
        return
    for case in cases:
        name = f"{case.get('classname', '')}.{case.get('name', '')}"
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            result.failed += 1
        elif skipped is not None and skipped.get("type") != "pytest.xfail":
            result.skipped.append(f"{name}: {skipped.get('message', '')}")
            continue
        else:
            result.passed += 1
        result.tried |= {folder for folder in result.tier.folders if name.startswith(folder.replace("/", "."))}


def run_round(tiers: Sequence[Tier]) -> list[Result]:
    """Run tiers side by side, two at a time, and print each one's output when it is done."""
    waiting, running = list(tiers), list[Running]()
    print(f"--- {' and '.join(tier.name for tier in tiers)} ...", flush=True)
    results = []
    try:
        while waiting or running:
            while waiting and len(running) < SIDE_BY_SIDE_MAX:
                running.append(Running(waiting.pop(0)))
            time.sleep(0.05)
            for one in list(running):
                if not one.advance():
                    running.remove(one)
                    results.append(one.result)
                    _show(one)
    finally:
        for one in running:
            one.end()
    return results


def _show(running: Running) -> None:
    result = running.result
    print(running.output().rstrip())
    print(f"=== {_line(result)}\n", flush=True)


def _line(result: Result) -> str:
    counts = f"{result.passed} passed, {result.failed} failed, {len(result.skipped)} skipped"
    over = "" if result.seconds <= result.tier.budget_s else "  OVER ITS BUDGET"
    troubles = "".join(f"  {trouble.upper()}" for trouble in result.troubles)
    return (
        f"{result.tier.name:<8}{result.seconds:6.1f} s of {result.tier.budget_s:3.0f} s: {counts}{over}{troubles}"
    )


def conclude(results: Sequence[Result], *, strict: bool) -> int:
    """Print the summary and its closing line; give the exit status."""
    failed_tiers = 0
    skipped = [line for result in results for line in result.skipped]
    for line in skipped:
        print(f"SKIPPED  {line}")
    for result in results:
        print(_line(result))
        for part in result.idle if not result.troubles else []:
            print(f"SKIPPED: nothing of {part} ran{', which fails in CI' if strict else ''}")
            failed_tiers += strict
        failed_tiers += bool(result.troubles)
    passed = sum(result.passed for result in results)
    failed = sum(result.failed for result in results) + failed_tiers
    print(f"{sum(result.seconds for result in results):.0f} s of tiers\n", flush=True)
    print(f"{passed} passed, {failed} failed, {len(skipped)} skipped", flush=True)
    return 1 if failed or not passed else 0


def main() -> int:
    """Run the tiers that are named, or all. Gives the exit status."""
    parser = argparse.ArgumentParser(prog="tests/run", description="Run the checks and the test tiers.")
    names = [tier.name for tier in TIERS]
    parser.add_argument("tier", nargs="*", help=f"of {', '.join(names)}; all when none is named")
    chosen = parser.parse_args().tier or names
    unknown = sorted(set(chosen) - set(names))
    if unknown:
        parser.error(f"there is no tier {unknown[0]}")
    signal.signal(signal.SIGTERM, _interrupt)
    REPORTS.mkdir(parents=True, exist_ok=True)
    by_name = {tier.name: tier for tier in TIERS}
    results: list[Result] = []
    try:
        for together in ROUNDS:
            tiers = [by_name[name] for name in together if name in chosen]
            results += run_round(tiers) if tiers else []
    except KeyboardInterrupt:
        return 130
    order = list(by_name)
    return conclude(sorted(results, key=lambda result: order.index(result.tier.name)), strict=in_ci())


def in_ci() -> bool:
    """Say whether nobody is there to read what was skipped."""
    return os.environ.get("CI", "").lower() in ("1", "true", "yes")


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
