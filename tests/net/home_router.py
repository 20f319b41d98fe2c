"""A home network behind a router that runs miniupnpd, as many routers do, and a machine in the internet.

The router's LAN is the laboratory's bridge; its line leads to the one machine outside. miniupnpd speaks PCP,
NAT-PMP and UPnP; to see one of the later ones used, the router's packet filter rejects what comes before it.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, Final

from clanctl.demo.lab import Lab, Node
from clanctl.demo.network import enter_words, network_words
from clanctl.demo.processes import child_of
from tests.clock import wait_until
from tools.prepare import find

LAN: Final = "192.168.7"  # miniupnpd serves private networks only
WAN: Final = "100.20.0.1"  # of the internet as far as anybody here can tell; no packet leaves the namespaces
LAN_IPV6: Final = "2a00:1:7"
WAN_IPV6: Final = "2a00:1:1"
OUTSIDE: Final = "100.20.0.2"
PATIENCE_S: Final = 20.0
REJECTED: Final = {  # so that the router's system says that nobody listens
    "PCP": "",
    "NAT-PMP": "udp dport 5351 @th,64,8 2 reject",
    "UPnP": "udp dport 5351 reject",
    "nothing": "udp dport 5351 reject; udp dport 1900 drop",
}

# The chains that miniupnpd expects, and what else a home router has. Loading it anew empties them.
_RULES: Final = """
add table inet filter
delete table inet filter
table inet filter {{
    chain miniupnpd {{ }}
    chain prerouting_miniupnpd {{ }}
    chain postrouting_miniupnpd {{ }}
    chain input {{ type filter hook input priority 0; policy accept; {rejected}; }}
    chain forward {{
        type filter hook forward priority 0; policy drop;
        ct state established,related accept
        iifname "eth0" accept
        jump miniupnpd
    }}
    chain prerouting {{ type nat hook prerouting priority -100; jump prerouting_miniupnpd; }}
    chain postrouting {{
        type nat hook postrouting priority 100
        jump postrouting_miniupnpd
        meta nfproto ipv4 oifname "wan" masquerade
    }}
}}
"""
_SETTINGS: Final = f"""
ext_ifname=wan
listening_ip=eth0
enable_natpmp=yes
enable_upnp=yes
secure_mode=yes
system_uptime=no
http_port=0
uuid=00000000-0000-0000-0000-000000000001
allow 1024-65535 {LAN}.0/24 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
"""


def program() -> str | None:
    """Where miniupnpd is."""
    return find("miniupnpd")


class HomeRouter:
    """The router, and the machine outside."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self.node = lab.add_node("router")
        self.outside = lab.add_node("outside")
        self._daemon: subprocess.Popen[bytes] | None = None
        self._settings = self.node.directory / "miniupnpd.conf"
        self._settings.write_text(_SETTINGS)
        self.run(self.outside, "ip", "link", "delete", "eth0")
        self._lay_line()
        self.run(self.node, "ip", "-4", "address", "flush", "dev", "eth0")  # miniupnpd serves the first one only
        self.run(self.node, "ip", "address", "add", f"{LAN}.1/24", "dev", "eth0")
        self.run(self.node, "sysctl", "-qw", "net.ipv4.ip_forward=1")

    def _lay_line(self) -> None:
        inside = [*network_words(self.node.pid), "ip"]
        pair = ["link", "add", "wan", "type", "veth", "peer", "name", "wan", "netns", str(self.outside.pid)]
        subprocess.run([*inside, *pair], check=True)
        for node, address in ((self.node, WAN), (self.outside, OUTSIDE)):
            self.run(node, "ip", "address", "add", f"{address}/24", "dev", "wan")
            self.run(node, "ip", "link", "set", "wan", "up")

    def run(self, node: Node, *words: str, stdin: str = "") -> str:
        """Run a command that must succeed; its output."""
        done = self._lab.exec(node, words, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def connect(self, node: Node, number: int) -> None:
        """Make a machine of the LAN one of the home."""
        self.run(node, "ip", "address", "replace", f"{LAN}.{number}/24", "dev", "eth0")
        self.run(node, "ip", "route", "replace", "default", "via", f"{LAN}.1")

    def connect_ipv6(self, node: Node, number: int) -> str:
        """Give the whole home IPv6, and one machine of the LAN the way out; its address."""
        for router, device, prefix in ((self.node, "eth0", LAN_IPV6), (self.node, "wan", WAN_IPV6)):
            self.run(router, "ip", "address", "replace", f"{prefix}::1/64", "dev", device, "nodad")
        self.run(self.node, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
        self.run(self.outside, "ip", "address", "replace", f"{WAN_IPV6}::2/64", "dev", "wan", "nodad")
        self.run(self.outside, "ip", "route", "replace", "default", "via", f"{WAN_IPV6}::1")
        shown = json.loads(self.run(self.node, "ip", "-6", "-json", "address", "show", "dev", "eth0"))
        addresses = [each for link in shown for each in link.get("addr_info", ())]
        link_local = next(each["local"] for each in addresses if each["scope"] == "link")
        self.run(node, "ip", "-6", "address", "flush", "scope", "global", "dev", "eth0")  # the laboratory's
        self.run(node, "ip", "address", "replace", f"{LAN_IPV6}::{number}/64", "dev", "eth0", "nodad")
        self.run(node, "ip", "route", "replace", "default", "via", link_local, "dev", "eth0")
        return f"{LAN_IPV6}::{number}"

    def start(self, speaks: str = "PCP") -> None:
        """Switch it on, perhaps again; whatever was mapped is forgotten."""
        self.stop()
        self.run(self.node, "nft", "-f", "-", stdin=_RULES.format(rejected=REJECTED[speaks]))
        assert self.forwards() == set(), "before anybody can ask again"
        (self.node.directory / "pid").unlink(missing_ok=True)
        words = [
            program() or "miniupnpd",
            "-d",
            "-f",
            os.fspath(self._settings),
            "-P",
            str(self.node.directory / "pid"),
        ]
        with (self.node.directory / "miniupnpd.log").open("ab") as log:
            self._daemon = subprocess.Popen([*enter_words(self.node.pid), *words], stdout=log, stderr=log)
        assert wait_until(self._listens, PATIENCE_S), (self.node.directory / "miniupnpd.log").read_text()

    def stop(self) -> None:
        """Switch its services off; the packet filter stays as it is."""
        if self._daemon is not None:
            self._lab.exec(self.node, ["sh", "-c", f"kill -9 $(cat {self.node.directory / 'pid'})"])
            self._daemon.wait(PATIENCE_S)
            self._daemon = None

    def forwards(self) -> set[str]:
        """What is forwarded, as `udp 51871`."""
        listed = json.loads(
            self.run(self.node, "nft", "--json", "list", "chain", "inet", "filter", "prerouting_miniupnpd")
        )
        rules = [entry["rule"]["expr"] for entry in listed["nftables"] if "rule" in entry]
        return {_named(rule) for rule in rules}

    def send(self, data: str, to: str, *, tcp: bool = False) -> None:
        """Say something from outside; lost packets are the caller's to repeat."""
        host, _, port = to.rpartition(":")
        family, kind = "AF_INET6" if "[" in host else "AF_INET", "STREAM" if tcp else "DGRAM"
        script = (
            f"import socket; s = socket.socket(socket.{family}, socket.SOCK_{kind}); s.settimeout(5);"
            f" s.connect(({host.strip('[]')!r}, {port})); s.send({data.encode()!r})"
        )
        self.run(self.outside, sys.executable, "-c", script)

    def announce(self) -> None:
        """Say on the LAN that it restarted (RFC 6886, 3.2.1)."""
        script = (
            "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
            f" s.setsockopt(0, socket.IP_MULTICAST_IF, socket.inet_aton('{LAN}.1'));"
            f" s.sendto(bytes.fromhex('0080000000000000') + socket.inet_aton('{WAN}'), ('224.0.0.1', 5350))"
        )
        self.run(self.node, sys.executable, "-c", script)

    def _listens(self) -> bool:
        return ":5351" in self._lab.exec(self.node, ["ss", "-lnu"]).stdout


def _named(rule: list[dict[str, Any]]) -> str:
    """A rule's protocol and port, as nft prints those of miniupnpd."""
    numbers = [each["match"]["right"] for each in rule if isinstance(each.get("match", {}).get("right"), int)]
    protocol = {17: "udp", 6: "tcp"}[next(number for number in numbers if number in (6, 17))]
    return f"{protocol} {next(number for number in numbers if number not in (6, 17))}"


LIAR: Final = f"""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 1900))
s.setsockopt(0, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("239.255.255.250") + socket.inet_aton("{LAN}.3"))
print("ready", flush=True)
while True:
    data, source = s.recvfrom(2000)
    if not data.startswith(b"M-SEARCH"):
        continue
    for at in ("{LAN}.1", "{LAN}.3"):
        s.sendto(b"HTTP/1.1 200 OK\\r\\nLOCATION: http://%s:1900/x\\r\\n\\r\\n" % at.encode(), source)
    print(source[0], flush=True)
"""


@contextmanager
def liar(lab: Lab, node: Node) -> Iterator[IO[str]]:
    """Run somebody on the LAN who answers searches for the router; its output names who asked."""
    words = [*enter_words(node.pid), sys.executable, "-c", LIAR]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process.stdout
        finally:
            os.kill(child_of(process.pid), signal.SIGKILL)


class Device:
    """A process of `mapping_node` on a machine."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        assert process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(process.stdout,), daemon=True)
        self._reader.start()
        self.heard: list[dict[str, Any]] = []

    def _read(self, lines: IO[str]) -> None:
        for line in lines:
            self._lines.put(json.loads(line))

    def until(self, holds: Callable[[dict[str, Any]], bool], within_s: float = PATIENCE_S) -> dict[str, Any]:
        """Wait for a line."""
        try:
            while True:
                line = self._lines.get(timeout=within_s)
                self.heard.append(line)
                if holds(line):
                    return line
        except queue.Empty:
            raise AssertionError(f"not within {within_s} s: {self.heard}") from None

    def stop(self) -> None:
        """Let it stop by itself."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)

    def kill(self) -> None:
        """End it without a warning."""
        if self._process.poll() is None:
            os.kill(child_of(self._process.pid), signal.SIGKILL)  # nsenter ends with it
        self._process.wait(PATIENCE_S)


@contextmanager
def device(lab: Lab, node: Node) -> Iterator[Device]:
    """Run a device that maps its ports."""
    words = [*enter_words(node.pid), sys.executable, "-W", "error", "-m", "tests.net.mapping_node"]
    process = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=lab.environment(node)
    )
    running = Device(process)
    try:
        yield running
    finally:
        running.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None and not pipe.closed:
                pipe.close()
