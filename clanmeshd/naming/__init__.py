"""Names: what the clan's devices are called is answered on this device alone, and the system is told whom to ask.

This room knows the form of DNS messages, the zone, and how resolvers of the system are told of it. It refuses to
know who is a member: a complete list of names comes in. Nothing here asks anybody outside of this device.
"""
