"""How long to wait before what failed for the world's sake (a full disk, nobody to fetch from) is tried again."""

import math
import random
from typing import Final

BACKOFF_FIRST_S: Final = 0.5
BACKOFF_MAX_S: Final = 60.0
BACKOFF_DOUBLINGS_MAX: Final = 10  # by then the longest is reached
BACKOFF_JITTER: Final = 0.25  # devices that failed together do not come back together


def pause_s(attempts: int) -> float:
    """How long to wait after some failures in a row; for ever after none."""
    if attempts == 0:
        return math.inf
    pause: float = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(attempts - 1, BACKOFF_DOUBLINGS_MAX))
    return pause * (1 + BACKOFF_JITTER * random.random())
