"""Asks the home router to forward our ports: PCP (RFC 6887), NAT-PMP (RFC 6886), UPnP IGD.

`terms` has the words that all share, `pcp`, `natpmp` and `upnp` one protocol each (with `http`, `soap` and `xml`
below the last), `keeper` the order of things: which protocol, renewals, a router that restarted, the end. All of
these are pure: generators that yield what shall be done and are resumed with what came of it. `gateway` finds the
router in the kernel's routing table, `client` is the task, and `line` has the sockets.

No library does this for us. Of those that are kept, async-upnp-client needs asyncio and aiohttp, which would cost
an idle daemon more memory than all else that it does; miniupnpc blocks for seconds in C, needs a compiler where
there is no wheel, and believes whoever on the LAN calls itself a gateway. Those for NAT-PMP are not kept, and none
speaks PCP. What is needed of the three are eight short messages.
"""
