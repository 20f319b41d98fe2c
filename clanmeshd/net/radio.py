"""The sockets of mDNS: one for each network and family, on which a service is told and others are asked for.

A socket is bound to the group of its family and belongs to one network, so it gets what was said to
everybody there. Answers go out after a short while and at most once a second, however many ask; what
strangers say is read at a bounded rate. That a network failed under way is for our caller to notice.
"""

import random
import socket
import struct
from collections.abc import Callable, Sequence
from itertools import chain, repeat
from math import inf
from typing import Final

import trio

from clanmesh_protocol.endpoints import Endpoint
from clanmesh_protocol.errors import ProtocolError
from clanmeshd.dns import Name
from clanmeshd.net.addresses import Interface
from clanmeshd.net.discovery import Sighting, nonce_of_tag_untrusted
from clanmeshd.net.dns import MESSAGE_BYTES_MAX, read_message_untrusted
from clanmeshd.net.pace import Allowance
from clanmeshd.net.services import (
    MARK,
    Known,
    Service,
    Told,
    announcement,
    asks_for,
    goodbye,
    question,
    told_untrusted,
)
from clanmeshd.sockets import Closing, prepared

PORT: Final = 5353
GROUP_IPV4: Final = "224.0.0.251"
GROUP_IPV6: Final = "ff02::fb"
HOPS: Final = 255  # RFC 6762, 11
SIGHTINGS_MAX: Final = 64  # that nobody took yet; one that is lost is said again
MATCHING_MAX: Final = 1024  # names whose goodbye is passed on
DELAY_S: Final = (0.02, 0.12)  # RFC 6762, 5.2 and 6: those who start together do not speak at once
ANSWER_PAUSE_S: Final = 1.0  # RFC 6762, 6: a record is not told more often
# RFC 6762, 5.2: pauses between questions grow at least twofold, up to an hour. Who comes later announces itself.
ASK_PAUSES_S: Final = (1.0, 3.0, 9.0)
ASK_S: Final = 3600.0
ASK_JITTER: Final = 0.1  # so that one device asks first, and all others hear the answers
# Who announces itself is found by that. It asks later, and then only where somebody is still missing: all who are
# there would answer to all.
ASK_LATER_S: Final = 1.0
HEARD_PER_S: Final = 100.0  # messages; a lively LAN has ten, and a thousand that concern us cost 0.2 s
HEARD_BURST: Final = 400.0  # a clan of 200 that comes back at once
SAME_S: Final = 30.0  # that a message stands for its repetitions: by the other family, and a second later
SAME_MAX: Final = 256  # such messages, each below 1500 bytes
SAME_BYTES_MAX: Final = 1500
RETRY_S: Final = 1.0  # after a socket failed: it is closed when its network went away

_IP_MULTICAST_ALL: Final = 49  # Linux; 0: only what the socket itself has joined. Not in the socket module
_IPV6_MULTICAST_ALL: Final = 29


class Radio(Closing):
    """Speaks and listens on some networks. Use it as a context, and let `run` run in it.

    Services whose tag matches one of the secrets arrive in `sightings`; `dropped` counts those it had no room for.
    """

    def __init__(
        self,
        secrets: Sequence[bytes],
        networks: Sequence[Interface],
        *,
        misses: Callable[[], bool] = lambda: True,
    ) -> None:
        """Open the sockets. Raises OSError when there is none that can be opened.

        `misses`: whether there is anybody whom to find, since otherwise nothing is asked.
        """
        self.dropped = 0
        self.sightings: trio.MemoryReceiveChannel[Sighting]
        self._send, self.sightings = trio.open_memory_channel[Sighting](SIGHTINGS_MAX)
        self._secrets = tuple(secrets)
        self._misses = misses
        self._service: Service | None = None
        self._known = Known()
        self._pauses_s = chain(ASK_PAUSES_S, repeat(ASK_S))
        self._asked_s = -inf
        self._ask_at_s = -inf
        self._matching: set[Name] = set()
        self._said: dict[bytes, float] = {}  # answers, and until when one like it says nothing new; oldest first
        self._voices = _open(networks)

    async def run(self) -> None:
        """Ask, listen and answer for ever."""
        async with trio.open_nursery() as nursery:
            for voice in self._voices:
                nursery.start_soon(self._listen, voice)
                nursery.start_soon(self._answer, voice)
            await self._ask()

    def announce(self, service: Service) -> None:
        """Answer for a service from now on, and say so once; again to say it again."""
        self._service = service
        self._tell(announcement(service))

    def close(self) -> None:
        """Say goodbye and close the sockets."""
        if self._service is not None:
            self._tell(goodbye(self._service))
        for voice in self._voices:
            voice.socket.close()

    def _tell(self, message: bytes) -> None:
        for voice in self._voices:
            voice.say(message)

    async def _ask(self) -> None:
        await trio.sleep(random.uniform(*DELAY_S))
        if self._service is not None:
            await trio.sleep(ASK_LATER_S)
        while True:
            if trio.current_time() >= self._ask_at_s:
                self._note_question()
                if self._misses():
                    self._tell(question(self._known.newest(trio.current_time())))
            await trio.sleep_until(self._ask_at_s)

    def _note_question(self) -> None:
        """Somebody asks what we would ask, which is as good as our own: of hundreds only one asks in an hour."""
        self._asked_s = trio.current_time()
        self._ask_at_s = self._asked_s + next(self._pauses_s) * random.uniform(1, 1 + ASK_JITTER)

    async def _listen(self, voice: "_Voice") -> None:
        allowance = Allowance(HEARD_PER_S, HEARD_BURST, trio.current_time())
        while True:
            if not allowance.take(trio.current_time()):
                await trio.sleep(1 / HEARD_PER_S)
                continue
            try:
                data, source = await voice.socket.recvfrom(MESSAGE_BYTES_MAX)
            except OSError:
                await trio.sleep(RETRY_S)
                continue
            # Most of what a LAN says is about printers and the like; and who speaks mDNS does so from its port.
            if MARK in data and source[1] == PORT and self.hear(data):
                voice.asked.set()

    def hear(self, data: bytes) -> bool:
        """Take a message of a stranger. Whether it wants our answer."""
        if self._is_said(data):
            return False
        try:
            message = read_message_untrusted(data)
        except ProtocolError:
            return False
        if message.is_response and len(data) <= SAME_BYTES_MAX:
            self._said[data] = trio.current_time() + SAME_S
        # One question comes from several sockets, and ours come back to us.
        if self._known.would_ask(message) and trio.current_time() >= self._asked_s + ANSWER_PAUSE_S:
            self._note_question()
        for told in told_untrusted(message):
            self._known.note(told, trio.current_time())
            self._judge(told)
        return self._service is not None and asks_for(message, self._service)

    def _is_said(self, data: bytes) -> bool:
        """Whether the same was said a moment ago: each answer comes by both families, and three times at first."""
        now_s = trio.current_time()
        while self._said and (len(self._said) > SAME_MAX or next(iter(self._said.values())) <= now_s):
            del self._said[next(iter(self._said))]
        return data in self._said

    def _judge(self, told: Told) -> None:
        """Pass on what the clan's tag is on, and a goodbye of what was passed on."""
        name = told.name[0].hex()
        if told.is_over and told.name in self._matching:
            self._matching.discard(told.name)
            self._said.clear()  # anybody may say goodbye for another, which says then that it is there
            self._pass_on(Sighting(name, None, ()))
            return
        nonces = (nonce_of_tag_untrusted(secret, told.tag) for secret in self._secrets)
        nonce = next((each for each in nonces if each is not None), None)
        if nonce is None or len(self._matching) >= MATCHING_MAX:
            return
        self._matching.add(told.name)
        self._pass_on(Sighting(name, nonce, tuple(Endpoint(each, told.port) for each in told.addresses)))

    def _pass_on(self, sighting: Sighting) -> None:
        try:
            self._send.send_nowait(sighting)
        except trio.WouldBlock:
            self.dropped += 1
            self._said.clear()  # so that it is heard when it is said again

    async def _answer(self, voice: "_Voice") -> None:
        while True:
            await voice.asked.wait()
            soon_s = trio.current_time() + random.uniform(*DELAY_S)
            await trio.sleep_until(max(soon_s, voice.spoke_s + ANSWER_PAUSE_S))
            voice.asked = trio.Event()
            if self._service is not None:
                voice.say(announcement(self._service))


class _Voice:
    """A socket on one network, and what is going on there."""

    def __init__(self, opened: socket.socket, group: tuple[str | int, ...]) -> None:
        self.socket = trio.socket.from_stdlib_socket(opened)
        self.asked = trio.Event()  # for our service, since we said it last
        self.spoke_s = -ANSWER_PAUSE_S
        self._plain = opened
        self._group = group

    def say(self, message: bytes) -> None:
        """Send to everybody there, now or not at all."""
        self.spoke_s = trio.current_time()
        try:
            self._plain.sendto(message, self._group)
        except OSError:
            return  # no route, no room, no network: it is said again, or there is nobody who could hear


def _open(networks: Sequence[Interface]) -> list[_Voice]:
    """Open what can be opened. Raises the last OSError when that is nothing."""
    voices: list[_Voice] = []
    failure: OSError | None = None
    for network in networks:
        families = {len(address): address for address in network.addresses}
        for size in sorted(families):
            try:
                voices.append(_open_ipv4(network.index) if size == 4 else _open_ipv6(network.index))
            except OSError as error:
                failure = error
    if failure is not None and not voices:
        raise failure
    return voices


def _open_ipv4(index: int) -> _Voice:
    network = struct.pack("=4s4si", socket.inet_aton(GROUP_IPV4), bytes(4), index)
    options = [
        (socket.IP_MULTICAST_TTL, struct.pack("=i", HOPS)),
        (socket.IP_MULTICAST_IF, network),
        (_IP_MULTICAST_ALL, bytes(4)),
        (socket.IP_ADD_MEMBERSHIP, network),
    ]
    return _bound(socket.AF_INET, socket.IPPROTO_IP, options, (GROUP_IPV4, PORT))


def _open_ipv6(index: int) -> _Voice:
    options = [
        (socket.IPV6_V6ONLY, struct.pack("=i", 1)),
        (socket.IPV6_MULTICAST_HOPS, struct.pack("=i", HOPS)),
        (socket.IPV6_MULTICAST_IF, struct.pack("=i", index)),
        (_IPV6_MULTICAST_ALL, bytes(4)),
        (socket.IPV6_JOIN_GROUP, socket.inet_pton(socket.AF_INET6, GROUP_IPV6) + struct.pack("=i", index)),
    ]
    return _bound(socket.AF_INET6, socket.IPPROTO_IPV6, options, (GROUP_IPV6, PORT, 0, index))


def _bound(
    family: socket.AddressFamily, level: int, options: Sequence[tuple[int, bytes]], group: tuple[str | int, ...]
) -> _Voice:
    with prepared(socket.socket(family, socket.SOCK_DGRAM)) as opened:
        opened.setblocking(False)
        for shared in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):  # avahi and resolved may be there, too
            opened.setsockopt(socket.SOL_SOCKET, shared, 1)
        for option, value in options:
            opened.setsockopt(level, option, value)
        opened.bind(group)
        return _Voice(opened, group)
