"""A daemon whose tunnels sleep after seconds in place of minutes. It is `clanmeshd` in all else."""

import sys
from unittest.mock import patch

from clanmeshd.__main__ import main
from clanmeshd.overlay import path, paths

AFTER_S = 2.0
CHECK_S = 0.5

if __name__ == "__main__":
    with patch.object(path, "SLEEP_AFTER_S", AFTER_S), patch.object(paths, "SLEEP_CHECK_S", CHECK_S):
        sys.exit(main())
