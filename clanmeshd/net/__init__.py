"""How bytes reach other devices: one UDP port, TLS streams on the same port of TCP, mDNS to find the first peer.

This room knows addresses, sockets and timeouts. It refuses to know what the bytes mean: identities are proven
here, but who is a member is somebody else's answer. Invariants: every task has a nursery, every wait a bound,
every table a size; a stranger costs little and a failing peer ends nothing but its own stream.
"""
