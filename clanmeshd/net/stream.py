"""Streams between two proven ends: what the daemon uses of `dial`, `door`, `link`, `pipe` and `ties`."""

from clanmeshd.net.dial import Unreachable, connect, first_of, prove
from clanmeshd.net.door import open_listeners, serve
from clanmeshd.net.link import Stream, StreamBroken, StreamRefused
from clanmeshd.net.pipe import Pipe
from clanmeshd.net.ties import Ties
from clanmeshd.net.tls import server_context

__all__ = [
    "Pipe",
    "Stream",
    "StreamBroken",
    "StreamRefused",
    "Ties",
    "Unreachable",
    "connect",
    "first_of",
    "open_listeners",
    "prove",
    "serve",
    "server_context",
]
