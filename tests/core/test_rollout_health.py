"""The pure parts of a health check: what systemd, the kernel and the daemon say, compared with what they said."""

import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clanmeshd.rollout import hooks, systemctl
from clanmeshd.rollout.asking import SOCKET_NAME, ask, read_value_untrusted
from clanmeshd.rollout.baseline import default_routes
from clanmeshd.rollout.systemctl import Unit

FILE = "/etc/systemd/system/a.service"


def unit(active: str = "active", *, invocation: str = "1", restarts: int = 0, file: str = FILE) -> Unit:
    return Unit(active, "running", invocation, restarts, file)


@pytest.mark.parametrize(
    ("before", "now", "named"),
    [
        ({"a.service": unit()}, {"a.service": unit("failed")}, ["a.service"]),
        ({}, {"a.mount": unit("failed")}, ["a.mount"]),
        ({"a.service": unit("failed")}, {"a.service": unit("failed")}, []),
        ({"a.service": unit("failed")}, {}, []),
        ({"a.service": unit()}, {"a.service": unit("inactive")}, []),
    ],
)
def test_a_unit_has_newly_failed(before: dict[str, Unit], now: dict[str, Unit], named: list[str]) -> None:
    """What had failed before is not the revision's fault."""
    assert systemctl.newly_failed(before, now) == named


@pytest.mark.parametrize(
    ("name", "before", "now", "is_stopped"),
    [
        ("a.service", unit(), unit("inactive"), True),
        ("a.service", unit(), unit("failed"), True),
        ("a.service", unit(), None, True),
        ("a.socket", unit(), unit("inactive"), True),
        ("a.service", unit(), unit("activating"), False),
        ("a.service", unit("inactive"), unit("inactive"), False),
        ("a.service", unit(file="/run/systemd/transient/a.service"), None, False),
        ("a.service", unit(file=""), None, False),
        ("a.mount", unit(), None, False),
    ],
)
def test_a_unit_was_stopped(name: str, before: Unit, now: Unit | None, is_stopped: bool) -> None:
    """Those come back that can: not what was made on the spot."""
    found = systemctl.stopped({name: before}, {name: now} if now is not None else {})
    assert found == ([name] if is_stopped else [])


def test_a_service_was_started_or_crashed() -> None:
    """A new invocation is a start; a restart by systemd itself is a crash."""
    then = {"a.service": unit(), "b.service": unit()}
    now = {
        "a.service": unit(invocation="2"),
        "b.service": unit(restarts=1),
        "c.service": unit(),
        "d.timer": unit(),
    }
    assert systemctl.started(then, now) == ["a.service", "c.service"]
    assert systemctl.crashing({}, then, now) == ["b.service"]


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=300)
    | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=20), inner, max_size=20),
    max_leaves=8,
)


@given(_VALUES)
def test_the_daemons_answers_are_read(value: object) -> None:
    """The reader of the standard library agrees with msgpack; what is cut off raises OSError alone."""
    data = msgpack.packb(value)
    if _depth(value) <= 7:
        assert read_value_untrusted(data, 0) == (value, len(data))
    for cut in range(min(len(data), 40)):
        with pytest.raises(OSError, match="the daemon's answer"):
            read_value_untrusted(data[:cut], 0)


def _depth(value: object) -> int:
    if isinstance(value, list | dict):
        inner = value.values() if isinstance(value, dict) else value
        return 1 + max(map(_depth, inner), default=0)
    return 0


@given(st.binary(max_size=64))
def test_garbage_is_no_answer(data: bytes) -> None:
    """It is told by OSError alone."""
    try:
        read_value_untrusted(data, 0)
    except OSError:
        return


def test_a_daemon_that_answers_by_the_byte_is_not_waited_for(tmp_path: Path) -> None:
    """Each of them comes in time, and all of them do not."""
    over = threading.Event()

    def dribble() -> None:
        channel, _ = listener.accept()
        with channel, suppress(BrokenPipeError):
            channel.sendall((60_000).to_bytes(4, "big"))
            while not over.wait(0.05):
                channel.sendall(b"\0")

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / SOCKET_NAME))
        listener.listen()
        daemon = threading.Thread(target=dribble, daemon=True)
        daemon.start()
        ended = threading.Timer(10.0, over.set)  # for a version that would read on
        ended.start()
        begun = time.monotonic()
        with pytest.raises(OSError, match=r"too long|timed out"):
            ask(tmp_path, "version", 0.3)
        assert time.monotonic() - begun < 5
        over.set()
        ended.cancel()
        daemon.join()


_HEAD = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
_V4 = "eth0 00000000 0100A8C0 0003 0 0 0 00000000 0 0 0\n"
_V4_NET = "eth0 0000A8C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n"
_ANY = "0" * 32
_V6 = f"{_ANY} 00 {_ANY} 00 fe8{'0' * 28}1 00000400 1 0 00000003 eth0\n"
_V6_REJECT = f"{_ANY} 00 {_ANY} 00 {_ANY} ffffffff 1 0 00200200 lo\n"


@pytest.mark.parametrize(
    ("v4", "v6", "found"),
    [
        (_V4_NET + _V4, _V6_REJECT + _V6, ["IPv4", "IPv6"]),
        (_V4_NET, _V6_REJECT, []),
        (_V4, None, ["IPv4"]),
        (None, _V6, ["IPv6"]),
    ],
)
def test_default_routes(tmp_path: Path, v4: str | None, v6: str | None, found: list[str]) -> None:
    """As the kernel lists them; a kernel without IPv6 has no list of it."""
    if v4 is not None:
        (tmp_path / "route").write_text(_HEAD + v4)
    if v6 is not None:
        (tmp_path / "ipv6_route").write_text(v6)
    assert default_routes(tmp_path) == found


def test_hooks_are_executables_in_their_order(tmp_path: Path) -> None:
    """Leftovers of editors and what is not executable are none; nor is a folder that is not there."""
    for name in ("20-b", "10-a.sh", "30-c~", ".hidden", "40-d.bak", "50-plain"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o644 if name == "50-plain" else 0o755)
    (tmp_path / "60-folder").mkdir()
    assert hooks.names(str(tmp_path)) == ["10-a.sh", "20-b"]
    assert hooks.names(str(tmp_path / "missing")) == hooks.names("") == []
