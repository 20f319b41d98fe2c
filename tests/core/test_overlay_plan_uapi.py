"""The text protocol of userspace WireGuards: what is sent, and what is refused of what comes back."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clanmesh_protocol.endpoints import Endpoint
from clanmeshd.overlay import uapi
from clanmeshd.overlay.device import Network, Peer, WireGuard
from clanmeshd.overlay.plan import Configure, SetPeer

KEY = "11" * 32
OTHER = "22" * 32
PEER = f"public_key={KEY}\nallowed_ip=fd00::1/128\n"


def test_a_change_as_text() -> None:
    """All of it, byte by byte: removals first, nothing that would replace all peers."""
    change = Configure(
        private_key=bytes([3]) * 32,
        listen_port=51872,
        removed=(bytes([2]) * 32,),
        peers=(
            SetPeer(
                bytes([1]) * 32,
                False,
                frozenset({Network(bytes(15) + b"\x01", 128)}),
                Endpoint(bytes([192, 0, 2, 1]), 7),
                25,
            ),
            SetPeer(bytes([4]) * 32, True, None, Endpoint(bytes(15) + b"\x09", 8), None),
        ),
    )
    assert uapi.encode_configure(change).decode() == (
        "set=1\n"
        f"private_key={'03' * 32}\n"
        "listen_port=51872\n"
        f"public_key={'02' * 32}\n"
        "remove=true\n"
        f"public_key={'01' * 32}\n"
        "endpoint=192.0.2.1:7\n"
        "persistent_keepalive_interval=25\n"
        "replace_allowed_ips=true\n"
        "allowed_ip=::1/128\n"
        f"public_key={'04' * 32}\n"
        "update_only=true\n"
        "endpoint=[::9]:8\n"
        "\n"
    )


def test_a_device_as_text() -> None:
    """Everything that wireguard-go says, and a key that it may say one day."""
    answer = (
        f"private_key={OTHER}\nlisten_port=51872\nfwmark=1\n"
        f"public_key={KEY}\npreshared_key={'00' * 32}\nprotocol_version=1\nendpoint=[2001:db8::1%eth0]:7\n"
        "last_handshake_time_sec=12\nlast_handshake_time_nsec=999\ntx_bytes=5\nrx_bytes=18446744073709551615\n"
        "persistent_keepalive_interval=25\nallowed_ip=fd00::1/128\nallowed_ip=10.0.0.0/8\nphase_of_moon=full\n"
        f"public_key={OTHER}\nendpoint=[::ffff:192.0.2.1]:8\n"
        "errno=0\n\n"
    )
    networks = frozenset({Network(bytes.fromhex("fd" + "00" * 14 + "01"), 128), Network(bytes([10, 0, 0, 0]), 8)})
    assert uapi.decode_device(answer.encode()) == WireGuard(
        bytes.fromhex(OTHER),
        51872,
        {
            bytes.fromhex(KEY): Peer(
                networks,
                25,
                Endpoint(bytes.fromhex("20010db8" + "00" * 11 + "01"), 7),
                12,
                18446744073709551615,
                5,
            ),
            bytes.fromhex(OTHER): Peer(endpoint=Endpoint(bytes([192, 0, 2, 1]), 8)),
        },
    )


def test_what_is_said_again_is_not_read_again() -> None:
    """What differs is, and of who is gone nothing is kept."""
    known: uapi.Known = {}
    first = uapi.decode_device(f"{PEER}public_key={OTHER}\nrx_bytes=1\nerrno=0\n\n".encode(), known)
    second = uapi.decode_device(f"{PEER}public_key={OTHER}\nrx_bytes=2\nerrno=0\n\n".encode(), known)
    key, other = map(bytes.fromhex, (KEY, OTHER))
    assert second.peers[key] is first.peers[key]
    assert (first.peers[other], second.peers[other]) == (Peer(rx_bytes=1), Peer(rx_bytes=2))
    uapi.decode_device(b"errno=0\n\n", known)
    assert known == {}


def test_an_empty_device() -> None:
    """As it is when it was just made."""
    assert uapi.decode_device(b"errno=0\n\n") == WireGuard()


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "\n\n",
        "errno=0\n",
        f"{PEER}\n\n",
        f"errno=0\n{PEER}\n\n",
        f"{PEER}errno=\n\n",
        f"{PEER}errno=zero\n\n",
        f"{PEER}errno\n\n",
        "listen_port=65536\nerrno=0\n\n",
        "listen_port=-1\nerrno=0\n\n",
        "listen_port=\nerrno=0\n\n",
        "listen_port=1 2\nerrno=0\n\n",
        f"private_key={KEY[:-1]}\nerrno=0\n\n",
        f"private_key={KEY[:-1]}x\nerrno=0\n\n",
        f"private_key={KEY}00\nerrno=0\n\n",
        f"public_key={KEY[:-2]}\nerrno=0\n\n",
        f"{PEER}allowed_ip=fd00::1\nerrno=0\n\n",
        f"{PEER}allowed_ip=fd00::1/129\nerrno=0\n\n",
        f"{PEER}allowed_ip=10.0.0.1/33\nerrno=0\n\n",
        f"{PEER}allowed_ip=fd00::x/128\nerrno=0\n\n",
        f"{PEER}endpoint=192.0.2.1\nerrno=0\n\n",
        f"{PEER}endpoint=host:1\nerrno=0\n\n",
        f"{PEER}endpoint=192.0.2.1:65536\nerrno=0\n\n",
        f"{PEER}rx_bytes=18446744073709551616\nerrno=0\n\n",
        f"{PEER}rx_bytes=0x10\nerrno=0\n\n",
        f"{PEER}persistent_keepalive_interval=65536\nerrno=0\n\n",
        f"{PEER}last_handshake_time_sec=-1\nerrno=0\n\n",
        f"{PEER}a line without a key\nerrno=0\n\n",
        "nonsense\nerrno=0\n\n",
        "listen_port=１\nerrno=0\n\n",
    ],
)
def test_a_bad_answer_is_refused(answer: str) -> None:
    """One fault each."""
    with pytest.raises(OSError, match="the userspace WireGuard sent") as caught:
        uapi.decode_device(answer.encode())
    assert caught.value.errno == errno.EBADMSG


@pytest.mark.parametrize("text", ["errno=-98\n\n", "errno=98\n\n"])
def test_a_refused_change_has_its_errno(text: str) -> None:
    """wireguard-go counts downward, others upward."""
    with pytest.raises(OSError, match="EADDRINUSE") as caught:
        uapi.decode_result(text.encode())
    assert caught.value.errno == errno.EADDRINUSE


def test_an_accepted_change() -> None:
    """Silence is consent."""
    uapi.decode_result(b"errno=0\n\n")


@given(st.binary(max_size=200) | st.text("errno=0\n_:1f[]%/.publick", max_size=200).map(str.encode))
def test_noise_is_an_oserror_or_a_device(data: bytes) -> None:
    """Nothing else comes out of the reader."""
    try:
        found = uapi.decode_device(data + b"\nerrno=0\n\n")
    except OSError:
        return
    assert isinstance(found, WireGuard)
