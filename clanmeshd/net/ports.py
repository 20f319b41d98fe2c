"""A port that cannot be had: one line that says which, why, and what to do."""

import errno
from typing import NoReturn


class PortInUse(OSError):
    """Another program has the port."""

    def __init__(self, protocol: str, port: int) -> None:
        super().__init__(errno.EADDRINUSE, f"{protocol} port {port} is in use")
        self.protocol = protocol
        self.port = port

    def __str__(self) -> str:
        return (
            f"{self.protocol} port {self.port} is in use by another program; "
            f"`ss -lnp 'sport = :{self.port}'` names it; end it, or set `port` in the configuration"
        )


def refuse_port(protocol: str, port: int, error: OSError) -> NoReturn:
    """Raise what a failed bind means: PortInUse, or the error as it was."""
    if error.errno == errno.EADDRINUSE:
        raise PortInUse(protocol, port) from error
    raise error
