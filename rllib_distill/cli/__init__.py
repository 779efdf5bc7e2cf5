"""The program `rllib` (Ray dropped its own in 2.42), also installed as `rllib-distill`."""

from rllib_distill.cli.app import main

__all__ = ["main"]
