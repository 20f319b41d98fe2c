"""`python -S -P start.py NAME ARGUMENT...`: the activator, without what `python -m` imports for itself.

A file and no `-c`: systemd 252 mangles `;` in a transient unit's command. NAME is for who looks for activators.
"""

import sys

from clanmeshd.rollout.activator import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[2:]))
