"""Relays between members: `serving` and `asking`, and `carrying` packets on a stream where UDP does not pass.

What a relay does with a packet is in `clanmeshd.overlay.relay`.
"""
