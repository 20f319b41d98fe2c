"""Store paths from members that built them: pulled, signed, and believed from the few that a commit names.

Whoever signs a path that a device takes is root on it. So a device believes the keys of builders alone, each for
what comes from that very builder and for one copy; who they are says the `clan.toml` of the commit that is being
built, whose signers can make the device do anything as it is. A builder gives its store to members to read, and to
nobody to write: what root pushes into a store is not checked. It signs what it builds itself.

On a stream of purpose `store` the builder sends one line, its public key as Nix writes it, and then speaks Nix's
own protocol (`nix-store --serve`).
"""

import logging
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

import trio

from clanmesh_protocol.limits import STORE_LINE_BYTES_MAX
from clanmesh_protocol.stores import read_store_line_untrusted
from clanmeshd import process
from clanmeshd.core.effects import Holder
from clanmeshd.process import Finished
from clanmeshd.rollout import bridge
from clanmeshd.rollout.drivers import Stores
from clanmeshd.rollout.nix import FEATURES, complaint, environment, run_nix, valid_paths
from clanmeshd.rollout.transfer import GONE

KEY_TIMEOUT_S: Final = 20.0
QUERY_TIMEOUT_S: Final = 120.0
SERVE_TIMEOUT_S: Final = 6 * 3600.0  # a system on a slow line
CONNECTIONS_MAX: Final = 4  # of Nix to one builder: a question, then a copy, and some to spare
BUILDERS_ASKED_MAX: Final = 3  # of one build
PATHS_MAX: Final = 2000  # asked for at once; what is beyond them is built
_CHUNK_BYTES: Final = 65_536

HOST: Final = "clan-builder"  # what Nix calls whoever is behind the tunnel
_SSH: Final = '#!/bin/sh\nexec "$CLAN_PYTHON" -I -S "$CLAN_BRIDGE" "$CLAN_SOCKET"\n'

log = logging.getLogger(__name__)


# --- the builder's side --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The key under which a builder signs what it built; born here, and never leaves."""

    secret: Path
    public: str  # `name:base64`


async def signing_key(home: Path, node_name: str) -> SigningKey:
    """This device's key, made at the first need. Raises OSError."""
    secret, public = home / "key", home / "key.pub"
    if not _text(public):
        words = (
            "nix-store",
            "--generate-binary-cache-key",
            f"{node_name[:50]}-clanmesh-1",
            str(secret),
            str(public),
        )
        finished = await run_nix(home, *words, timeout_s=QUERY_TIMEOUT_S)
        if not finished.ok:
            raise OSError(f"making a key for the store: {complaint(finished)}")
    return SigningKey(secret, _text(public))


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return ""


async def serve_store(home: Path, key: SigningKey, stream: trio.abc.HalfCloseableStream) -> None:
    """Give a member this device's store to read until either side is done."""
    ours, theirs = socket.socketpair()
    local = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    async with local:
        with suppress(*GONE):
            await stream.send_all(f"{key.public}\n".encode())
        with theirs:
            serving = await trio.lowlevel.open_process(
                ["nix-store", "--serve"],
                stdin=theirs,
                stdout=theirs,
                stderr=subprocess.DEVNULL,
                env=environment(home),
                start_new_session=True,
            )
        try:
            with trio.move_on_after(SERVE_TIMEOUT_S):
                await _carry(local, stream)
        finally:
            await process.end(serving)


# --- the other side ------------------------------------------------------------------------------------------


async def pull(
    home: Path, stores: Stores, labels: Sequence[str], paths: Sequence[str], timeout_s: float
) -> set[str]:
    """Copy what builders have of `paths`, with all that it needs; give what came. Never raises for a builder."""
    came: set[str] = set()
    for builder in stores.near(labels)[:BUILDERS_ASKED_MAX]:
        missing = [path for path in paths[:PATHS_MAX] if path not in came]
        if not missing:
            break
        try:
            came |= await _pull_from(home, stores, builder, missing, timeout_s)
        except (*GONE, trio.TooSlowError) as error:
            log.info("%s gives no store paths: %s", builder.node.hex()[:8], error)
    return came


async def _pull_from(
    home: Path, stores: Stores, builder: Holder, paths: Sequence[str], timeout_s: float
) -> set[str]:
    async with _tunnel(stores, builder) as tunnel:
        try:
            why, there = await _copy(home, tunnel, paths, timeout_s)
        except OSError as error:  # kept out of the tunnel's nursery, which would wrap it up
            why, there = str(error), set()
    if why is not None:
        raise OSError(why)
    if there:
        log.info("%d store paths came from %s", len(there), builder.node.hex()[:8])
    return there


async def _copy(
    home: Path, tunnel: "_Tunnel", paths: Sequence[str], timeout_s: float
) -> tuple[str | None, set[str]]:
    """Copy what is there of some paths; give why it did not come, or what came."""
    words = ("nix", "path-info", *FEATURES, "--json", "--store", f"ssh://{HOST}", *paths)
    asked = await run_nix(home, *words, timeout_s=QUERY_TIMEOUT_S, extra=tunnel.environment)
    there = valid_paths(asked) & set(paths)
    if not there:
        return (None if asked.ok else _why(asked, tunnel)), set()
    trust = ("--option", "extra-trusted-public-keys", tunnel.key)
    words = ("nix", "copy", *FEATURES, *trust, "--from", f"ssh://{HOST}", *sorted(there))
    copied = await run_nix(home, *words, timeout_s=timeout_s, extra=tunnel.environment)
    return (None, there) if copied.ok else (_why(copied, tunnel), set())


def _why(finished: Finished, tunnel: "_Tunnel") -> str:
    if tunnel.failure:
        return tunnel.failure
    return "it took too long" if finished.timed_out else complaint(finished)


@dataclass(slots=True)
class _Tunnel:
    """Between Nix, which calls ssh, and a member."""

    environment: dict[str, str]
    key: str = ""  # the member's, once it has said it
    failure: str = ""


def _make_shim() -> Path:
    """A folder of ours alone, with a short path as unix sockets want it, in which `ssh` is the bridge."""
    directory = Path(mkdtemp(prefix="clan-store-"))
    ssh = directory / "ssh"
    ssh.write_text(_SSH)
    ssh.chmod(0o700)
    return directory


@asynccontextmanager
async def _tunnel(stores: Stores, builder: Holder) -> AsyncIterator[_Tunnel]:
    directory = _make_shim()
    try:
        place = directory / "socket"
        with trio.socket.socket(trio.socket.AF_UNIX) as listener:
            await listener.bind(str(place))
            listener.listen(CONNECTIONS_MAX)
            tunnel = _Tunnel(
                {
                    "PATH": f"{directory}:{os.environ.get('PATH', os.defpath)}",
                    "CLAN_PYTHON": sys.executable,
                    "CLAN_BRIDGE": str(bridge.__file__),
                    "CLAN_SOCKET": str(place),
                }
            )
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_accept, listener, stores, builder, tunnel)
                yield tunnel
                nursery.cancel_scope.cancel()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def _accept(listener: trio.socket.SocketType, stores: Stores, builder: Holder, tunnel: _Tunnel) -> None:
    """Carry each of Nix's connections over a stream of its own, one after the other."""
    for _ in range(CONNECTIONS_MAX):
        accepted, _address = await listener.accept()
        async with trio.SocketStream(accepted) as local:
            try:
                async with stores.open(builder) as stream:
                    tunnel.failure = await _speak(local, stream, tunnel)
            except GONE as error:
                tunnel.failure = str(error) or type(error).__name__


async def _speak(local: trio.SocketStream, stream: trio.abc.HalfCloseableStream, tunnel: _Tunnel) -> str:
    """Hear a member's key, then let Nix speak with its store. Gives what went wrong; nothing if it ended well."""
    try:
        with trio.fail_after(KEY_TIMEOUT_S):
            tunnel.key = await read_key_untrusted(stream)
    except trio.TooSlowError:
        return "it says nothing"
    except GONE as error:
        return str(error) or type(error).__name__
    await _carry(local, stream)
    return ""


async def read_key_untrusted(stream: trio.abc.ReceiveStream) -> str:
    """The line with a builder's public key, and no byte more. Raises ProtocolError, OSError for none at all."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = await stream.receive_some(1)
        if not byte:
            raise OSError("it is no builder")
        line += byte
        if len(line) > STORE_LINE_BYTES_MAX:
            break
    return read_store_line_untrusted(bytes(line))[0]


async def _carry(local: trio.SocketStream, remote: trio.abc.HalfCloseableStream) -> None:
    """Carry bytes both ways until either side ends. The stream itself ends what is silent for long."""

    async def copy(source: trio.abc.ReceiveStream, sink: trio.abc.HalfCloseableStream) -> None:
        with suppress(*GONE):
            while chunk := await source.receive_some(_CHUNK_BYTES):
                await sink.send_all(chunk)
            await sink.send_eof()
            return
        nursery.cancel_scope.cancel()

    async def outward() -> None:
        await copy(local, remote)

    async def inward() -> None:
        await copy(remote, local)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(outward)
        nursery.start_soon(inward)
