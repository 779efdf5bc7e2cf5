"""The program `rllib`, also installed as `rllib-distill`; Ray has had none of its own since 2.42."""

from rllib_distill.cli.app import main

__all__ = ["main"]
