"""`python bridge.py SOCKET`: what Nix takes for ssh when a member's store is read.

Nix reaches a store elsewhere through a program `ssh` whose input and output it speaks into. This one carries them
to a unix socket, behind which the daemon has a stream to that member. Standard library only.
"""

import os
import socket
import sys
import threading

CHUNK_BYTES = 65_536


def main(arguments: list[str]) -> int:
    """Run the program. Exit status: 0 done, 1 nobody is behind the socket, 2 usage."""
    if len(arguments) != 1:
        return 2
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(arguments[0])
        except OSError:
            return 1
        # Nix ends us by closing our input, or by a signal; what the member still says nobody would read.
        threading.Thread(target=_outward, args=(connection,), daemon=True).start()
        while chunk := connection.recv(CHUNK_BYTES):
            _write(chunk)
    return 0


def _outward(connection: socket.socket) -> None:
    while chunk := os.read(0, CHUNK_BYTES):
        connection.sendall(chunk)
    connection.shutdown(socket.SHUT_WR)


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
