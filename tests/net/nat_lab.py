"""A laboratory of routers: sites behind NATs of every model, on an internet with a delay, all in namespaces.

    host -- lan [router] wan --+
    host -- lan [router] lan -- wan [router] wan --+-- internet (a process) -- wan public host
    host --+

A namespace lives as long as the process that holds it, so nothing stays behind; a site takes 30 ms to make. IPv4
alone: the models are about it. Addresses are those set aside for documentation, for carriers and for homes. Needs
root, or to be inside a user namespace.
"""

import ctypes
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from clanctl.demo.network import network_words
from clanctl.demo.processes import LabError, hold, release, wait_until
from tests.net.nat_models import Model, rules

RTT_S: Final = 0.04
INTERNET: Final = Path(__file__).with_name("nat_internet.py")
_PUBLIC: Final = IPv4Network("192.0.2.0/24")  # RFC 5737: hosts without a router of their own
_OUTSIDE: Final = IPv4Network("203.0.113.0/24")  # RFC 5737: the outer addresses of routers
_ELSEWHERE: Final = IPv4Network("198.51.100.0/24")  # RFC 5737: the same for sites that are far from the others
_CARRIER: Final = IPv4Network("100.64.0.0/10")  # RFC 6598: between two routers, a /24 for each outer one
_HOME: Final = IPv4Network("10.0.0.0/8")  # RFC 1918: a /24 for each site
_ROUTER: Final = "echo 1 > /proc/sys/net/ipv4/ip_forward && ip link set lo up && echo ready && exec cat"
_HOST: Final = "echo ready && exec cat"
_UP_S: Final = 5.0  # for a new line to carry packets; it takes a millisecond
_SIOCGIFFLAGS: Final = 0x8913
_IFF_RUNNING: Final = 0x40
_TIMEOUTS: Final = "cd /proc/sys/net/netfilter\nfor each in nf_conntrack_udp_timeout*; do echo {} > $each; done\n"
_CLONE_NEWNET: Final = 0x40000000
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


@dataclass(slots=True)
class Site:
    """A place behind routers of these models, from the hosts outwards."""

    models: tuple[Model, ...]
    outside: str  # the address that the internet knows, of the outermost router
    lan: IPv4Network
    routers: "tuple[subprocess.Popen[bytes], ...]"  # from the hosts outwards
    line: int  # the internet's number of the device that the outermost router is connected by
    hosts: list[int] = field(default_factory=list)  # process ids of all that were ever there

    @property
    def depth(self) -> int:
        """Routers of its own that a packet passes on its way out."""
        return len(self.models)


@dataclass(frozen=True, slots=True)
class Host:
    """A machine: the process that holds its network namespace, its address, and where it is."""

    pid: int
    address: str
    site: Site | None  # None: on the internet itself

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Make this thread one of the host's meanwhile: the sockets that it opens belong there, for good."""
        with _inside(self.pid):
            yield

    def socket(self, port: int) -> socket.socket:
        """A UDP socket on a port of it."""
        with self.inside():
            opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            opened.bind((self.address, port))
        return opened


class NatLab:
    """Sites, hosts, and the internet between them. Use it as a context: at its end everything is gone."""

    def __init__(self, *, rtt_s: float = RTT_S) -> None:
        self._holders: list[subprocess.Popen[bytes]] = []
        self._links = 0
        self._made = {_PUBLIC: 0, _OUTSIDE: 0, _ELSEWHERE: 0, _CARRIER: 0, _HOME: 0}
        self._internet = self._hold(["unshare", "--net", sys.executable, "-I", "-S", os.fspath(INTERNET)])
        self.weather(rtt_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End everything."""
        while self._holders:
            release(self._holders.pop())

    # --- places ---

    def site(
        self, *models: Model, hosts_max: int = 2, mapping_s: int | None = None, is_elsewhere: bool = False
    ) -> Site:
        """A site behind routers of these models, at least one, from its hosts outwards.

        `mapping_s`: how long they keep a mapping that nothing passes; None: as the kernel does, 30 s at first.
        `is_elsewhere`: the outer address is of another network than that of other sites.
        """
        lans = [self._network(_HOME), *(self._network(_CARRIER) for _ in models[1:])]
        outside = self._address(_ELSEWHERE if is_elsewhere else _OUTSIDE)
        routers: list[subprocess.Popen[bytes]] = []
        line = 0
        for number, (model, lan) in enumerate(zip(models, lans, strict=True)):
            router = self._hold(["unshare", "--net", "sh", "-c", _ROUTER])
            routers.append(router)
            inner = routers[number - 1] if number else None
            is_outermost = number == len(models) - 1
            self._ip(router.pid, _lan_batch(lan, inner.pid if inner else None))
            if inner is not None:
                self._ip(inner.pid, _uplink_batch(str(lan[2]), 24, str(lan[1])))
                _await_running(inner.pid, "wan")
                _await_running(router.pid, "lan")
            if is_outermost:
                line = self._connect(router.pid, outside)
            address = outside if is_outermost else str(lans[number + 1][2])
            behind = [str(lan[2 + at]) for at in range(hosts_max if number == 0 else 1)]
            self._run(router.pid, ["nft", "-f", "-"], rules(model, address, behind))
            if mapping_s is not None:
                self._run(router.pid, ["sh"], _TIMEOUTS.format(mapping_s))
        return Site(models, outside, lans[0], tuple(routers), line)

    def forward(self, site: Site, port: int) -> None:
        """Have a site of one router hand a port on to its first host, as a person sets it up there."""
        rule = (
            f"add rule ip nat before iifname wan meta l4proto {{ tcp, udp }} th dport {port} dnat to {site.lan[2]}"
        )
        self._run(site.routers[-1].pid, ["nft", "-f", "-"], rule)

    def host(self, site: Site | None = None) -> Host:
        """A machine at a site, or with a public address."""
        holder = self._hold(["unshare", "--net", "sh", "-c", _HOST])
        return self.plug(holder.pid, site)

    def plug(self, pid: int, site: Site | None = None, interface: str = "eth0") -> Host:
        """Connect a process' network namespace, which has no such interface yet."""
        self._ip(pid, "link set lo up\n")
        if site is None:
            address = self._address(_PUBLIC)
            self._connect(pid, address, interface)
            return Host(pid, address, None)
        site.hosts.append(pid)
        address = str(site.lan[1 + len(site.hosts)])
        port = f"port{len(site.hosts)}"
        self._ip(
            site.routers[0].pid,
            f"link add {port} type veth peer name {interface} netns {pid}\nlink set {port} master lan up\n",
        )
        self._ip(pid, _uplink_batch(address, site.lan.prefixlen, str(site.lan[1]), interface))
        _await_running(pid, interface)
        _await_running(site.routers[0].pid, port)
        _await_running(site.routers[0].pid, "lan")
        return Host(pid, address, site)

    def unplug(self, host: Host, interface: str = "eth0") -> None:
        """Pull a host's cable for good: it may be plugged in elsewhere then, and has another address there."""
        self._ip(host.pid, f"link delete {interface}\n")

    def renumber(self, site: Site) -> None:
        """Give a site another address, as providers do at night: all mappings are gone. Not behind a HAIRPIN."""
        before, site.outside = site.outside, self._address(_OUTSIDE)
        self._ask("route", address=before, device=None)
        self._ask("route", address=site.outside, device=site.line)
        self._ip(
            site.routers[-1].pid,
            f"address delete {before}/32 dev wan\naddress add {site.outside}/32 dev wan\n"
            "route replace default dev wan\n",
        )

    def mappings(self, site: Site) -> int:
        """How many flows the outermost router of a site keeps in mind, without those whose time is over."""
        return len(self._run(site.routers[-1].pid, ["cat", "/proc/net/nf_conntrack"], "").splitlines())

    # --- the internet ---

    def weather(self, rtt_s: float, loss: float = 0.0) -> None:
        """The round trip between any two places from now on, and the share of packets that get lost."""
        self._ask("weather", delay_s=rtt_s / 2, loss=loss)

    def cut(self, one: str, other: str, *, is_cut: bool = True) -> None:
        """Lose all between two addresses of the internet, or nothing any more."""
        self._ask("cut", one=one, other=other, is_cut=is_cut)

    def flows(self) -> dict[tuple[str, str], int]:
        """Packets that the internet has taken so far, by source and destination."""
        return {(source, destination): count for source, destination, count in self._ask("flows")}

    # --- below ---

    def _network(self, of: IPv4Network) -> IPv4Network:
        self._made[of] += 1
        return IPv4Network((int(of[0]) + 256 * self._made[of], 24))

    def _address(self, of: IPv4Network) -> str:
        self._made[of] += 1
        return str(of[self._made[of]])

    def _connect(self, pid: int, address: str, interface: str = "wan") -> int:
        """Give a namespace a line to the internet; its number there."""
        self._links += 1
        name = f"line{self._links}"
        device: int = self._ask("link", name=name)
        self._ask("route", address=address, device=device)
        self._ip(self._internet.pid, f"link set {name} netns {pid}\n")
        self._ip(
            pid,
            f"link set {name} name {interface}\naddress add {address}/32 dev {interface}\n"
            f"link set {interface} up\nroute add default dev {interface}\n",
        )
        return device

    def _hold(self, words: Sequence[str]) -> "subprocess.Popen[bytes]":
        holder = hold(words)
        self._holders.append(holder)
        return holder

    def _ask(self, do: str, **fields: Any) -> Any:
        assert self._internet.stdin is not None
        assert self._internet.stdout is not None
        self._internet.stdin.write(json.dumps({"do": do, **fields}).encode() + b"\n")
        self._internet.stdin.flush()
        line = self._internet.stdout.readline()
        if not line:
            assert self._internet.stderr is not None
            raise LabError(f"the internet ended: {self._internet.stderr.read().decode(errors='replace')}")
        return json.loads(line)

    def _ip(self, pid: int, batch: str) -> None:
        self._run(pid, ["ip", "-batch", "-"], batch)

    def _run(self, pid: int, words: Sequence[str], text: str) -> str:
        finished = subprocess.run(
            [*network_words(pid), *words],
            input=text,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        if finished.returncode != 0:
            raise LabError(f"making the network failed: {finished.stderr.strip()}\n{text}")
        return finished.stdout


def _lan_batch(lan: IPv4Network, inner: int | None) -> str:
    """A router's inner side: a bridge for hosts, or the cable of the one router that is behind it."""
    made = (
        "link add lan type bridge stp_state 0 mcast_snooping 0\n"
        if inner is None
        else f"link add lan type veth peer name wan netns {inner}\n"
    )
    return f"{made}address add {lan[1]}/{lan.prefixlen} dev lan\nlink set lan up\n"


def _uplink_batch(address: str, bits: int, gateway: str, interface: str = "wan") -> str:
    return (
        f"address add {address}/{bits} dev {interface}\nlink set {interface} up\n"
        f"route add default via {gateway} dev {interface}\n"
    )


@contextmanager
def _inside(pid: int) -> Iterator[None]:
    with _namespace(os.getpid()) as home, _namespace(pid) as there:
        _enter(there)
        try:
            yield
        finally:
            _enter(home)


def _await_running(pid: int, interface: str) -> None:
    """Wait until a line carries packets: what is sent before is lost, and ARP would try again a second later."""
    request = struct.pack("16sH14x", interface.encode(), 0)
    with _inside(pid), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:

        def runs() -> bool:
            flags: int = struct.unpack_from("=H", fcntl.ioctl(asker, _SIOCGIFFLAGS, request), 16)[0]
            return bool(flags & _IFF_RUNNING)

        if not wait_until(runs, _UP_S):
            raise LabError(f"{interface} does not come up")


@contextmanager
def _namespace(pid: int) -> Iterator[int]:
    opened = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield opened
    finally:
        os.close(opened)


def _enter(namespace: int) -> None:
    if _LIBC.setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
