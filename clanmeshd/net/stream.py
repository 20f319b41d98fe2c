"""Streams between two proven ends: what the rest of the daemon uses of `dial`, `door`, `link` and `pipe`."""

from clanmeshd.net.dial import Unreachable, connect
from clanmeshd.net.door import open_listeners, serve
from clanmeshd.net.link import Stream, StreamBroken, StreamRefused
from clanmeshd.net.pipe import Pipe
from clanmeshd.net.tls import server_context

__all__ = [
    "Pipe",
    "Stream",
    "StreamBroken",
    "StreamRefused",
    "Unreachable",
    "connect",
    "open_listeners",
    "serve",
    "server_context",
]
