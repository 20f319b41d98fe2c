"""What holds for all tests: examples are judged by what they do, never by how busy the machine is."""

import gc
import os

from hypothesis import HealthCheck, settings

settings.register_profile("tests", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("soak", parent=settings.get_profile("tests"), max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "tests"))


def pytest_collection_finish() -> None:
    """Have the collector of cycles pass over what was imported: it costs a tenth of the time of the pure tiers."""
    gc.collect()
    gc.freeze()
