"""The userspace backend, for real: wireguard-go in network namespaces, pings over the overlay."""

import os
import shutil
from collections.abc import Callable

import pytest

from tests.net.wireguard_scenarios import SCENARIOS

_MISSING = [
    name for name in ("wireguard-go", "wg", "ip", "ping", "unshare", "nsenter") if shutil.which(name) is None
]
if not os.path.exists("/dev/net/tun"):
    _MISSING.append("/dev/net/tun")

pytestmark = pytest.mark.skipif(
    bool(_MISSING),
    reason=f"missing {', '.join(_MISSING)}: apt install wireguard-go wireguard-tools iproute2 iputils-ping",
)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_userspace(scenario: Callable[[str], None]) -> None:
    """Each scenario of the catalogue."""
    scenario("userspace")
