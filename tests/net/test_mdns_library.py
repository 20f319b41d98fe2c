"""mDNS beside the implementation that others use: it hears us whole, and we hear it."""

import json

from clanmeshd.net.discovery import make_tag
from tests.net.mdns_machines import PORT, SECRET, name, neighbours

HEARS = """
import json, time, zeroconf
kind = "_clanmesh._udp.local."
heard, gone = [], []
class Listener(zeroconf.ServiceListener):
    def add_service(self, zc, type_, name):
        info = zeroconf.ServiceInfo(type_, name)
        info.load_from_cache(zc)
        heard.append(info)
    update_service = lambda self, *_: None
    def remove_service(self, zc, type_, name): gone.append(name)
library = zeroconf.Zeroconf(interfaces=["192.0.2.2"])
zeroconf.ServiceBrowser(library, kind, listener=Listener())
until = time.monotonic() + 15
while not heard and time.monotonic() < until:
    time.sleep(0.02)
info = heard[0]
asked = library.get_service_info(kind, info.name, timeout=10000)
library.close()
print(json.dumps([[each.port, each.parsed_addresses(), each.properties[b"t"].decode()] for each in (info, asked)]))
"""

SPEAKS = """
import socket, time, zeroconf
kind = "_clanmesh._udp.local."
library = zeroconf.Zeroconf(interfaces=["192.0.2.2"])
info = zeroconf.ServiceInfo(kind, "Some-Name." + kind, port={port}, addresses=[socket.inet_aton("192.0.2.2")],
    properties={{"t": "{tag}"}}, server="some-host.local.")
library.register_service(info)  # returns when it has announced
print("registered", flush=True)
time.sleep(60)
"""


def test_the_library_hears_all_that_we_tell() -> None:
    with neighbours() as (ours, theirs):
        name(ours, "2001:db8::1/64")
        ours.run()
        assert ours.hears_nothing("suggest", for_s=4.0)  # its announcements are over: what comes now is an answer
        for port, addresses, tag in json.loads(theirs.python(HEARS)):
            assert port == PORT
            assert addresses == ["192.0.2.1", "2001:db8::1"]
            assert tag[16:] == make_tag(SECRET, bytes.fromhex(tag[:16]))[16:]


def test_we_hear_what_the_library_answers() -> None:
    with (
        neighbours() as (ours, theirs),
        theirs.running(SPEAKS.format(port=PORT, tag=make_tag(SECRET, bytes(8)))),
    ):
        ours.run()
        ours.until("suggest", f"192.0.2.2:{PORT}")
