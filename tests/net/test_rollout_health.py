"""Health and going back with a systemd that is a script of ours: what the real one seldom does when asked to."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from clanmeshd.rollout import baseline, guard, health, scripts
from clanmeshd.rollout.activation import DONE, ROLLED_BACK, Activation, Revision, read_state
from clanmeshd.rollout.baseline import Baseline

UNIT = "clanmeshd.service"
# Tells of the units in the file `units`, in which @N@ is how often it was asked, and notes what it is to do.
SYSTEMCTL = """#!/bin/sh
cd "${0%/*}"
echo "$*" >>calls
case "$*" in
*--all*) sed "s/@N@/$(grep -c -e --all calls)/" units ;;
*) [ ! -e on-call ] || . ./on-call ;;
esac
"""


def told(name: str, active: str = "active", *, sub: str = "running", restarts: str = "0", start: str = "1") -> str:
    """What systemd tells of a unit that has been up since the machine's start."""
    return (
        f"Id={name}\nActiveState={active}\nSubState={sub}\nInvocationID={start}\nNRestarts={restarts}\n"
        f"FragmentPath=/etc/systemd/system/{name}\nActiveEnterTimestampMonotonic=1\n\n"
    )


class Stage:
    """A machine of three files: what its units are, what they are asked, whether it is well."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("old", "new"):
            (root / name).mkdir()
            self.write(f"{name}/activate", "#!/bin/sh\n")
            self.write(f"{name}/health", "#!/bin/sh\n")
        self.write("systemctl", SYSTEMCTL)
        self.write("systemd-run", "#!/bin/sh\n")
        self.units(told("a.service"))

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(text)
        (self.root / name).chmod(0o755)

    def units(self, *texts: str) -> None:
        self.write("units", "".join(texts))

    def revision(self, name: str, *declared: str) -> Revision:
        place = str(self.root / name)
        return Revision(name, place, ["./activate"], ["./health"], 5, 5, health_units=tuple(declared), settle_s=1)

    def activation(self, *declared: str) -> Activation:
        old, new = self.revision("old"), self.revision("new", *declared)
        environment: Mapping[str, str] = {"PATH": os.environ["PATH"]}
        return Activation("id1", new, old, dict(environment), str(self.root / "log"), unit=UNIT)

    def check(self, activation: Activation, before: Baseline) -> str | None:
        return health.check(activation, activation.revision, before, scripts.TEST)

    def calls(self, word: str) -> list[str]:
        lines = (self.root / "calls").read_text().splitlines()
        return [line for line in lines if word in line.split()]


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return Stage(tmp_path)


def test_what_serves_no_more_after_the_window_is_not_well(stage: Stage) -> None:
    """The repository's own check is asked twice where something was started, and named with its verdict."""
    activation = stage.activation()
    before = baseline.look(activation)
    stage.units(told("a.service", start="2"))
    stage.write("new/health", "#!/bin/sh\n[ ! -e asked ] || exit 4\ntouch asked\n")
    assert stage.check(activation, before) == "settle: health exited with 4, which was well 1 s before"


def test_without_a_window_it_is_asked_once(stage: Stage) -> None:
    activation = stage.activation()
    before = baseline.look(activation)
    stage.write("new/health", "#!/bin/sh\n[ ! -e asked ] || exit 4\ntouch asked\n")
    assert stage.check(activation, before) is None


@pytest.mark.parametrize(
    ("before", "why"),
    [
        (told("a.service", "activating", sub="auto-restart", restarts="1"), None),
        (told("a.service", restarts="1").replace("Monotonic=1", "Monotonic=999999999999999"), None),
        (told("a.service", "failed"), None),
        (told("a.service"), "settle: a.service did not stay up"),
        (told("a.service", restarts="1"), "settle: a.service did not stay up"),
        ("", "settle: a.service did not stay up"),
    ],
)
def test_what_was_started_again_and_again_before_is_nobodys_fault(
    stage: Stage, before: str, why: str | None
) -> None:
    """Though it comes up and goes down in the window; what had been started again long ago was well."""
    activation = stage.activation()
    stage.units(before, told("b.service"))
    looked = baseline.look(activation)
    stage.units(told("a.service", start="2", restarts="@N@"), told("b.service", start="2"))
    assert stage.check(activation, looked) == why


def test_a_declared_unit_that_is_coming_up_is_waited_for(stage: Stage) -> None:
    activation = stage.activation("a.service")
    before = baseline.look(activation)
    stage.units(told("a.service", "activating", sub="start"))
    stage.write(
        "systemctl",
        SYSTEMCTL.replace(
            "sed ", "[ $(grep -c -e --all calls) -lt 4 ] || sed -i s/activating/active/ units; sed "
        ),
    )
    assert stage.check(activation, before) is None
    stage.units(told("a.service", "inactive", sub="dead"))
    assert stage.check(activation, before) == "units: a.service not active"


@pytest.mark.parametrize(
    "brought", ["user@1000.service", "sshd@3-10.0.0.1:22-10.0.0.9:51234.service", "a@1-20-0.service"]
)
def test_what_people_bring_is_not_looked_at(stage: Stage, brought: str) -> None:
    """Their sessions and connections end when they like, and may fail."""
    activation = stage.activation()
    stage.units(told(brought), told("a@1.service"))
    assert list(baseline.look(activation).units) == ["a@1.service"]


def test_what_ran_comes_back_though_the_way_back_fails(stage: Stage) -> None:
    activation = stage.activation()
    before = baseline.look(activation)
    stage.units(told("a.service", "inactive"))
    stage.write("old/activate", "#!/bin/sh\nexit 3\n")
    stage.write("on-call", "echo InvocationID=2")  # of the daemon, which was started anew
    why = guard._put_back(activation, stage.revision("old"), before)
    assert why == "activate (rollback) exited with 3"
    assert stage.calls("restart") == [f"--no-pager --no-ask-password restart {UNIT}"]
    assert stage.calls("start") == ["--no-pager --no-ask-password start a.service"]


def test_what_ran_before_is_recorded_or_nothing_begins(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or nobody would know what to bring back after a kill. Here the record cannot be written."""
    (stage.root / baseline.BASELINE_NAME).mkdir()
    stage.write("new/activate", "#!/bin/sh\ntouch touched\n")
    monkeypatch.setattr(health, "check", lambda *_: None)
    guard.guard(stage.root, stage.activation())
    state = read_state(stage.root)
    assert state is not None
    assert (state.step, state.result) == (DONE, ROLLED_BACK)
    assert baseline.BASELINE_NAME in state.why
    assert not (stage.root / "new/touched").exists()


def test_the_dead_man_waits_for_every_bound(stage: Stage) -> None:
    """A worker that needs all of its times is slow, and not hung."""
    revision = stage.revision("new")
    once = revision.activate_timeout_s + 2 * revision.health_timeout_s + revision.settle_s
    waits = health.DAEMON_WAIT_S + health.PEERS_WAIT_S + health.ROUTE_WAIT_S
    assert guard.deadline_s(stage.activation()) > 3 * (once + waits)
    plain, nixos = (scripts.limit_s(revision._replace(driver=driver)) for driver in ("command", "nixos"))
    assert nixos > 2 * plain
