"""The names' life in the daemon: a hosts file, a resolver on the overlay address, and the system told of it.

The system is told by a daemon that systemd started alone. Whoever starts one by hand, or in a network of its own
as the demonstration does, has another network than the resolver of the system: the numbers of its links would be
wrong.
"""

import ipaddress
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import trio

from clanmesh_protocol.keys import ClanId, NodeId
from clanmeshd import systemd
from clanmeshd.core.effects import SetNames
from clanmeshd.core.wanted import overlay_address, overlay_prefix
from clanmeshd.files import RealFiles
from clanmeshd.naming.registration import Registration, first
from clanmeshd.naming.resolver import Resolver
from clanmeshd.naming.trouble import NamesUnavailable
from clanmeshd.naming.ways import Wanted
from clanmeshd.naming.zone import Zone, text_of
from clanmeshd.net.addresses import watch_addresses
from clanmeshd.reconcile import Latest, reconcile

RETRY_S: Final = 10.0  # for port 53: somebody may let go of it meanwhile

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Names:
    """What is known of the names, and how they are given to the system."""

    clan: ClanId
    node: NodeId
    interface: str
    hosts: Path  # the file with all names, for whoever wants one
    is_wanted: bool  # that they are answered, and the system is told; else the file is all
    is_up: Callable[[], bool]  # whether the interface is there, and ours
    registration: Registration
    failure: str | None = None  # why nothing answers
    remedy: str = ""
    is_answering: bool = False
    zone: Zone | None = None
    newest: SetNames | None = None
    _fresh: trio.Event = field(
        default_factory=trio.Event
    )  # set, and replaced, when something of these has changed
    _looked_at: trio.Event = field(default_factory=trio.Event)  # the one that there was when the system was told

    async def run(self, slot: Latest[SetNames]) -> None:
        """Keep the file, the resolver and the system as wanted until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow, slot)
            if self.is_wanted:
                nursery.start_soon(self._answer)
                if systemd.is_service():
                    nursery.start_soon(self._register)

    async def _follow(self, slot: Latest[SetNames]) -> None:
        files = RealFiles()

        async def take(wanted: SetNames) -> None:
            own, prefix = overlay_address(self.clan, self.node), overlay_prefix(self.clan)
            self.zone = Zone(wanted.domain, wanted.addresses, own=own, prefix=prefix)
            self.newest = wanted
            self._tell_fresh()
            files.write_atomic(self.hosts, hosts_file(wanted), mode=0o644)

        await reconcile(slot, take, what="names")

    def _tell_fresh(self) -> None:
        self._fresh.set()
        self._fresh = trio.Event()

    async def _answer(self) -> None:
        """Answer as long as port 53 can be had."""

        def respond(data: bytes, is_stream: bool) -> bytes | None:
            return self.zone.respond(data, is_stream=is_stream) if self.zone is not None else None

        while True:
            try:
                address, prefix = overlay_address(self.clan, self.node), overlay_prefix(self.clan)
                with Resolver(address, prefix, self.interface, respond) as resolver:
                    self.failure, self.is_answering = None, True
                    self._tell_fresh()
                    await resolver.run()
            except OSError as error:
                self._explain(error)
                await trio.sleep(RETRY_S)
            finally:
                self.is_answering = False

    def _explain(self, error: OSError) -> None:
        if str(error) != self.failure:
            log.warning("names: %s", error)
        self.failure = str(error)
        self.remedy = error.remedy if isinstance(error, NamesUnavailable) else ""
        self._tell_fresh()

    async def _register(self) -> None:
        with watch_addresses() as watch:

            async def changed() -> None:
                await first(self._looked_at.wait, watch.changed)

            await self.registration.run(self._to_tell, changed)

    def _to_tell(self) -> Wanted:
        self._looked_at = self._fresh  # before anything else: what changes from now on is a change
        if self.newest is None or self.zone is None or not self.is_up():
            raise NamesUnavailable("names", "the overlay is not up", "see what is said of the overlay")
        if not self.is_answering:
            raise NamesUnavailable("names", self.failure or "nothing answers yet", self.remedy)
        domains = (text_of(self.zone.forward), text_of(self.zone.reverse))
        index = socket.if_nametoindex(self.interface)
        return Wanted(
            self.interface, index, overlay_address(self.clan, self.node), domains, hosts_file(self.newest)
        )

    def view(self) -> dict[str, Any]:
        """How names are given, or why not, for `status`."""
        told = self.registration.told
        return {
            "domain": self.newest.domain if self.newest is not None else None,
            "answers": self.is_answering,
            "by": told.value if told is not None else None,
            "why": self._why(),
        }

    def problem(self) -> tuple[str, str] | None:
        """What somebody should look into, and what to do; an overlay that is down says so itself."""
        if not self.is_wanted or not self.is_up():
            return None
        if self.failure is not None:
            return f"names: {self.failure}", self.remedy
        if self.registration.failure is not None:
            return f"names: {self.registration.failure}", self.registration.remedy
        return None

    def _why(self) -> str | None:
        if not self.is_wanted:
            return "switched off in the configuration"
        if not systemd.is_service():
            return self.failure or "this daemon was not started by systemd"
        return self.failure or self.registration.failure


def hosts_file(wanted: SetNames) -> bytes:
    """The clan's names in the form of /etc/hosts."""
    lines = [f"{ipaddress.IPv6Address(address)} {name}\n" for name, address in wanted.addresses]
    return "".join(lines).encode()
