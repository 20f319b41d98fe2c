"""The ways to give names to the system: one for each that looks them up. All say the same and take it back.

What stands under /etc is changed by `etc_files`, in a unit of its own. That is started without the dependencies
that units have by default, or the system would refuse it while it goes down.
"""

import sys
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path
from typing import Final, Protocol

from clanmeshd import process
from clanmeshd.naming import etc_files, resolved
from clanmeshd.naming.bus import Bus, system_bus
from clanmeshd.naming.owner import Owner
from clanmeshd.naming.trouble import NamesUnavailable

MANAGER: Final = "org.freedesktop.NetworkManager"
MANAGER_DIRECTORY: Final = Path("NetworkManager/dnsmasq.d")  # below /etc
UNIT: Final = (
    *("systemd-run", "--quiet", "--collect", "--pipe", "--wait", "--no-ask-password"),
    *("--property=DefaultDependencies=no", "--description=clanmesh: names in /etc", "--"),
)
WRITE_TIMEOUT_S: Final = 5.0  # 80 ms; it is part of stopping, for which there are ten seconds

_RELOAD_DNS: Final = 4  # NetworkManager's flag: start its dnsmasq anew, which reads its files then


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the system is to be told. `index` is the interface's, another one each time that it is made."""

    interface: str
    index: int
    server: bytes
    domains: tuple[str, ...]  # without last dots
    hosts: bytes  # lines of a hosts file


@dataclass(frozen=True, slots=True)
class Etc:
    """The folder of settings, and the words that begin a program which may write there."""

    directory: Path = Path("/etc")
    wrapper: tuple[str, ...] = UNIT

    async def write(self, action: str, path: Path, *mark: str, content: bytes) -> None:
        """Let `etc_files` do it. Raises NamesUnavailable, or OSError when nothing can be started."""
        program: tuple[str | Path, ...] = (sys.executable, "-I", "-S", etc_files.__file__, action, path, *mark)
        finished = await process.run([*self.wrapper, *program], stdin=content, timeout_s=WRITE_TIMEOUT_S)
        if not finished.ok:
            why = "it took too long" if finished.timed_out else finished.complaint
            raise NamesUnavailable(str(path), why.removeprefix(f"{path}: "), "see `journalctl -u clanmeshd`")


class Way(Protocol):
    """One way. All methods raise OSError, NamesUnavailable where a person can do something about it."""

    owner: Owner

    async def tell(self, wanted: Wanted, bus: Bus | None) -> None:
        """Tell the system, changing nothing that is told already."""
        ...

    async def take_back(self) -> None:
        """Take back all that was told."""
        ...


@dataclass(slots=True)
class ByResolved:
    """systemd-resolved, by its link."""

    owner: Owner = Owner.RESOLVED
    _told: int | None = None  # the link

    async def tell(self, wanted: Wanted, bus: Bus | None) -> None:
        """Tell it; it keeps what it knows."""
        if bus is None or await bus.owner(resolved.NAME) is None:
            raise NamesUnavailable(
                "systemd-resolved", "it does not run, though /etc names it", "systemctl start systemd-resolved"
            )
        self._told = wanted.index
        await resolved.register(
            bus, resolved.LinkNames(wanted.index, wanted.interface, wanted.server, wanted.domains)
        )

    async def take_back(self) -> None:
        """Revert the link."""
        if self._told is not None:
            async with await system_bus() as bus:
                await resolved.revert(bus, self._told)
            self._told = None


@dataclass(slots=True)
class ByHosts:
    """A marked block of the hosts file, `mark` being the interface."""

    mark: str
    etc: Etc
    owner: Owner = Owner.LIBRARY

    async def tell(self, wanted: Wanted, bus: Bus | None) -> None:
        """Write it, if it is another one."""
        await self._write(wanted.hosts)

    async def take_back(self) -> None:
        """Remove it."""
        await self._write(b"")

    async def _write(self, lines: bytes) -> None:
        path = self.etc.directory / "hosts"
        try:
            content, _ = etc_files.read_plain(str(path))
        except FileNotFoundError:
            content = b""
        except ValueError as error:
            raise NamesUnavailable(
                str(path), str(error), "run systemd-resolved (on NixOS: services.resolved.enable = true)"
            ) from error
        if etc_files.merged(content, self.mark, lines) != content:
            await self.etc.write("block", path, self.mark, content=lines)


@dataclass(slots=True)
class ByManager:
    """A file that NetworkManager's dnsmasq reads, `mark` being the interface."""

    mark: str
    etc: Etc
    owner: Owner = Owner.MANAGER_DNSMASQ

    async def tell(self, wanted: Wanted, bus: Bus | None) -> None:
        """Write it and have it read, if it is another one."""
        await self._write(dnsmasq_lines(wanted))

    async def take_back(self) -> None:
        """Remove it."""
        await self._write(b"")

    async def _write(self, content: bytes) -> None:
        path = self.etc.directory / MANAGER_DIRECTORY / f"clanmesh-{self.mark}.conf"
        if (path.read_bytes() if path.exists() else b"") == content:
            return
        await self.etc.write("own", path, content=content)
        async with await system_bus() as bus:
            await bus.call(MANAGER, "/org/freedesktop/NetworkManager", MANAGER, "Reload", "u", _RELOAD_DNS)


def dnsmasq_lines(wanted: Wanted) -> bytes:
    """Whom dnsmasq asks for the domains, and that it believes private addresses in the answers."""
    server = IPv6Address(wanted.server)
    lines = [f"server=/{domain}/{server}\nrebind-domain-ok=/{domain}/\n" for domain in wanted.domains]
    return "".join(lines).encode()
