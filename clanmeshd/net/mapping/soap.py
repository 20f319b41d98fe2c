"""What UPnP says: the search on the LAN (SSDP), a router's description, its actions (SOAP). Pure.

UPnP Device Architecture 1.1 and the services WANIPConnection:1 and :2 and WANPPPConnection:1. Whatever a document
names must be at the router's own address.
"""

import ipaddress
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from clanmesh_protocol.errors import LimitError, MalformedError
from clanmeshd.net.mapping import http
from clanmeshd.net.mapping.xml import Leaf, leaves_untrusted

SEARCH_BYTES_MAX: Final = 2048  # an answer is a datagram of 300 to 600 bytes
SERVICES_MAX: Final = 4  # of one router that we try
MX_S: Final = 1  # answers are spread over so long: the shortest that there is

# A device of version 2 answers for version 1. Some answer for neither, but as a root device.
SEARCH_TARGETS: Final = ("urn:schemas-upnp-org:device:InternetGatewayDevice:1", "upnp:rootdevice")
# Best first. Version 2 can choose a free port by itself.
SERVICE_TYPES: Final = (
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
)

_STATUS_OK: Final = 200
_SSDP_ANSWER: Final = re.compile(rb"HTTP/1\.[01] 200[ \r]")
_NUMBER: Final = re.compile(r"[0-9]{1,5}")
_CALL: Final = (
    '<?xml version="1.0"?>\r\n'
    '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"'
    ' s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>'
    '<u:{action} xmlns:u="{service}">{arguments}</u:{action}></s:Body></s:Envelope>\r\n'
)


@dataclass(frozen=True, slots=True)
class Service:
    """A service of the router that maps ports, and where it is called."""

    type: str
    control: http.Place


@dataclass(frozen=True, slots=True)
class Result:
    """What came of an action: an error's number (0: none), or the values that it gave."""

    error: int
    values: Mapping[str, str]

    def port(self, name: str, default: int) -> int:
        """One of the values that is a port; another one where there is none."""
        text = self.values.get(name, "")
        return int(text) if _NUMBER.fullmatch(text) and 0 < int(text) < 65_536 else default

    def ipv4(self, name: str) -> bytes:
        """One of the values that must be an IPv4 address, packed. Raises MalformedError."""
        try:
            return ipaddress.IPv4Address(self.values.get(name, "")).packed
        except ValueError:
            raise MalformedError(f"no address {name} in an answer of UPnP") from None


def search(target: str) -> bytes:
    """Ask who there is on the LAN."""
    lines = (
        "M-SEARCH * HTTP/1.1",
        "HOST: 239.255.255.250:1900",
        'MAN: "ssdp:discover"',
        f"MX: {MX_S}",
        f"ST: {target}",
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("ascii")


def read_found_untrusted(data: bytes, host: str) -> http.Place:
    """Read an answer to the search: where the description is. Raises MalformedError or LimitError."""
    if len(data) > SEARCH_BYTES_MAX:
        raise LimitError(f"an answer of SSDP of more than {SEARCH_BYTES_MAX} bytes")
    if not _SSDP_ANSWER.match(data):
        raise MalformedError("no answer of SSDP")
    location = http.headers_untrusted(data).get(b"location", b"")
    return http.place_of_untrusted(location.decode("latin-1"), host)


def read_description_untrusted(data: bytes, host: str, place: http.Place) -> tuple[Service, ...]:
    """Read the answer with a description: its services that map ports, best first. Raises ProtocolError."""
    answer = http.read_answer_untrusted(data)
    if answer.status != _STATUS_OK:
        raise MalformedError(f"a description that HTTP answers with {answer.status}")
    leaves = leaves_untrusted(answer.body)
    base = _base(leaves, host) or place
    controls = {leaf.parent: leaf.text for leaf in leaves if leaf.name == "controlURL"}
    found = []
    for leaf in leaves:
        if leaf.name == "serviceType" and leaf.text in SERVICE_TYPES:
            with suppress(MalformedError):  # of this service; another may be sound
                control = http.place_of_untrusted(controls.get(leaf.parent, ""), host, base)
                found.append(Service(leaf.text, control))
    found.sort(key=lambda service: SERVICE_TYPES.index(service.type))
    return tuple(found[:SERVICES_MAX])


def call(service: Service, host: str, action: str, arguments: Mapping[str, str | int]) -> bytes:
    """Write the call of an action. The arguments are ours: numbers, addresses and plain words."""
    text = "".join(f"<{name}>{value}</{name}>" for name, value in arguments.items())
    body = _CALL.format(action=action, service=service.type, arguments=text).encode("ascii")
    headers = {"Content-Type": 'text/xml; charset="utf-8"', "SOAPAction": f'"{service.type}#{action}"'}
    return http.request(service.control, host, headers, body)


def read_result_untrusted(data: bytes) -> Result:
    """Read what an action gave. Raises ProtocolError."""
    answer = http.read_answer_untrusted(data)
    values: dict[str, str] = {}
    for leaf in leaves_untrusted(answer.body):
        values.setdefault(leaf.name, leaf.text)
    if answer.status == _STATUS_OK:
        return Result(0, values)
    error = values.get("errorCode", "")
    return Result(int(error) if _NUMBER.fullmatch(error) and int(error) else answer.status, values)


def _base(leaves: tuple[Leaf, ...], host: str) -> http.Place | None:
    """What URLs without a host go by, if the description says so. Some routers leave another's address there."""
    text = next((leaf.text for leaf in leaves if leaf.name == "URLBase"), "")
    with suppress(MalformedError):
        return http.place_of_untrusted(text, host)
    return None
