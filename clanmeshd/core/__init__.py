"""The pure core: bytes and the time in, effects out. Nothing here opens, reads, waits or rolls dice."""
