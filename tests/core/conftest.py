"""Settings that all tests of the core share."""

from hypothesis import HealthCheck, settings

# Two slow machines run these side by side: a deadline per example would measure the neighbours.
settings.register_profile("core", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("core")
