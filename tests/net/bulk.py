"""One TCP stream as fast as it goes: `bulk serve ADDRESS PORT` and `bulk send ADDRESS PORT SECONDS`.

The server takes one connection and prints the bits a second that came, from the first byte to the last.
"""

import socket
import sys
import time

CHUNK_BYTES = 1 << 18


def serve(address: str, port: int) -> None:
    """Take one stream, and tell how fast it was."""
    with socket.create_server((address, port), family=socket.AF_INET6) as listener:
        print("ready", flush=True)
        with listener.accept()[0] as stream:
            buffer, size = bytearray(CHUNK_BYTES), 0
            began_s = time.monotonic()
            while count := stream.recv_into(buffer):
                size += count
            print(8 * size / (time.monotonic() - began_s), flush=True)


def send(address: str, port: int, seconds: float) -> None:
    """Send for so long."""
    chunk = bytes(CHUNK_BYTES)
    with socket.create_connection((address, port)) as stream:
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            stream.sendall(chunk)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], int(sys.argv[3]))
    else:
        send(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
