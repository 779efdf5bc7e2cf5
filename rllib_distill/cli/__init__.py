"""The program `rllib` (Ray dropped its own in 2.42), also installed as `rllib-distill`."""

import sys


def main() -> None:
    """Runs the program and exits: 0 done, 1 training failed, 2 a mistake in what was given, 130 interrupted."""
    from rllib_distill.cli.app import run

    sys.exit(run(sys.argv[1:]))
