"""The messages of PCP, NAT-PMP and UPnP, byte by byte as their specifications draw them, and what is refused."""

import struct

import pytest

from clanmesh_protocol.endpoints import is_public
from clanmesh_protocol.errors import LimitError, MalformedError, ProtocolError
from clanmeshd.net.mapping import http, natpmp, pcp, soap
from clanmeshd.net.mapping.gateway import gateway_of, gateway_of_ipv6
from clanmeshd.net.mapping.terms import Datagram, Effect, Epoch, Forward, Heard, Link, Silent, Transport
from clanmeshd.net.mapping.xml import DEPTH_MAX, ELEMENTS_MAX, TEXT_CHARACTERS_MAX, Leaf, leaves_untrusted
from tests.core.routers import description, drive, page

NONCE = bytes(range(12))
OWN, OUTSIDE = bytes([192, 168, 7, 2]), bytes([100, 20, 0, 1])
UDP = Forward(Transport.UDP, 51871)
TCP = Forward(Transport.TCP, 51871)
HOST = "192.168.7.1"

# --- PCP -----------------------------------------------------------------------------------------------

PCP_HEAD = bytes.fromhex("02 81 00 00 00001c20 00000064 000000000000000000000000")
PCP_MAP = NONCE + bytes.fromhex("11 000000 ca9f ca9f 00000000000000000000ffff 64140001")


def test_a_map_request_as_rfc_6887_draws_it() -> None:
    assert pcp.map_request(OWN, NONCE, UDP, 51871, 7200) == (
        bytes.fromhex("02 01 0000 00001c20 00000000000000000000ffff c0a80702")  # version, opcode, lifetime, client
        + NONCE
        + bytes.fromhex("11 000000 ca9f ca9f 00000000000000000000ffff 00000000")  # UDP, ports, any address
    )


def test_a_map_answer() -> None:
    answer = pcp.read_answer_untrusted(PCP_HEAD + PCP_MAP)
    assert answer == pcp.Answer(False, 0, 7200, 100, NONCE, 17, 51871, 51871, OUTSIDE)


def test_an_answer_to_a_withdrawal() -> None:
    """Port and address outside are nothing then, and the router has answered."""
    nothing = NONCE + bytes.fromhex("11 000000 ca9f 0000") + bytes(16)
    data = PCP_HEAD[:4] + bytes(4) + PCP_HEAD[8:] + nothing
    assert pcp.read_answer_untrusted(data).external_port == 0
    said = pcp.Pcp(Link(OWN, OWN), lambda forward: NONCE).remove(UDP, 51871)
    next(said)
    with pytest.raises(StopIteration):
        said.send(Heard(0.0, data))


def test_a_map_answer_with_options_behind_it() -> None:
    assert (
        pcp.read_answer_untrusted(PCP_HEAD + PCP_MAP + bytes.fromhex("80000004 00000000")).external_ip == OUTSIDE
    )


@pytest.mark.parametrize(
    "data",
    [
        bytes.fromhex("00 81 0001 00000064"),  # of NAT-PMP: RFC 6887, appendix A
        bytes.fromhex("00 81 0001 00000064") + bytes(8),
        bytes.fromhex("01 81 00 01") + bytes(20),  # version 1 of PCP
        bytes.fromhex("02 81 00 01") + bytes(56),
    ],
)
def test_an_answer_about_another_version(data: bytes) -> None:
    assert pcp.read_answer_untrusted(data).is_version


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x02",
        (PCP_HEAD + PCP_MAP)[:-1],
        (PCP_HEAD + PCP_MAP)[:-4],
        PCP_HEAD,
        PCP_HEAD + PCP_MAP + b"x",
        b"\x02\x01" + PCP_HEAD[2:] + PCP_MAP,  # a request
        b"\x02\x80" + PCP_HEAD[2:] + PCP_MAP,  # an announcement
        PCP_HEAD + PCP_MAP[:18] + bytes(2) + PCP_MAP[20:],  # port 0 outside
    ],
)
def test_a_pcp_answer_that_is_none(data: bytes) -> None:
    with pytest.raises(MalformedError):
        pcp.read_answer_untrusted(data)


def test_a_pcp_answer_that_is_too_long() -> None:
    with pytest.raises(LimitError):
        pcp.read_answer_untrusted(PCP_HEAD + PCP_MAP + bytes(pcp.MESSAGE_BYTES_MAX))


IPV6 = bytes.fromhex("2a000001000700000000000000000002")


def test_a_map_request_and_its_answer_for_ipv6() -> None:
    request = pcp.map_request(IPV6, NONCE, TCP, 51871, 7200)
    assert request == (
        bytes.fromhex("02 01 0000 00001c20") + IPV6 + NONCE + bytes.fromhex("06 000000 ca9f ca9f") + bytes(16)
    )
    answer = pcp.read_answer_untrusted(PCP_HEAD + PCP_MAP[:20] + IPV6)
    assert answer.external_ip == IPV6


@pytest.mark.parametrize(
    ("own", "outside"), [(OWN, IPV6), (IPV6, bytes(10) + b"\xff\xff" + OUTSIDE)], ids=["ipv4", "ipv6"]
)
def test_an_address_of_the_other_family_is_no_answer(own: bytes, outside: bytes) -> None:
    """Whoever answers so is as good as silent."""

    def answer(effect: Effect) -> Heard:
        asked = isinstance(effect, Datagram) and effect.data
        return Heard(0.0, PCP_HEAD + PCP_MAP[:20] + outside if asked else None)

    with pytest.raises(Silent):
        drive(pcp.Pcp(Link(bytes(len(own)), own), lambda forward: NONCE).add(UDP, 51871), answer)


def test_who_cannot_withdraw_is_asked_for_the_shortest_life() -> None:
    said = pcp.Pcp(Link(IPV6, IPV6), lambda forward: NONCE).remove(TCP, 51871)
    effect = next(said)
    assert effect == Datagram(pcp.map_request(IPV6, NONCE, TCP, 0, 0), pcp.REMOVE_WAITS_S[0])
    refusal = bytes.fromhex("02 81 00 02") + PCP_HEAD[4:] + NONCE + bytes.fromhex("06 000000 ca9f 0000") + IPV6
    assert said.send(Heard(0.0, refusal)) == Datagram(
        pcp.map_request(IPV6, NONCE, TCP, 51871, 1), pcp.REMOVE_WAITS_S[0]
    )


# --- NAT-PMP -------------------------------------------------------------------------------------------


def test_requests_as_rfc_6886_draws_them() -> None:
    assert natpmp.address_request() == b"\0\0"
    assert natpmp.map_request(UDP, 51871, 7200) == bytes.fromhex("00 01 0000 ca9f ca9f 00001c20")
    assert natpmp.map_request(TCP, 0, 0) == bytes.fromhex("00 02 0000 ca9f 0000 00000000")


def test_answers_of_nat_pmp() -> None:
    address = natpmp.read_answer_untrusted(bytes.fromhex("00 80 0000 00000064 64140001"))
    assert address == natpmp.Answer(0, 0, 100, external_ip=OUTSIDE)
    mapping = natpmp.read_answer_untrusted(bytes.fromhex("00 81 0000 00000064 ca9f caa0 00001c20"))
    assert mapping == natpmp.Answer(1, 0, 100, b"", 51871, 51872, 7200)
    refused = natpmp.read_answer_untrusted(bytes.fromhex("00 82 0002 00000064"))
    assert refused == natpmp.Answer(2, 2, 100)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        "00 80 0000 000000",
        "00 80 0000 00000064 641400",
        "00 80 0000 00000064 64140001 00",
        "00 81 0000 00000064 ca9f caa0 00001c",
        "00 01 0000 00000064 ca9f caa0 00001c20",  # a request
        "00 83 0000 00000064 ca9f caa0 00001c20",  # no operation that there is
        "02 81 0000 00000064 ca9f caa0 00001c20",  # another version
    ],
)
def test_an_answer_of_nat_pmp_that_is_none(text: str) -> None:
    with pytest.raises(MalformedError):
        natpmp.read_answer_untrusted(bytes.fromhex(text))


# --- UPnP ----------------------------------------------------------------------------------------------

FOUND = b"HTTP/1.1 200 OK\r\nST: upnp:rootdevice\r\nLOCATION: http://192.168.7.1:5000/d.xml\r\nEXT:\r\n\r\n"
PLACE = http.Place(5000, "/d.xml")


def test_a_search_and_its_answer() -> None:
    asked = soap.search(soap.SEARCH_TARGETS[0])
    assert asked.startswith(b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n")
    assert asked.endswith(b"ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n")
    assert soap.read_found_untrusted(FOUND, HOST) == PLACE
    assert soap.read_found_untrusted(FOUND.replace(b"LOCATION", b"Location"), HOST) == PLACE


@pytest.mark.parametrize(
    "location",
    [
        "http://192.168.7.9:5000/d.xml",  # another device's
        "http://192.168.7.1.evil.example/d.xml",
        "http://router.lan:5000/d.xml",
        "https://192.168.7.1/d.xml",
        "file:///etc/passwd",
        "http://user@192.168.7.1/d.xml",
        "http://192.168.7.1:0/d.xml",
        "http://192.168.7.1:99999/d.xml",
        "http://192.168.7.1/a b",
        "/d.xml",
        "",
        "http://192.168.7.1/" + "x" * http.TARGET_BYTES_MAX,
    ],
)
def test_a_description_elsewhere_is_not_fetched(location: str) -> None:
    answer = FOUND.replace(b"http://192.168.7.1:5000/d.xml", location.encode())
    with pytest.raises(MalformedError):
        soap.read_found_untrusted(answer, HOST)


@pytest.mark.parametrize(
    "data", [b"", b"NOTIFY * HTTP/1.1\r\n", b"HTTP/1.1 404 X\r\nLOCATION: http://192.168.7.1/\r\n\r\n"]
)
def test_what_is_no_answer_to_a_search(data: bytes) -> None:
    with pytest.raises(MalformedError):
        soap.read_found_untrusted(data, HOST)


def test_an_answer_to_a_search_that_is_too_long() -> None:
    with pytest.raises(LimitError):
        soap.read_found_untrusted(FOUND + bytes(soap.SEARCH_BYTES_MAX), HOST)


def services_of(body: bytes) -> list[tuple[str, int, str]]:
    found = soap.read_description_untrusted(page(body), HOST, PLACE)
    return [(each.type.rpartition(":service:")[2], each.control.port, each.control.target) for each in found]


@pytest.mark.parametrize(
    ("control", "target"),
    [("/c", "/c"), ("c", "/c"), ("http://192.168.7.1:81/c?x=1", "/c?x=1")],
)
def test_a_description(control: str, target: str) -> None:
    port = 81 if ":81" in control else 5000
    assert services_of(description(control=control)) == [("WANIPConnection:1", port, target)]


def test_a_base_in_a_description() -> None:
    body = description(control="c").replace(b"<device>", b"<URLBase>http://192.168.7.1:99/x/</URLBase><device>", 1)
    assert services_of(body) == [("WANIPConnection:1", 99, "/x/c")]


def test_the_best_service_comes_first_and_their_number_is_bounded() -> None:
    one = description("WANPPPConnection:1").partition(b"<service>")[2].partition(b"</serviceList>")[0]
    many = description("WANIPConnection:2").replace(b"<serviceList>", b"<serviceList>" + (b"<service>" + one) * 9)
    found = services_of(many)
    assert found[0][0] == "WANIPConnection:2"
    assert len(found) == soap.SERVICES_MAX


@pytest.mark.parametrize("control", ["http://192.168.7.9/c", "//192.168.7.9/c", "", "a b", "ftp://192.168.7.1/c"])
def test_a_service_elsewhere_is_not_called(control: str) -> None:
    assert services_of(description(control=control)) == []


def test_other_services_are_of_no_interest() -> None:
    assert services_of(description("Layer3Forwarding:1")) == []


def test_a_call() -> None:
    service = soap.Service(soap.SERVICE_TYPES[1], http.Place(5000, "/c"))
    said = soap.call(service, HOST, "DeletePortMapping", {"NewRemoteHost": "", "NewExternalPort": 51871})
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[:2] == [b"POST /c HTTP/1.1", b"Host: 192.168.7.1:5000"]
    assert b'SOAPAction: "urn:schemas-upnp-org:service:WANIPConnection:1#DeletePortMapping"' in head
    assert f"Content-Length: {len(body)}".encode() in head
    leaves = [(leaf.name, leaf.text) for leaf in leaves_untrusted(body)]
    assert leaves == [("NewRemoteHost", ""), ("NewExternalPort", "51871")]


@pytest.mark.parametrize(
    ("data", "error", "values"),
    [
        (page(b"<a><NewX>7</NewX></a>"), 0, {"NewX": "7"}),
        (page(b"<a><errorCode>718</errorCode></a>", 500), 718, {"errorCode": "718"}),
        (page(b"<a><errorCode>0</errorCode></a>", 500), 500, {"errorCode": "0"}),
        (page(b"<a/>", 401), 401, {"a": ""}),
        (
            b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n<b>\r\n4;x\r\n</b>\r\n0\r\n\r\n",
            0,
            {"b": ""},
        ),
        (b"HTTP/1.0 200 OK\r\n\r\n<b>until the end</b>", 0, {"b": "until the end"}),
    ],
)
def test_results(data: bytes, error: int, values: dict[str, str]) -> None:
    assert soap.read_result_untrusted(data) == soap.Result(error, values)
    assert http.is_whole_untrusted(data) == (b"until the end" not in data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"SSH-2.0-x\r\n\r\n",
        page(b"no XML"),
        page(b"<a>"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 5000,
        page(b"<a/>" + b" " * http.ANSWER_BYTES_MAX),
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * http.HEAD_BYTES_MAX + b"\r\n\r\n<a/>",
    ],
    ids=range(9),
)
def test_results_that_are_none(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        soap.read_result_untrusted(data)


# --- XML -----------------------------------------------------------------------------------------------


def test_leaves_of_a_document() -> None:
    leaves = leaves_untrusted(
        b"<?xml version='1.0'?><x:a xmlns:x='y'><b> 1 &amp;</b><c><d>2</d><e/></c> no leaf</x:a>"
    )
    assert leaves == (Leaf(1, "b", "1 &"), Leaf(3, "d", "2"), Leaf(3, "e", ""))


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<a></b>",
        b"<!DOCTYPE a><a/>",
        b'<!DOCTYPE a [<!ENTITY x "x">]><a>&x;</a>',
        b'<!DOCTYPE a SYSTEM "http://192.0.2.1/x"><a/>',
        b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
        b'<!DOCTYPE a [<!ENTITY % p SYSTEM "file:///x"> %p;]><a/>',
        b"<a>&x;</a>",
        b"<?xml version='1.0' encoding='nothing'?><a/>",
        b"<?xml version='1.0' encoding='utf-8'?><a>\xff</a>",
        b"<a>" * DEPTH_MAX + b"<a/>" + b"</a>" * DEPTH_MAX,
        b"<a>" + b"<b/>" * ELEMENTS_MAX + b"</a>",
        b"<a>" + b"x" * (TEXT_CHARACTERS_MAX + 1) + b"</a>",
    ],
    ids=range(13),
)
def test_documents_that_are_refused(document: bytes) -> None:
    with pytest.raises(ProtocolError):
        leaves_untrusted(document)


# --- addresses, routes, clocks -------------------------------------------------------------------------

HEADER = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"


def hexed(*numbers: int) -> str:
    """An address as the kernel prints it on this machine."""
    return f"{struct.unpack('=I', bytes(numbers))[0]:08X}"


def route(destination: str, gateway: str, *, flags: int = 3, metric: int = 0, mask: str = "00000000") -> str:
    return f"eth0 {destination} {gateway} {flags:04X} 0 0 {metric} {mask} 0 0 0\n"


ANY, ONE, OTHER = hexed(0, 0, 0, 0), hexed(192, 168, 7, 1), hexed(10, 0, 0, 1)


@pytest.mark.parametrize(
    ("rows", "gateway"),
    [
        ((route(ANY, ONE),), bytes([192, 168, 7, 1])),
        ((route(ANY, ONE, metric=600), route(ANY, OTHER, metric=100)), bytes([10, 0, 0, 1])),
        ((route(ANY, ANY, flags=1), route(ANY, ONE, metric=9)), bytes([192, 168, 7, 1])),  # a tunnel without one
        ((route(hexed(10, 0, 0, 0), OTHER, mask=hexed(255, 0, 0, 0)),), None),
        ((route(ANY, ONE, flags=0x203),), None),  # rejected
        ((route(ANY, OTHER, mask=hexed(128, 0, 0, 0)),), None),  # half of the internet
        (("eth0 00000000\n",), None),
        ((), None),
    ],
)
def test_the_gateway_of_a_table_of_routes(rows: tuple[str, ...], gateway: bytes | None) -> None:
    assert gateway_of(HEADER + "".join(rows)) == gateway


def route_ipv6(
    gateway: str, *, to: str = "0" * 32, bits: str = "00", metric: int = 1024, flags: int = 3, on: str = "eth0"
) -> str:
    return f"{to} {bits} {'0' * 32} 00 {gateway} {metric:08x} 00000001 00000000 {flags:08x} {on}\n"


FIRST, SECOND = "fe80" + "0" * 27 + "1", "fe80" + "0" * 27 + "2"


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ((route_ipv6(FIRST),), (bytes.fromhex(FIRST), "eth0")),
        ((route_ipv6(FIRST), route_ipv6(SECOND, metric=100, on="wlan0")), (bytes.fromhex(SECOND), "wlan0")),
        ((route_ipv6(FIRST, flags=0x00450003),), (bytes.fromhex(FIRST), "eth0")),  # by router advertisement
        ((route_ipv6("0" * 32, metric=0xFFFFFFFF, flags=0x00200200, on="lo"),), None),  # unreachable
        ((route_ipv6(FIRST, flags=0x203),), None),
        ((route_ipv6("0" * 32, flags=1, on="tun0"),), None),
        ((route_ipv6(FIRST, to="20" + "0" * 30, bits="03"),), None),
        (("0 0\n",), None),
        ((), None),
    ],
)
def test_the_gateway_of_a_table_of_ipv6_routes(rows: tuple[str, ...], found: tuple[bytes, str] | None) -> None:
    assert gateway_of_ipv6("".join(rows)) == found


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ((8, 8, 8, 8), True),
        ((100, 63, 255, 255), True),
        ((100, 64, 0, 1), False),  # shared by carriers: RFC 6598
        ((10, 1, 2, 3), False),
        ((172, 16, 0, 1), False),
        ((192, 168, 0, 1), False),
        ((169, 254, 1, 1), False),
        ((127, 0, 0, 1), False),
        ((0, 0, 0, 0), False),
        ((203, 0, 113, 7), False),  # for examples: RFC 5737
        ((224, 0, 0, 1), False),
        ((239, 255, 255, 250), False),
        ((240, 0, 0, 1), False),
        ((255, 255, 255, 255), False),
        (IPV6, True),
        ((0xFD, *bytes(15)), False),
        ((0xFE, 0x80, *bytes(14)), False),
        ((0xFF, 0x0E, *bytes(14)), False),
        ((0x20, 0x01, 0x0D, 0xB8, *bytes(12)), False),  # for examples: RFC 3849
        (bytes(16), False),
    ],
)
def test_which_addresses_are_the_internets(address: tuple[int, ...], public: bool) -> None:
    assert is_public(bytes(address)) is public


@pytest.mark.parametrize(
    ("later_s", "router_s", "went_on"),
    [
        (300.0, 1300, True),
        (300.0, 1262, True),  # slower by an eighth
        (300.0, 1259, False),
        (300.0, 0, False),
        (300.0, 9000, True),
        (0.0, 998, True),
        (0.0, 997, False),
    ],
)
def test_a_routers_clock(later_s: float, router_s: int, went_on: bool) -> None:
    epoch = Epoch()
    assert epoch.note(1000, 50.0)
    assert epoch.note(router_s, 50.0 + later_s) is went_on
