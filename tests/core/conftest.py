"""What the tests of `clanctl` share: a control server that answers what it is told to."""

from collections.abc import Iterator

import pytest

from tests.core.clanctl_fake import FakeDaemon, fake_daemon


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    """A server of one test."""
    with fake_daemon() as server:
        yield server
