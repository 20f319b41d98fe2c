"""A few devices of one clan, each with its core, its driver and its state on disk, and the calls of `clanctl`.

No socket: what one device says is handed to the others by `share`, as often as it takes until all hold the same.
"""

import os
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from clanmesh_protocol.control import Fault, Request
from clanmesh_protocol.endpoints import Endpoint, endpoint
from clanmesh_protocol.keys import DeviceKeys, make_device_keys
from clanmesh_protocol.records import SINGLE_SLOT, Record, Suspicion
from clanmesh_protocol.signing import Verified, read_untrusted
from clanmesh_protocol.tokens import Token, decode_token_untrusted
from clanmeshd import calls
from clanmeshd.clan import Clan
from clanmeshd.config import Config
from clanmeshd.core.effects import Instant
from clanmeshd.core.limits import AWAY_S
from clanmeshd.core.mesh import Mesh
from clanmeshd.driver import Driver, instant
from clanmeshd.founding import Founded, found
from clanmeshd.joining import make_join
from clanmeshd.net.strangers import Strangers
from clanmeshd.resealing import Keeper
from clanmeshd.status import OwnStatus
from clanmeshd.store import Membership, Store

ROUNDS_MAX = 20  # of handing records on: each device hears each other at most so often


HOME_S = (3 * AWAY_S, 2.2 * AWAY_S, 1.4 * AWAY_S, 0.6 * AWAY_S)  # ago: a device that is heard so often is at home


def ago(seconds: float) -> Instant:
    """Both clocks so long ago."""
    now = instant()
    return Instant(now.monotonic_s - seconds, now.unix_s - seconds)


class Silence:
    """A port that sends nothing."""

    strangers = Strangers()

    def send(self, data: bytes, destination: Endpoint) -> None:
        """Drop it."""


class Device:
    """One device of the household and what its `clanctl` would get."""

    def __init__(
        self,
        directory: Path,
        keys: DeviceKeys,
        membership: Membership,
        records: list[Verified[Record]],
        address: str,
        greeted_by: "Device | None" = None,
    ) -> None:
        self.keys = keys
        self.said: list[str] = []  # progress
        store = Store(directory)
        store.open()
        self.mesh = Mesh(
            keys,
            membership.clan,
            records,
            rng=random.Random(address),
            entropy=os.urandom,
            now=ago(HOME_S[0]) if greeted_by is not None else instant(),
            control_port=51871,
            tunnel_port=51872,
        )
        if greeted_by is not None:
            self._comes_home(greeted_by)
        self.mesh.set_endpoints([endpoint(address, 51871)], instant())
        driver = Driver(self.mesh, store, Silence())
        config = replace(Config(), state_directory=directory, runtime_directory=directory)
        overlay = SimpleNamespace(
            observe=self._observe, backend=None, interface="clan0", failure=None, kind="none"
        )
        rollout = SimpleNamespace(head=None, target=None, fork=(), complaint=None)
        status = OwnStatus(driver)
        names = SimpleNamespace(view=lambda: None, problem=lambda: None)
        traversal = SimpleNamespace(standing=lambda node: None)
        sizing = SimpleNamespace(size_of=lambda node: None)
        parts = status, overlay, names, rollout, None, None, traversal, None, sizing, Keeper(self.mesh, keys)
        self.clan = Clan(config, store, keys, membership, driver, *parts)  # type: ignore[arg-type]
        self._daemon = SimpleNamespace(
            clan=self.clan,
            need_clan=lambda: self.clan,
            watchers=trio.CapacityLimiter(2),
            beginning=trio.Lock(),
            notes=[],
            started_monotonic_s=0.0,
            config=config,
            store=store,
            keys=keys,
        )

    def _comes_home(self, greeted_by: "Device") -> None:
        """Hear one of the others now and then, until this device knows that it has missed nothing."""
        for seconds in HOME_S:
            greeting = greeted_by.mesh.publish(Suspicion(()), slot=SINGLE_SLOT, now=instant())
            self.mesh.receive_record(greeting.data, greeted_by.keys.node, ago(seconds))
            self.mesh.handle_deadline(ago(seconds))
        assert self.mesh.has_arrived

    async def _observe(self) -> dict[bytes, Any]:
        return {}

    @property
    def node(self) -> bytes:
        """Its id."""
        return self.keys.node

    async def progress(self, text: str) -> None:
        """Hear what a call says on its way."""
        self.said.append(text)

    async def call(self, name: str, /, **args: Any) -> Any:
        """Make a call. Raises Fault."""
        return await calls.answer(self._daemon, Request(name, args), self)  # type: ignore[arg-type]

    async def refused(self, name: str, /, **args: Any) -> Fault:
        """Make a call that must be refused, in one line that says what to do."""
        with pytest.raises(Fault) as caught:
            await self.call(name, **args)
        fault = caught.value
        assert "\n" not in str(fault)
        assert fault.what
        assert fault.why
        assert fault.remedy or fault.kind == "usage", str(fault)
        return fault

    def members(self) -> set[str]:
        """The names of all members, as seen here."""
        return {member.name for member in self.mesh.authority.members.values()}


class Household:
    """A clan that `desk` founded; further devices join by invites."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.devices: dict[str, Device] = {}
        keys = make_device_keys(os.urandom, int(instant().unix_s))
        self.founded: Founded = found("family", "desk", (), keys, os.urandom, instant().unix_s)
        self._add("desk", keys, self.founded.membership, list(self.founded.records))

    @property
    def recovery(self) -> str:
        """The recovery key, as it stands on paper."""
        assert self.founded.recovery is not None
        return self.founded.recovery

    def __getitem__(self, name: str) -> Device:
        return self.devices[name]

    def __iter__(self) -> Iterator[Device]:
        return iter(self.devices.values())

    def _add(
        self,
        name: str,
        keys: DeviceKeys,
        membership: Membership,
        records: list[Verified[Record]],
        greeted_by: Device | None = None,
    ) -> Device:
        address = f"192.0.2.{len(self.devices) + 1}"
        device = Device(self._directory / name, keys, membership, records, address, greeted_by)
        self.devices[name] = device
        return device

    async def join(self, *names: str, by: str = "desk", **args: Any) -> None:
        """Let devices join with invites of one that is an admin; all know all then."""
        for name in names:
            answer = await self[by].call("invite", **args)
            self.redeem(name, decode_token_untrusted(answer["token"]), by)
            await self.share()

    def redeem(self, name: str, token: Token, at: str, *, is_new: bool = False) -> Device:
        """Let a device join at a member, which need not be who invited. New: it has met nobody since."""
        keys = make_device_keys(os.urandom, int(instant().unix_s))
        member = self[at]
        member.mesh.admit(make_join(token, keys, name), instant())
        records = [read_untrusted(data, token.clan) for data in member.mesh.ledger.bundle()]
        return self._add(name, keys, self.founded.membership, records, None if is_new else member)

    def restart(self, name: str, heard_from: str) -> None:
        """Let a device start with what is on its disk, and hear at once all that another one knows."""
        old = self.devices.pop(name)
        old.clan.store.close()
        data = {record.data for mesh in (old.mesh, self[heard_from].mesh) for record in mesh.ledger.records()}
        records = [read_untrusted(record, self.founded.membership.clan) for record in sorted(data)]
        self._add(name, old.keys, self.founded.membership, records)

    async def share(self, *names: str) -> None:
        """Hand all records on among these devices (all), until they hold the same."""
        among = [self[name] for name in names] or list(self)
        for _ in range(ROUNDS_MAX):
            before = [device.mesh.ledger.root() for device in among]
            for giver in among:
                for taker in among:
                    for record in giver.mesh.ledger.records():
                        if not taker.mesh.ledger.known(record.id):
                            taker.mesh.receive_record(record.data, giver.keys.node, instant())
            for device in among:
                await device.clan.driver.settle()
            if [device.mesh.ledger.root() for device in among] == before:
                return
        raise AssertionError("devices that hand everything on never come to rest")

    async def admins(self, *names: str) -> None:
        """Make members admins, with everybody's approval."""
        for name in names:
            decision = await self["desk"].call("admin-propose", operation="add", node=name)
            await self.share()
            for device in self:
                waits = any(each.id.hex() == decision["id"] for each in device.mesh.authority.pending)
                if waits and device.mesh.authority.is_admin(device.keys.node):
                    await device.call("admin-approve", id=decision["id"])
                    await self.share()
            assert self["desk"].mesh.authority.is_admin(self[name].keys.node)
