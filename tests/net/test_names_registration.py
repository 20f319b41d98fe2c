"""The system is told of the clan's names: on a real message bus with a resolved that notes what it is told."""

import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from trio.testing import MockClock

from clanmeshd.naming import registration
from clanmeshd.naming.bus import ADDRESS_VARIABLE, Bus, system_bus
from clanmeshd.naming.dbus import BusMessage, Field, MessageKind, write_message
from clanmeshd.naming.owner import Owner
from clanmeshd.naming.registration import RETRY_FIRST_S, Registration
from clanmeshd.naming.resolved import NAME
from clanmeshd.naming.trouble import NamesUnavailable
from clanmeshd.naming.ways import MANAGER, MANAGER_DIRECTORY, Etc, Wanted, dnsmasq_lines
from tests.core.test_naming_owner import HOSTS, LINES

pytestmark = pytest.mark.skipif(shutil.which("dbus-daemon") is None, reason="missing: apt install dbus")

PATIENCE_S: Final = 20.0
POLL_S: Final = 0.01
SERVER: Final = bytes([0xFD, *range(15)])
WANTED: Final = Wanted("clan0", 7, SERVER, ("family.internal", "0.d.f.ip6.arpa"), LINES)
STUB: Final = "nameserver 127.0.0.53\n"
PLAIN: Final = "nameserver 192.0.2.1\n"
TOLD: Final = [
    ("SetLinkDomains", (7, [("family.internal", 1), ("0.d.f.ip6.arpa", 1)])),
    ("SetLinkDefaultRoute", (7, 0)),
    ("SetLinkDNSSEC", (7, "no")),
    ("SetLinkDNSOverTLS", (7, "no")),
    ("SetLinkLLMNR", (7, "no")),
    ("SetLinkMulticastDNS", (7, "no")),
    ("SetLinkDNS", (7, [(10, list(SERVER))])),
]
REVERTED: Final = ("RevertLink", (7,))
_CONFIGURATION: Final = """<busconfig><type>session</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy>
</busconfig>
"""


class Service(Bus):
    """Somebody on the bus who answers calls, and notes them."""

    told: list[tuple[str, Any]]
    refusal: str | None

    async def serve(self, name: str, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take a name and answer for ever."""
        await self.driver("RequestName", "su", name, 0)
        task_status.started()
        while True:
            message = await self._receive()
            if message.kind != MessageKind.CALL:
                continue
            self.told.append((message.text(Field.MEMBER), message.body))
            fields: dict[int, Any] = {
                Field.REPLY_SERIAL: message.serial,
                Field.DESTINATION: message.text(Field.SENDER),
            }
            kind = MessageKind.RETURN
            if self.refusal is not None:
                kind, fields[Field.ERROR_NAME] = MessageKind.ERROR, self.refusal
            self._serial += 1
            await self._send(write_message(BusMessage(kind, self._serial, fields)))


@asynccontextmanager
async def service(name: str, *, refusal: str | None = None) -> AsyncIterator[list[tuple[str, Any]]]:
    """A service of a name for a while; what it is told."""
    bus = Service((await system_bus())._stream)  # with a name on the bus already
    bus.told, bus.refusal = [], refusal
    async with bus, trio.open_nursery() as nursery:
        await nursery.start(bus.serve, name)
        yield bus.told
        nursery.cancel_scope.cancel()


class Machine:
    """Where names are registered: a folder of settings, and the registration under way."""

    def __init__(self, etc: Path) -> None:
        self.etc = etc
        self.registration = Registration("clan0", Etc(etc, ()))
        self.wanted: Wanted | None = WANTED
        self.scope = trio.CancelScope()  # of the registration alone: others have to see how it ends
        self._changed = self._looked_at = trio.Event()

    def change(self, wanted: Wanted | None) -> None:
        """Another state is wanted from now on."""
        self.wanted = wanted
        self._changed.set()
        self._changed = trio.Event()

    def ask(self) -> Wanted:
        """What is wanted."""
        self._looked_at = self._changed
        if self.wanted is None:
            raise NamesUnavailable("names", "the overlay is not up", "")
        return self.wanted

    async def run(self) -> None:
        """Register for ever."""

        async def changed() -> None:
            await self._looked_at.wait()

        with self.scope:
            await self.registration.run(self.ask, changed)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine whose resolver is systemd-resolved."""
    etc = tmp_path / "etc"
    (etc / MANAGER_DIRECTORY).mkdir(parents=True)
    (etc / "hosts").write_bytes(HOSTS)
    (etc / "resolv.conf").write_text(STUB)
    return Machine(etc)


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Awaitable["subprocess.Popen[bytes]"]]:
    """Starts the message bus of a machine, for the first time or again; it ends with the test."""
    path = tmp_path / "bus"
    (tmp_path / "bus.conf").write_text(_CONFIGURATION.format(path=path))
    monkeypatch.setenv(ADDRESS_VARIABLE, f"unix:path={path}")

    async def start() -> "subprocess.Popen[bytes]":
        path.unlink(missing_ok=True)
        process = _started(tmp_path / "bus.conf")
        await until(lambda: _listens(path))
        return process

    return start


def _started(configuration: Path) -> "subprocess.Popen[bytes]":
    """Start a bus, which dies with us, whatever happens to the test."""
    words = ["dbus-daemon", f"--config-file={configuration}", "--nofork", "--nopidfile"]
    return subprocess.Popen(["setpriv", "--pdeathsig=KILL", *words])


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asker:
        return asker.connect_ex(str(path)) == 0


async def until(holds: Callable[[], bool]) -> None:
    """Poll until something holds."""
    with trio.fail_after(PATIENCE_S):
        while not holds():
            await trio.sleep(POLL_S)


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End a bus."""
    process.kill()
    process.wait()


Start = Callable[[], Awaitable["subprocess.Popen[bytes]"]]


async def test_resolved_is_told_and_told_again_and_it_is_taken_back(machine: Machine, bus: Start) -> None:
    """Domains before the server; again when it was restarted, or the link is another one; reverted at the end."""
    process = await bus()
    async with trio.open_nursery() as nursery:
        async with service(NAME) as told:
            nursery.start_soon(machine.run)
            await until(lambda: told == TOLD and machine.registration.told is Owner.RESOLVED)
        await until(lambda: "does not run" in str(machine.registration.failure))
        assert machine.registration.remedy == "systemctl start systemd-resolved"
        async with service(NAME) as told:
            # And once more if it came between two questions.
            await until(lambda: told[: len(TOLD)] == TOLD and machine.registration.failure is None)
            machine.change(Wanted("clan0", 8, SERVER, WANTED.domains, LINES))
            await until(lambda: told[-1] == ("SetLinkDNS", (8, [(10, list(SERVER))])))
            assert [name for name, _ in told[-len(TOLD) :]] == [name for name, _ in TOLD]
            machine.scope.cancel()
            await until(lambda: told[-1] == ("RevertLink", (8,)))
    stop(process)
    assert (machine.etc / "hosts").read_bytes() == HOSTS
    assert (machine.etc / "resolv.conf").read_text() == STUB


async def test_it_is_told_again_when_the_bus_was_restarted(machine: Machine, bus: Start) -> None:
    """Which takes everybody on it down."""
    process = await bus()
    async with trio.open_nursery() as nursery:
        async with service(NAME) as told:
            nursery.start_soon(machine.run)
            await until(lambda: told == TOLD)
        stop(process)
        await until(lambda: machine.registration.told is None)
        process = await bus()
        async with service(NAME) as told:
            await until(lambda: told[: len(TOLD)] == TOLD)  # and once more if it came between two questions
            machine.scope.cancel()
    stop(process)


async def test_a_bus_that_lets_nobody_in_is_asked_seldom(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """Also while the names are others than those that were asked for last, which nobody looks at without a bus."""
    attempts = 0

    async def refuse() -> Bus:
        nonlocal attempts
        attempts += 1
        assert attempts < 2 * PATIENCE_S, "without a pause"
        await trio.lowlevel.checkpoint()
        raise OSError("Connection reset by peer")

    monkeypatch.setattr(registration, "system_bus", refuse)
    machine.change(WANTED)
    with trio.move_on_after(PATIENCE_S):
        await machine.run()
    assert 2 < attempts <= PATIENCE_S / RETRY_FIRST_S + 1


async def test_a_link_of_networkd_is_named_with_a_remedy(machine: Machine, bus: Start) -> None:
    """resolved lets nobody else set what networkd sets."""
    process = await bus()
    async with service(NAME, refusal="org.freedesktop.resolve1.LinkBusy"), trio.open_nursery() as nursery:
        nursery.start_soon(machine.run)
        await until(lambda: machine.registration.failure is not None)
        assert "networkd manages this interface" in str(machine.registration.failure)
        assert "Unmanaged=yes" in machine.registration.remedy
        machine.scope.cancel()
    stop(process)


async def test_what_is_told_is_taken_back_while_the_overlay_is_down(machine: Machine, bus: Start) -> None:
    """Names would lead nowhere."""
    process = await bus()
    async with service(NAME) as told, trio.open_nursery() as nursery:
        nursery.start_soon(machine.run)
        await until(lambda: told == TOLD)
        machine.change(None)
        await until(lambda: told == [*TOLD, REVERTED])
        await until(lambda: "overlay is not up" in str(machine.registration.failure))
        machine.change(WANTED)
        await until(lambda: told == [*TOLD, REVERTED, *TOLD])
        machine.scope.cancel()
    stop(process)


@pytest.mark.usefixtures("bus")  # which nobody starts
async def test_a_plain_machine_gets_a_block_in_its_hosts_file(machine: Machine) -> None:
    """Kept as the names are, and gone at the end; its resolv.conf is nobody's business of ours."""
    (machine.etc / "resolv.conf").write_text(PLAIN)
    hosts = machine.etc / "hosts"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(machine.run)
        await until(lambda: LINES + b"# clanmesh clan0: end\n" + HOSTS in hosts.read_bytes())
        await until(lambda: machine.registration.told is Owner.LIBRARY)
        fewer = LINES.splitlines(keepends=True)[0]
        machine.change(Wanted("clan0", 7, SERVER, WANTED.domains, fewer))
        await until(lambda: LINES not in hosts.read_bytes())
        assert fewer in hosts.read_bytes()
        machine.scope.cancel()
    assert hosts.read_bytes() == HOSTS
    assert (machine.etc / "resolv.conf").read_text() == PLAIN


@pytest.mark.usefixtures("bus")
async def test_a_hosts_file_of_somebody_else_is_left_alone(machine: Machine) -> None:
    """As on NixOS, where it is a link."""
    (machine.etc / "resolv.conf").write_text(PLAIN)
    (machine.etc / "hosts").rename(machine.etc / "store")
    (machine.etc / "hosts").symlink_to("store")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(machine.run)
        await until(lambda: "it is a link to store" in str(machine.registration.failure))
        assert "systemd-resolved" in machine.registration.remedy
        machine.scope.cancel()
    assert (machine.etc / "store").read_bytes() == HOSTS


async def test_a_block_of_a_killed_daemon_goes_when_resolved_came(machine: Machine, bus: Start) -> None:
    """The next daemon takes back what it does not tell any more."""
    process = await bus()
    (machine.etc / "hosts").write_bytes(b"# clanmesh clan0: begin\n" + LINES + b"# clanmesh clan0: end\n" + HOSTS)
    async with service(NAME) as told, trio.open_nursery() as nursery:
        nursery.start_soon(machine.run)
        await until(lambda: told == TOLD)  # which comes behind
        assert (machine.etc / "hosts").read_bytes() == HOSTS
        machine.scope.cancel()
    stop(process)


async def test_networkmanagers_dnsmasq_gets_a_file_and_is_started_anew(machine: Machine, bus: Start) -> None:
    """And once more when the file is gone at the end."""
    (machine.etc / "resolv.conf").write_text("# Generated by NetworkManager\nnameserver 127.0.0.1\n")
    path = machine.etc / MANAGER_DIRECTORY / "clanmesh-clan0.conf"
    process = await bus()
    async with service(MANAGER) as told:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(machine.run)
            await until(lambda: told == [("Reload", (4,))])
            assert path.read_bytes() == dnsmasq_lines(WANTED)
            assert path.stat().st_mode & 0o777 == 0o644
            machine.scope.cancel()
        assert told == [("Reload", (4,))] * 2
    assert not path.exists()
    stop(process)


async def test_who_does_not_answer_is_given_up_on(bus: Start) -> None:
    """A name that nobody has, an error, a bus that ends: each is an error of the world's."""
    process = await bus()
    async with await system_bus() as connection:
        assert await connection.owner(NAME) is None
        with pytest.raises(OSError, match=r"does not exist|not provided"):
            await connection.call(NAME, "/", NAME, "Anything")
        stop(process)
        with pytest.raises(OSError, match="gone"):
            await connection.driver("ListNames")
    with pytest.raises(ConnectionRefusedError):
        await system_bus()
    assert os.environ[ADDRESS_VARIABLE]
