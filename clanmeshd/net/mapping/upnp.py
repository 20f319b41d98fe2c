"""UPnP IGD with one router: find its service, then call its actions. Pure; the messages are in `soap`."""

import ipaddress
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from clanmesh_protocol.errors import MalformedError, ProtocolError
from clanmeshd.net.mapping import http, soap
from clanmeshd.net.mapping.terms import (
    LIFETIME_S,
    WHY_OFFLINE,
    Ask,
    Forward,
    Grant,
    Link,
    Refused,
    Search,
    Silent,
    Taken,
    Talk,
    exchange,
)

SEARCH_WAITS_S: Final = (2.0,)  # for each target: twice the spread of answers
DESCRIPTION: Final = "clanmesh"  # what people see in their router's list

_PERMANENT_S: Final = 0  # in place of a lease: until the router restarts, or somebody removes it
_TAKEN: Final = (718, 729)  # somebody has the port; the router itself uses it
_NO_SUCH_ENTRY: Final = 714
_PERMANENT_ONLY: Final = 725

_REFUSALS: Final = {
    501: "the router could not do it",
    606: "the router does not permit it",
    718: "the router has given the ports that we asked for to others",
    724: "the router gives no other port than our own, which somebody else has",
    728: "the router has no room for it",
    729: "the router uses the ports that we asked for",
}

T = TypeVar("T")


class Upnp:
    """UPnP with one router."""

    name = "UPnP"

    def __init__(self, link: Link) -> None:
        self.external_ip: bytes | None = None
        self._host = str(ipaddress.IPv4Address(link.gateway))
        self._own = str(ipaddress.IPv4Address(link.own))
        self._service: soap.Service | None = None
        self._lease_s = LIFETIME_S

    def add(self, forward: Forward, external_port: int) -> Talk[Grant]:
        """Map a port, or renew it. The first time the router's service is looked for before."""
        if self._service is None:
            self._service = yield from self._find()
        result = yield from self._add(self._service, forward, external_port)
        if result.error == _PERMANENT_ONLY:
            self._lease_s = _PERMANENT_S
            result = yield from self._add(self._service, forward, external_port)
        self._insist(result)
        return Grant(result.port("NewReservedPort", external_port), LIFETIME_S)

    def remove(self, forward: Forward, external_port: int) -> Talk[None]:
        """Withdraw a mapping."""
        if self._service is not None:
            try:
                yield from self._call(self._service, "DeletePortMapping", _entry(forward, external_port))
            except Silent:
                return

    def is_unchanged(self, forward: Forward, external_port: int) -> Talk[bool]:
        """Whether address and mapping are as they were."""
        if self._service is None:
            return False
        before, self.external_ip = self.external_ip, (yield from self._address(self._service))
        entry = _entry(forward, external_port)
        result = yield from self._call(self._service, "GetSpecificPortMappingEntry", entry)
        is_ours = result.error == 0 and result.values.get("NewInternalClient") == self._own
        # Some routers answer this with other errors for mappings that they have: those are renewed in time.
        return before == self.external_ip and (is_ours or result.error not in (0, _NO_SUCH_ENTRY))

    def _find(self) -> Talk[soap.Service]:
        place = yield from self._search()
        description = yield from self._ask(
            place.port,
            http.request(place, self._host),
            lambda data: soap.read_description_untrusted(data, self._host, place),
        )
        why: Refused | None = None
        for service in description:
            try:
                self.external_ip = yield from self._address(service)
            except Refused as refused:
                why = refused
                continue
            return service
        raise why or Silent

    def _search(self) -> Talk[http.Place]:
        for target in soap.SEARCH_TARGETS:
            try:
                found, _ = yield from exchange(
                    soap.search(target),
                    SEARCH_WAITS_S,
                    lambda data: soap.read_found_untrusted(data, self._host),
                    by=Search,
                )
            except Silent:
                continue
            return found
        raise Silent

    def _address(self, service: soap.Service) -> Talk[bytes]:
        result = yield from self._call(service, "GetExternalIPAddress", {})
        self._insist(result)
        try:
            return result.ipv4("NewExternalIPAddress")
        except MalformedError:  # empty while the line is down
            raise Refused(WHY_OFFLINE) from None

    def _add(self, service: soap.Service, forward: Forward, external_port: int) -> Talk[soap.Result]:
        arguments = {
            **_entry(forward, external_port),
            "NewInternalPort": forward.port,
            "NewInternalClient": self._own,
            "NewEnabled": 1,
            "NewPortMappingDescription": DESCRIPTION,
            "NewLeaseDuration": self._lease_s,
        }
        # Some routers give a port to whoever asked last: two devices would take it from each other for ever.
        if (yield from self._is_taken(service, forward, external_port)):
            result = soap.Result(_TAKEN[0], {})
        else:
            result = yield from self._call(service, "AddPortMapping", arguments)
        if result.error in _TAKEN and service.type == soap.SERVICE_TYPES[0]:
            result = yield from self._call(service, "AddAnyPortMapping", arguments)
        return result

    def _is_taken(self, service: soap.Service, forward: Forward, external_port: int) -> Talk[bool]:
        result = yield from self._call(service, "GetSpecificPortMappingEntry", _entry(forward, external_port))
        client = result.values.get("NewInternalClient", self._own)
        return result.error == 0 and client != self._own

    def _call(self, service: soap.Service, action: str, arguments: Mapping[str, str | int]) -> Talk[soap.Result]:
        request = soap.call(service, self._host, action, arguments)
        return (yield from self._ask(service.control.port, request, soap.read_result_untrusted))

    def _ask(self, port: int, request: bytes, read_untrusted: Callable[[bytes], T]) -> Talk[T]:
        heard = yield Ask(port, request)
        try:
            if heard.data is not None:
                return read_untrusted(heard.data)
        except ProtocolError:
            pass
        self._service = None  # a router that restarted may serve another port: look for it anew
        raise Silent

    def _insist(self, result: soap.Result) -> None:
        if result.error:
            why = _REFUSALS.get(result.error, f"the router answers with UPnP's error {result.error}")
            raise (Taken if result.error in _TAKEN else Refused)(why)


def _entry(forward: Forward, external_port: int) -> dict[str, str | int]:
    """The arguments that name a mapping."""
    return {"NewRemoteHost": "", "NewExternalPort": external_port, "NewProtocol": forward.transport.name}
