"""What a process costs, read from /proc: memory, CPU time by the scheduler's own count, what was sent."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Usage:
    """A reading of one process and of the one interface of its network namespace."""

    resident_bytes: int
    proportional_bytes: int  # PSS: shared pages counted by their share
    cpu_ns: int  # all threads, from schedstat
    sent_bytes: int  # by the interface's counter: payload, UDP, IP and Ethernet headers
    sent_packets: int
    received_packets: int


def read_usage(pid: int, interface: str) -> Usage:
    """Read the counters of a running process. Raises OSError when it is gone."""
    proc = Path("/proc") / str(pid)
    received_packets, sent_bytes, sent_packets = _moved(proc / "net/dev", interface)
    return Usage(
        resident_bytes=_field_bytes(proc / "status", "VmRSS:"),
        proportional_bytes=_field_bytes(proc / "smaps_rollup", "Pss:"),
        cpu_ns=sum(_run_ns(task / "schedstat") for task in (proc / "task").iterdir()),
        sent_bytes=sent_bytes,
        sent_packets=sent_packets,
        received_packets=received_packets,
    )


def _field_bytes(path: Path, field: str) -> int:
    for line in path.read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise OSError(f"{path} has no {field}")


def _run_ns(schedstat: Path) -> int:
    try:
        return int(schedstat.read_text().split()[0])
    except FileNotFoundError:
        return 0  # a worker thread that ended between the listing and the reading


def _moved(path: Path, interface: str) -> tuple[int, int, int]:
    for line in path.read_text().splitlines():
        name, _, counters = line.partition(":")
        if name.strip() == interface:
            numbers = counters.split()
            return int(numbers[1]), int(numbers[8]), int(numbers[9])
    raise OSError(f"no interface {interface}")
