"""Routers that answer as RFC 6887, RFC 6886 and UPnP say, on a virtual clock, and whoever speaks with them."""

import ipaddress
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

from clanmeshd.net.mapping.client import NONCE_BYTES
from clanmeshd.net.mapping.keeper import Keeper
from clanmeshd.net.mapping.terms import (
    Ask,
    Datagram,
    Door,
    Effect,
    Forward,
    Heard,
    Link,
    Rest,
    Search,
    Show,
    Standing,
    Talk,
    Transport,
)

CONTROL: Door = (Forward(Transport.UDP, 51871), Forward(Transport.TCP, 51871))
TUNNEL: Door = (Forward(Transport.UDP, 51872),)
LINK = Link(bytes([192, 168, 7, 1]), bytes([192, 168, 7, 2]))
ADDRESS = bytes([100, 20, 0, 1])
MAPPED = bytes(10) + b"\xff\xff"

T = TypeVar("T")
Key = tuple[int, int]  # transport, port outside


def nonce_of(forward: Forward) -> bytes:
    """A nonce that fits the forward."""
    return bytes([forward.transport]) * (NONCE_BYTES - 2) + forward.port.to_bytes(2, "big")


@dataclass
class Router:
    """One that speaks what `speaks` names. `mapped` has own address and port, by transport and port outside."""

    speaks: frozenset[str] = frozenset({"pcp", "natpmp", "upnp"})
    address: bytes = ADDRESS
    lifetime_s: int = 7200
    mapped: dict[Key, tuple[bytes, int]] = field(default_factory=dict)
    nonces: dict[Key, bytes] = field(default_factory=dict)
    started_s: float = -1000.0
    result: int = 0  # of all requests
    is_up: bool = True
    is_listening: bool = True  # else its system refuses datagrams
    heard: int = 0
    upnp_port: int = 5000

    def restart(self, now_s: float) -> None:
        """Forget everything."""
        self.mapped.clear()
        self.nonces.clear()
        self.started_s = now_s
        self.upnp_port += 1

    def hold(self, transport: Transport, port: int) -> None:
        """Give a port to another device."""
        self.mapped[(transport, port)] = (bytes([192, 168, 7, 99]), port)

    def answer(self, effect: Effect, now_s: float) -> bytes | None:
        """Answer a request at once, or not at all."""
        self.heard += 1
        if not self.is_up:
            return None
        match effect:
            case Datagram(data=data) if data and data[0] == 2:
                return self._pcp(data, int(now_s - self.started_s))
            case Datagram(data=data) if data:
                return self._natpmp(data, int(now_s - self.started_s))
            case Search(data=data) if data and "upnp" in self.speaks:
                return self._found()
            case Ask(port=port, data=data) if "upnp" in self.speaks and port == self.upnp_port:
                return self._web(data.decode())
        return None

    def own(self) -> set[Key]:
        """What this device has."""
        return {key for key, (client, _) in self.mapped.items() if client == LINK.own}

    def _free(self, transport: int, port: int, own_port: int) -> int:
        while self.mapped.get((transport, port), (LINK.own, own_port)) != (LINK.own, own_port):
            port += 1
        return port

    def _take(self, transport: int, port: int, own_port: int, lifetime_s: int) -> int:
        """Map anew, renew or withdraw; the port outside."""
        ours = [key for key, at in self.mapped.items() if at == (LINK.own, own_port) and key[0] == transport]
        for key in ours if lifetime_s == 0 else ():
            del self.mapped[key]
        if lifetime_s == 0:
            return 0
        given = ours[0][1] if ours else self._free(transport, port, own_port)
        self.mapped[(transport, given)] = (LINK.own, own_port)
        return given

    def _pcp(self, data: bytes, epoch_s: int) -> bytes | None:
        if "pcp" not in self.speaks:
            return struct.pack("!BBHI", 0, 128 + data[1], 1, epoch_s) if "natpmp" in self.speaks else None
        _, _, lifetime_s, client = struct.unpack_from("!BBxxI16s", data)
        nonce, transport, port, outside, _ = struct.unpack_from("!12sB3xHH16s", data, 24)
        assert client == MAPPED + LINK.own
        result = self.result
        if not result:
            outside = self._take(transport, outside, port, lifetime_s)
            if self.nonces.setdefault((transport, port), nonce) != nonce:
                result = 2
        head = struct.pack("!BBxBII12x", 2, 0x81, result, min(lifetime_s, self.lifetime_s), epoch_s)
        return head + struct.pack("!12sB3xHH16s", nonce, transport, port, outside, MAPPED + self.address)

    def _natpmp(self, data: bytes, epoch_s: int) -> bytes | None:
        if "natpmp" not in self.speaks:
            return None
        if data[1] == 0:
            return struct.pack("!BBHI", 0, 128, self.result, epoch_s) + self.address
        opcode, port, outside, lifetime_s = struct.unpack("!xBxxHHI", data)
        if not self.result:
            outside = self._take({1: 17, 2: 6}[opcode], outside, port, lifetime_s)
        granted_s = min(lifetime_s, self.lifetime_s)
        return struct.pack("!BBHIHHI", 0, 128 + opcode, self.result, epoch_s, port, outside, granted_s)

    def _found(self) -> bytes:
        return f"HTTP/1.1 200 OK\r\nLocation: http://192.168.7.1:{self.upnp_port}/d.xml\r\n\r\n".encode()

    def _web(self, text: str) -> bytes:
        if text.startswith("GET "):
            return page(description())
        action = re.search(r"#(\w+)\"", text)
        values = dict(re.findall(r"<(New\w+)>([^<]*)</", text))
        assert action is not None
        error, given = self._act(action[1], values)
        if error:
            return page(f"<s:Fault xmlns:s='x'><errorCode>{error}</errorCode></s:Fault>".encode(), 500)
        body = "".join(f"<{name}>{value}</{name}>" for name, value in given.items())
        return page(f"<s:Envelope xmlns:s='x'><s:Body>{body}</s:Body></s:Envelope>".encode())

    def _act(self, action: str, values: dict[str, str]) -> tuple[int, dict[str, str]]:
        key = (Transport[values.get("NewProtocol", "UDP")], int(values.get("NewExternalPort", 0)))
        if self.result:
            return self.result, {}
        match action:
            case "GetExternalIPAddress":
                return 0, {"NewExternalIPAddress": str(ipaddress.IPv4Address(self.address))}
            case "GetSpecificPortMappingEntry" if key in self.mapped:
                return 0, {"NewInternalClient": str(ipaddress.IPv4Address(self.mapped[key][0]))}
            case "DeletePortMapping" if key in self.mapped:
                del self.mapped[key]
                return 0, {}
            case "AddPortMapping":
                if self.mapped.get(key, (LINK.own,))[0] != LINK.own:
                    return 718, {}
                client = ipaddress.IPv4Address(values["NewInternalClient"]).packed
                self.mapped[key] = (client, int(values["NewInternalPort"]))
                return 0, {}
        return 714, {}


def page(body: bytes, status: int = 200) -> bytes:
    """An answer of HTTP."""
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def description(service: str = "WANIPConnection:1", control: str = "/control") -> bytes:
    """A router's description with one service."""
    return (
        "<?xml version='1.0'?><root xmlns='urn:schemas-upnp-org:device-1-0'><device><friendlyName>x</friendlyName>"
        "<deviceList><device><serviceList><service>"
        f"<serviceType>urn:schemas-upnp-org:service:{service}</serviceType><controlURL>{control}</controlURL>"
        "</service></serviceList></device></deviceList></device></root>"
    ).encode()


class Home:
    """A device that speaks with a router on a virtual clock."""

    def __init__(self, router: Router, doors: tuple[Door, ...] = (CONTROL, TUNNEL), dice: int = 1) -> None:
        self.router = router
        self.now_s = 0.0
        self.shown: list[Standing] = []
        self.sent: list[tuple[float, Effect]] = []
        self.keeper = Keeper(LINK, doors, nonce_of, Random(dice), self.now_s)
        self._talk = self.keeper.run()
        self._effect: Effect = next(self._talk)
        self.is_woken = False
        self._is_asked = False
        self._since_s = 0.0  # the effect was begun

    @property
    def standing(self) -> Standing:
        """What was shown last."""
        return self.shown[-1]

    def want(self, *ports: int) -> None:
        """Want these UDP ports beside the doors."""
        self.keeper.want([(Forward(Transport.UDP, port),) for port in ports])
        self._is_asked = True

    def run(self, for_s: float) -> Standing:
        """Let so much time pass."""
        self.until(lambda: False, for_s)
        return self.standing

    def until(self, holds: Callable[[], bool], within_s: float) -> bool:
        """Let time pass until something holds; whether it does."""
        end_s = self.now_s + within_s
        while not holds():
            if isinstance(self._effect, Rest) and self._end_s(self._effect) > end_s:
                self.now_s = end_s
                return holds()
            self._effect = self._talk.send(self._do(self._effect))
            self._since_s = self.now_s
        return True

    def stop(self) -> None:
        """Withdraw."""
        drive(self.keeper.withdraw(), self._do)

    def _end_s(self, rest: Rest) -> float:
        is_over = (rest.wakes and self.is_woken) or (rest.heeds and self._is_asked)
        return self.now_s if is_over else self._since_s + rest.wait_s

    def _do(self, effect: Effect) -> Heard:
        begun_s, data, woken, asked = self.now_s, None, False, False
        match effect:
            case Show(standing=standing):
                self.shown.append(standing)
            case Rest():
                self.now_s = max(self.now_s, self._end_s(effect))
                woken = effect.wakes and self.is_woken
                self.is_woken = self.is_woken and not effect.wakes
                asked, self._is_asked = effect.heeds and self._is_asked, self._is_asked and not effect.heeds
            case _:
                self.sent.append((self.now_s, effect))
                data = self.router.answer(effect, self.now_s)
                if data is None and self.router.is_listening:
                    self.now_s += getattr(effect, "wait_s", 5.0)
        is_refused = data is None and isinstance(effect, Datagram) and not self.router.is_listening
        return Heard(self.now_s, data, self.now_s - begun_s, is_refused, woken, asked)


def drive(talk: Talk[T], do: Callable[[Effect], Heard]) -> T:
    """Run a talk to its end."""
    try:
        effect = next(talk)
        while True:
            effect = talk.send(do(effect))
    except StopIteration as end:
        result: T = end.value
        return result
