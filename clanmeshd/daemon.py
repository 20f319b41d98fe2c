"""The one nursery tree: read it from top to bottom to see what runs, and from the inside out how it stops.

run
|- stop on SIGTERM or SIGINT
|- watchdog
|- control socket            serves from the first moment, with a clan or without
`- the clan                  (clan.run_clan) from the start, or from `init` or `join` on
   |- datagrams, driver, streams, fetches
   |- addresses, mDNS
   `- overlay, names, secrets, rollout
"""

import logging
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import trio

from clanmesh_protocol.control import Fault, Request
from clanmesh_protocol.errors import ProtocolError
from clanmesh_protocol.keys import DeviceKeys, make_device_keys
from clanmesh_protocol.records import Record
from clanmesh_protocol.signing import Verified, read_untrusted
from clanmeshd import calls, control, leaving, systemd
from clanmeshd.clan import Clan, run_clan
from clanmeshd.config import Config
from clanmeshd.store import Membership, StateError, Store

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Daemon:
    """What the control calls act upon. `clan` is None until `init` or `join`."""

    config: Config
    store: Store
    keys: DeviceKeys
    nursery: trio.Nursery
    clan: Clan | None = None
    notes: list[str] = field(default_factory=list)  # about damaged files, for `status`
    started_monotonic_s: float = field(default_factory=time.monotonic)
    beginning: trio.Lock = field(default_factory=trio.Lock)
    _scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    _ended: trio.Event = field(default_factory=trio.Event)
    watchers: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(calls.views.WATCHERS_MAX))

    def need_clan(self) -> Clan:
        """The running clan. Raises Fault."""
        if self.clan is None:
            raise Fault(
                "no-clan",
                "this device is in no clan",
                "nothing was founded or joined yet",
                "run `clanctl init NAME`, or `clanctl join TOKEN` with a token of a member",
            )
        return self.clan

    async def begin(self, membership: Membership, records: Iterable[Verified[Record]]) -> Clan:
        """Start taking part in a clan. Raises OSError when a port is taken."""
        self.clan = await self.nursery.start(self._run_clan, membership, list(records))
        return self.clan

    async def _run_clan(
        self,
        membership: Membership,
        records: list[Verified[Record]],
        *,
        task_status: trio.TaskStatus[Clan] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        self._ended = trio.Event()
        with trio.CancelScope() as self._scope:
            await run_clan(self.config, self.store, self.keys, membership, records, task_status=task_status)
        self._ended.set()

    async def end(self) -> None:
        """Stop taking part in the clan; its state stays on disk."""
        self._scope.cancel()
        await self._ended.wait()
        self.clan = None

    def start_anew(self) -> None:
        """After a clan's state was put aside: new keys, as a new device. Raises OSError."""
        self.keys = load_keys(self.store, None)
        self.notes.clear()


async def run(config: Config, store: Store) -> None:
    """Run until SIGTERM or SIGINT. `store` is open. Raises StateError or OSError for what stops a start."""
    async with trio.open_nursery() as nursery:
        await nursery.start(_stop_on_signal, nursery.cancel_scope)
        membership = store.load_membership()
        if membership is None:
            leaving.finish(store.directory)
        daemon = Daemon(config, store, load_keys(store, membership), nursery)
        listener = _listen(config)
        if membership is not None:
            await daemon.begin(membership, _load_records(daemon, membership))

        async def answer(request: Request, conversation: control.Conversation) -> object:
            return await calls.answer(daemon, request, conversation)

        nursery.start_soon(control.serve, listener, answer)
        nursery.start_soon(systemd.keep_alive)
        systemd.notify("READY=1", f"STATUS={_status_line(daemon)}")
        log.info("ready: %s", _status_line(daemon))
    control.socket_path(config.runtime_directory).unlink(missing_ok=True)


def _listen(config: Config) -> trio.SocketListener:
    try:
        return control.listen(config.runtime_directory)
    except OSError as error:
        raise StateError(
            f"{config.runtime_directory}: {error.strerror}; run as root, "
            "or give --runtime-dir a directory of yours"
        ) from error


def _status_line(daemon: Daemon) -> str:
    if daemon.clan is None:
        return "in no clan yet; waiting for clanctl init or join"
    return f"in clan {daemon.clan.membership.name}"


def load_keys(store: Store, membership: Membership | None) -> DeviceKeys:
    """Read the device's keys, or make them on a new device. Raises StateError where a member's are missing."""
    keys = store.load_keys()
    if keys is None and membership is not None:
        raise StateError(
            f"{store.directory / 'keys.json'}: missing, and only with these keys is this device a member of "
            f"{membership.name}; restore it from a backup, or move {store.directory} away and join the clan anew"
        )
    if keys is None:
        keys = make_device_keys(os.urandom, int(time.time()))
        store.save_keys(keys)
    return keys


def _load_records(daemon: Daemon, membership: Membership) -> list[Verified[Record]]:
    loaded = daemon.store.load_records()
    if loaded.damage:
        log.warning("%s", loaded.damage)
        daemon.notes.append(loaded.damage)
    verified = []
    for data in loaded.records:
        try:
            verified.append(read_untrusted(data, membership.clan))
        except ProtocolError as error:
            log.warning("%s: a stored record is refused: %s", daemon.store.directory, error)
    if not any(record.value.is_genesis for record in verified):
        # Nothing that members say could be believed. Gossip brings back every other record, but never the first.
        state = daemon.store.directory
        raise StateError(
            f"{state / 'records.log'}: the first record of {membership.name} is lost; restore this file from a "
            f"backup, or remove {state / 'clan.json'} and join again: this device's keys are still good"
        )
    return verified


async def _stop_on_signal(
    scope: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            log.info("stopping on %s", signal.Signals(number).name)
            systemd.notify("STOPPING=1")
            scope.cancel()
            return
