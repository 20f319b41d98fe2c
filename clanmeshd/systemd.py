"""What the daemon tells systemd: ready, alive, stopping. One datagram each (sd_notify(3)); no library needed."""

import os
import socket
from pathlib import Path
from typing import Final

import trio

STATUS_BYTES_MAX: Final = 256  # a line for `systemctl status`

_BOOTED: Final = Path("/run/systemd/system")


def is_service() -> bool:
    """Whether systemd started this very process as root: so it is the system's own daemon, nobody's experiment."""
    return os.geteuid() == 0 and _BOOTED.is_dir() and os.environ.get("SYSTEMD_EXEC_PID") == str(os.getpid())


def notify(*assignments: str) -> None:
    """Send assignments such as `READY=1` to the service manager, if there is one. Never fails the caller."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.setblocking(False)
        try:
            channel.sendto("\n".join(assignments).encode()[:STATUS_BYTES_MAX], address)
        except OSError:
            return  # the manager has gone or is busy; the watchdog tells it soon enough


def watchdog_interval_s() -> float | None:
    """Give half of the interval in which systemd expects a sign of life, or None without a watchdog."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    process = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    if not microseconds.isdigit() or process != str(os.getpid()):
        return None
    return int(microseconds) / 1e6 / 2


async def keep_alive() -> None:
    """Feed the watchdog for as long as the event loop turns. Returns at once without one."""
    interval_s = watchdog_interval_s()
    if interval_s is None:
        return
    while True:
        notify("WATCHDOG=1")
        await trio.sleep(interval_s)
