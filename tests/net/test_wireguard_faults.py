"""What can go wrong around wireguard-go: each fault is repaired, or said in one line with a remedy."""

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.net.test_wireguard import pytestmark as pytestmark
from tests.net.wireguard_machines import INTERFACE, PORT, Machine, Refused, eventually, machines, refusal, wanted
from tests.net.wireguard_scenarios import joined, ping

KIND = "userspace"
REPAIR_S = 30  # a hung program is given 5 s to answer, on a machine that is busy
NODE_PROGRAMS = ("mount", "ip")  # what the test's own process calls


@contextlib.contextmanager
def lone(number: int = 1, *, beside: Machine | None = None, wrapper: Sequence[str] = ()) -> Iterator[Machine]:
    """One machine with options."""
    made = Machine(number, beside=beside, wrapper=wrapper)
    try:
        made("children")
        yield made
    finally:
        made.end()


def with_only(directory: Path, *programs: str) -> list[str]:
    """A wrapper in whose PATH there are these programs only."""
    for name in programs:
        found = shutil.which(name)
        assert found is not None
        (directory / name).symlink_to(found)
    return ["env", f"PATH={directory}"]


def test_a_killed_wireguard_go_comes_back_with_its_peers() -> None:
    """Nobody has to apply again for it."""
    with machines(2) as (one, other):
        joined(KIND, one, other)
        (pid,) = one("children")
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: one("children") not in ([], [pid]), within_s=REPAIR_S)
        eventually(lambda: ping(one, other), within_s=REPAIR_S)
        eventually(lambda: _sound(one, other), within_s=REPAIR_S)


def test_one_killed_again_and_again_still_comes_back() -> None:
    """The backoff grows, and bounded."""
    with machines(1) as (one,):
        one.open(KIND)
        one("apply", wanted=wanted(one))
        for _ in range(3):
            eventually(lambda: len(_living(one)) == 1, within_s=REPAIR_S)
            (pid,) = _living(one)
            os.kill(pid, signal.SIGKILL)
            eventually(lambda: _state(pid) == "Z", within_s=REPAIR_S)  # noqa: B023 - asked before the next round
        eventually(lambda: _sound(one), within_s=REPAIR_S)


def _living(one: Machine) -> list[int]:
    """Its children but for those that were killed and not yet buried."""
    return [pid for pid in one("children") if _state(pid) != "Z"]


def _sound(one: Machine, *others: Machine) -> bool:
    try:
        return bool(one("difference", wanted=wanted(one, *others)) == [])
    except Refused:
        return False


def test_a_hung_wireguard_go_is_replaced() -> None:
    """One that holds its socket open and says nothing is killed, and a sound one takes its place."""
    with machines(2) as (one, other):
        joined(KIND, one, other)
        (pid,) = one("children")
        os.kill(pid, signal.SIGSTOP)
        eventually(lambda: _state(pid) == "T", within_s=REPAIR_S)
        assert "did not answer" in refusal(lambda: one("read"))["error"]
        eventually(lambda: ping(one, other), within_s=REPAIR_S)
        assert pid not in one("children")


@pytest.mark.parametrize("hung", [False, True])
def test_it_ends_with_a_daemon_that_is_killed(hung: bool) -> None:
    """No wireguard-go is left behind without its daemon, not even a hung one."""
    with machines(1) as (one,):
        one.open(KIND)
        (pid,) = one("children")
        if hung:
            os.kill(pid, signal.SIGSTOP)
            eventually(lambda: _state(pid) == "T", within_s=REPAIR_S)
        one.kill()
        eventually(lambda: _state(pid) == "Z", within_s=REPAIR_S)


def _state(pid: int) -> str:
    """The letter that ps shows; Z too when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"


def test_a_port_that_was_lost_is_won_back() -> None:
    """A change of the port that fails leaves wireguard-go without any; the next apply gives it ours again."""
    taken = PORT + 1
    with machines(1) as (one,), lone(9, beside=one) as squatter:
        squatter("take_port", port=taken)
        one.open(KIND)
        one("apply", wanted=wanted(one))
        code, _, _ = one("run", argv=["wg", "set", INTERFACE, "listen-port", str(taken)])
        assert code != 0
        assert "listening port" not in one.run("wg", "show", INTERFACE)
        one("apply", wanted=wanted(one))
        assert f":{PORT}" in one.run("ss", "--udp", "--listening", "--numeric")
        assert one("difference", wanted=wanted(one)) == []


def test_no_wireguard_go_names_the_package(tmp_path: Path) -> None:
    """What to install is said."""
    with lone(wrapper=with_only(tmp_path, *NODE_PROGRAMS)) as one:
        assert "apt install wireguard-go" in refusal(lambda: one.open(KIND))["remedy"]


def test_no_tun_device_is_said(tmp_path: Path) -> None:
    """As in a container that was not given one."""
    with lone() as one:
        one.run("mount", "--bind", os.fspath(tmp_path), "/dev/net")
        refused = refusal(lambda: one.open(KIND))
        assert "/dev/net/tun" in refused["why"]
        assert "modprobe tun" in refused["remedy"]


@pytest.mark.parametrize("kind", ["auto", "userspace", "kernel"])
def test_no_permission_is_said(kind: str) -> None:
    """Without CAP_NET_ADMIN."""
    with lone(wrapper=["setpriv", "--bounding-set=-net_admin"]) as one:
        refused = refusal(lambda: one.open(kind))
        assert "permission" in refused["why"]
        assert "CAP_NET_ADMIN" in refused["remedy"]


def test_a_program_that_fails_is_quoted(tmp_path: Path) -> None:
    """Its last words are the reason."""
    (tmp_path / "wireguard-go").write_text("#!/bin/sh\necho first >&2\necho 'the moon is wrong' >&2\nexit 3\n")
    (tmp_path / "wireguard-go").chmod(0o755)
    with lone(wrapper=with_only(tmp_path, *NODE_PROGRAMS)) as one:
        assert "the moon is wrong" in refusal(lambda: one.open(KIND))["why"]


def test_a_second_daemon_for_the_interface_is_refused() -> None:
    """The first one's wireguard-go is left in peace."""
    with machines(1) as (one,):
        one.open(KIND)
        one("apply", wanted=wanted(one))
        with lone(2, beside=one) as second:
            refused = refusal(lambda: second.open(KIND))
        assert "another program serves" in refused["why"]
        assert one("difference", wanted=wanted(one)) == []


def test_an_address_without_ipv6_is_said() -> None:
    """A machine on which IPv6 is switched off, as in many containers."""
    with machines(1) as (one,):
        one.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1", "net.ipv6.conf.all.disable_ipv6=1")
        one.open(KIND)
        refused = refusal(lambda: one("apply", wanted=wanted(one)))
        assert "IPv6" in refused["why"]
        one.run(*refused["remedy"].split())
        one("apply", wanted=wanted(one))
        assert one("difference", wanted=wanted(one)) == []


def test_switched_off_it_does_nothing() -> None:
    """`none` is a backend too."""
    with machines(1) as (one,):
        assert one.open("none") == "none"
        one("apply", wanted=wanted(one))
        assert one("read") == {}
        assert INTERFACE not in one.run("ip", "link")
