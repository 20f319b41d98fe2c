"""The zeroconf library, kept apart: its threads, its event loop, its exceptions and its logger end here.

zeroconf brings an event loop in a thread of its own and another thread for callbacks, and blocks its callers.
So it is built, used and closed in worker threads only, and what it hears crosses into trio through
`TrioToken.run_sync_soon` and a bounded channel. Nothing blocking is called in its callbacks: services are read
from its cache, and announcing is a registration and a packet, where its own call would wait for a second.
"""

import errno
import logging
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import trio
import zeroconf

from clanmesh_protocol.endpoints import Endpoint
from clanmeshd.net.addresses import Interface
from clanmeshd.net.discovery import ENDPOINTS_PER_TAG_MAX, Sighting, nonce_of_tag_untrusted

SERVICE_TYPE: Final = "_clanmesh._udp.local."
TAG_KEY: Final = "t"
SIGHTINGS_MAX: Final = 64  # between zeroconf's thread and ours; one that is lost is seen again at its next change
MATCHING_MAX: Final = 1024  # names whose goodbye is passed on

# What the library logs as an error is an interface that went away or a neighbour's malformed packet. What
# concerns a person is told in one line by our caller.
logging.getLogger("zeroconf").setLevel(logging.CRITICAL + 1)


@dataclass(frozen=True, slots=True)
class Service:
    """What we announce: a random name, where we listen, and the tag."""

    name: str  # one DNS label
    port: int
    addresses: tuple[bytes, ...]
    tag: str


class Radio:
    """One instance of zeroconf. `open` and `close` block: call them in worker threads, from anywhere else never.

    Services whose tag matches one of the secrets arrive in `sightings`; `dropped` counts those it had no room for.
    """

    def __init__(self, secrets: Sequence[bytes], token: trio.lowlevel.TrioToken) -> None:
        self.dropped = 0
        self.sightings: trio.MemoryReceiveChannel[Sighting]
        self._send, self.sightings = trio.open_memory_channel[Sighting](SIGHTINGS_MAX)
        self._secrets = tuple(secrets)
        self._token = token
        self._lock = threading.Lock()  # a `close` waits for the end of an `open` that was given up on
        self._closed = False
        self._library: zeroconf.Zeroconf | None = None
        self._browser: zeroconf.ServiceBrowser | None = None

    def open(self, networks: Sequence[Interface]) -> None:
        """Start listening on some networks, 30 ms. Raises OSError."""
        with self._lock:
            if self._closed:  # given up on before it had begun
                return
            try:
                self._library = _Library(interfaces=_addresses_of(networks))
                listener = _Listener(self._secrets, self._hand_over)
                self._browser = zeroconf.ServiceBrowser(self._library, SERVICE_TYPE, listener=listener)
            except (zeroconf.Error, RuntimeError) as error:  # a network went away under it
                raise OSError(errno.ENODEV, f"zeroconf: {error}") from error

    def announce(self, service: Service) -> None:
        """Answer for a service from now on, and say so once; again to say it again. Does not block."""
        library = self._library
        assert library is not None, "announced before it was open"
        assert library.loop is not None
        library.loop.call_soon_threadsafe(_register, library, _service_info(service))

    def close(self) -> None:
        """Say goodbye and stop, 50 ms. Its threads have ended when this returns."""
        with self._lock:
            self._closed = True
            library, self._library = self._library, None
            if library is None:
                return
            assert library.loop is not None
            # Said by us and once, since the library's own goodbye takes a quarter of a second.
            library.loop.call_soon_threadsafe(_say_goodbye, library)
            with suppress(zeroconf.Error, OSError):  # a loop that does not answer in time: nothing is left to do
                if self._browser is not None:
                    self._browser.cancel()
                library.close()

    def _hand_over(self, sighting: Sighting) -> None:
        # The run may be over while the library's thread still lives.
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._receive, sighting)

    def _receive(self, sighting: Sighting) -> None:
        try:
            self._send.send_nowait(sighting)
        except trio.WouldBlock:
            self.dropped += 1


class _Library(zeroconf.Zeroconf):
    """The library, which goes on asking whatever names its neighbours have.

    A question is sent with the answers that are known already. A name of bytes that are no UTF-8 grows when it is
    read and is too long to be said again: one such packet would end the asking for good.
    """

    def async_send(self, out: Any, *args: Any, **kwargs: Any) -> None:
        """Send to everybody; a question that cannot be written with its known answers without them."""
        try:
            super().async_send(out, *args, **kwargs)
        except zeroconf.NamePartTooLongException:
            bare = type(out)(out.flags, out.multicast)
            for question in out.questions:
                bare.add_question(question)
            super().async_send(bare, *args, **kwargs)


class _Listener(zeroconf.ServiceListener):
    """Called by the library in its own thread with what strangers said. Lets through what the clan's tag is on."""

    def __init__(self, secrets: Sequence[bytes], hand_over: Callable[[Sighting], None]) -> None:
        self._secrets = secrets
        self._hand_over = hand_over
        self._matching: set[str] = set()

    def add_service(self, zc: zeroconf.Zeroconf, type_: str, name: str) -> None:
        """Read a new service. Its records came in one packet, so the cache has them, or they will come."""
        try:
            info = zeroconf.ServiceInfo(type_, name)
            info.load_from_cache(zc)
            tag = info.properties.get(TAG_KEY.encode())
        except (zeroconf.Error, ValueError):
            return
        nonces = (nonce_of_tag_untrusted(secret, tag) for secret in self._secrets)
        nonce = next((each for each in nonces if each is not None), None)
        if nonce is None or len(self._matching) >= MATCHING_MAX:
            return
        self._matching.add(name)
        addresses = info.addresses_by_version(zeroconf.IPVersion.All)[:ENDPOINTS_PER_TAG_MAX]
        self._hand_over(Sighting(name, nonce, tuple(Endpoint(each, info.port or 0) for each in addresses)))

    def update_service(self, zc: zeroconf.Zeroconf, type_: str, name: str) -> None:
        """Read a service again."""
        self.add_service(zc, type_, name)

    def remove_service(self, zc: zeroconf.Zeroconf, type_: str, name: str) -> None:
        """Pass on a goodbye of a service that was let through."""
        if name in self._matching:
            self._matching.discard(name)
            self._hand_over(Sighting(name, None, ()))


# --- in the library's event loop ---------------------------------------------------------------------------


def _register(library: zeroconf.Zeroconf, info: zeroconf.ServiceInfo) -> None:
    if library.registry.async_get_info_name(info.key) is None:
        library.registry.async_add(info)
    library.async_send(library.generate_service_broadcast(info, None))


def _say_goodbye(library: zeroconf.Zeroconf) -> None:
    goodbye = library.generate_unregister_all_services()
    if goodbye is not None:
        library.async_send(goodbye)


def _service_info(service: Service) -> zeroconf.ServiceInfo:
    return zeroconf.ServiceInfo(
        SERVICE_TYPE,
        f"{service.name}.{SERVICE_TYPE}",
        port=service.port,
        addresses=list(service.addresses),
        properties={TAG_KEY: service.tag},
        server=f"{service.name}.local.",  # never the machine's own name
    )


def _addresses_of(networks: Sequence[Interface]) -> list[str | int]:
    """Say in the library's form where to speak: IPv4 by each address, IPv6 by the index of the interface."""
    chosen: list[str | int] = []
    for network in networks:
        chosen += [socket.inet_ntoa(address) for address in network.addresses if len(address) == 4]
        if any(len(address) == 16 for address in network.addresses):
            chosen.append(network.index)
    return chosen
