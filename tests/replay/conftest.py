"""The fixture of `tests.configs`, under its name."""

from tests.configs import dqn

__all__ = ["dqn"]
