"""The program `rllib` (Ray dropped its own in 2.42), also installed as `rllib-distill`."""

import os
import sys


def main() -> None:
    """Runs the program and exits: 0 done, 1 a trial failed, 2 a mistake in the input, 130 interrupted."""
    from rllib_distill.cli.app import run

    sys.path.insert(0, os.getcwd())  # the user's own environments and wrappers, as with `python -m`
    sys.exit(run(sys.argv[1:]))
