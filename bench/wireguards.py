"""WireGuard on machines of a laboratory: what a daemon's says, and a pair that no daemon is beside."""

import shlex
import socket
from collections.abc import Sequence
from ipaddress import IPv6Address
from pathlib import Path
from typing import Final

from clanctl.demo.lab import Lab, Node
from clanctl.demo.processes import LabError, wait_until
from clanmeshd.overlay import uapi
from clanmeshd.overlay.device import Peer, WireGuard
from clanmeshd.overlay.plan import MTU_BYTES

BARE: Final = "bare0"
BARE_PORT: Final = 51_900
BARE_NETWORK: Final = int(IPv6Address("fd00:ba4e::"))
_UP_S: Final = 5.0
_READ_BYTES: Final = 65_536
_CONFIGURE: Final = (
    "umask 077; echo {private} >/run/key; wg set {name} listen-port {port} private-key /run/key peer {public}"
    " endpoint {endpoint} allowed-ips {other}/128 && ip address add {own}/64 dev {name} nodad"
    " && ip link set {name} mtu {mtu} up"
)


def read_wireguard(node: Node) -> WireGuard:
    """What the WireGuard of a machine's daemon knows now; nothing as long as there is none."""
    directory = Path(f"/proc/{node.pid}/root/run/wireguard")
    for path in directory.glob("*.sock"):
        with socket.socket(socket.AF_UNIX) as asker:
            try:
                asker.connect(str(path))
                return uapi.decode_device(_exchanged(asker))
            except OSError:
                break  # it is just coming up
    return WireGuard()


def peer_at(node: Node, address: str) -> Peer | None:
    """Whom the WireGuard of a machine's daemon has at an address of the overlay."""
    ip = IPv6Address(address).packed
    peers = read_wireguard(node).peers.values()
    return next((peer for peer in peers if ip in {each.ip for each in peer.allowed}), None)


def _exchanged(asker: socket.socket) -> bytes:
    asker.sendall(uapi.GET)
    answer = b""
    while not answer.endswith(uapi.END):
        chunk = asker.recv(_READ_BYTES)
        if not chunk:
            raise OSError("hung up")
        answer += chunk
    return answer


def bare_pair(lab: Lab, names: Sequence[str]) -> tuple[list[Node], list[str]]:
    """Two machines with wireguard-go alone, by IPv4 as daemons on a LAN have it; and their overlay addresses.

    They end with the laboratory. Raises LabError.
    """
    nodes = [lab.add_node(name) for name in names]
    keys = [_said(lab, node, "wg genkey") for node in nodes]
    publics = [_said(lab, node, "wg pubkey", key) for node, key in zip(nodes, keys, strict=True)]
    addresses = [str(IPv6Address(BARE_NETWORK + number)) for number in (1, 2)]
    for at, node in enumerate(nodes):
        _start(lab, node)
        peer = 1 - at
        words = _CONFIGURE.format(
            name=BARE,
            port=BARE_PORT,
            mtu=MTU_BYTES,
            private=shlex.quote(keys[at]),
            public=shlex.quote(publics[peer]),
            endpoint=f"{nodes[peer].place.ipv4.partition('/')[0]}:{BARE_PORT}",
            own=addresses[at],
            other=addresses[peer],
        )
        _said(lab, node, words)
    return nodes, addresses


def _start(lab: Lab, node: Node) -> None:
    _said(lab, node, f"wireguard-go {BARE}")  # which goes on in the background
    if not wait_until(lambda: lab.exec(node, ["wg", "show", BARE]).returncode == 0, _UP_S):
        raise LabError(f"wireguard-go of {node.name} does not come up")


def _said(lab: Lab, node: Node, script: str, stdin: str = "") -> str:
    done = lab.exec(node, ["sh", "-c", script], stdin=stdin)
    if done.returncode != 0:
        raise LabError(f"{node.name}: {done.stderr.strip()}")
    return done.stdout.strip()
