"""The kernel backend, for real: a stock Debian kernel boots in an emulator and every check runs inside of it."""

import os
import sys
from pathlib import Path

import pytest

from tests.kernel import machine
from tests.kernel.wireguard_guest import CHECKS
from tests.net.wireguard_machines import CHECKOUT

BOOT_TIMEOUT_S = 180  # 20 s on an idle machine

_MISSING = machine.missing_packages()

pytestmark = pytest.mark.skipif(
    bool(_MISSING),
    reason=f"the kernel tier needs: apt install {' '.join(_MISSING)} (wireguard-tools iproute2 too)",
)


@pytest.fixture(scope="module")
def console() -> str:
    """What the guest printed, from its boot to its end. It boots once for all tests."""
    paths = os.pathsep.join((os.fspath(CHECKOUT), os.fspath(CHECKOUT / "protocol")))
    return machine.boot(
        ["env", f"PYTHONPATH={paths}", sys.executable, "-B", "-m", "tests.kernel.wireguard_guest"],
        needs=[CHECKOUT, Path(sys.prefix), Path(sys.base_prefix)],
        timeout_s=BOOT_TIMEOUT_S,
    )


@pytest.mark.parametrize("check", CHECKS)
def test_kernel(console: str, check: str) -> None:
    """The guest says that the check passed."""
    assert f"PASSED {check} " in console, console


def test_the_guest_is_a_stock_kernel_and_ends_well(console: str) -> None:
    """It ran the kernel that was meant, and all of the program."""
    assert f"kernel {machine.kernel_release()}\n" in console, console
    assert "guest exit 0\n" in console, console
