"""Finished episodes, and what evaluation hands out of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

EXPERT = "expert"
DISTILLED = "distilled"
"""Who may be evaluated beside the student: experts that learn, a distilled policy beside tasks' own."""


@dataclass(frozen=True)
class Episode:
    """A finished episode: its undiscounted return, its length in steps, the environment that played it."""

    env: int
    episode_return: float
    length: int


@dataclass(frozen=True)
class EpisodeReturns:
    """Whole episodes of one task, for evaluation: undiscounted, unclipped returns and lengths in steps."""

    task: str
    returns: tuple[float, ...]
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, task: str, episodes: Iterable[Episode], **others: Any) -> Self:
        """From the episodes themselves; `others` are what a subclass has more."""
        played = tuple(episodes)
        returns, lengths = tuple(e.episode_return for e in played), tuple(e.length for e in played)
        return cls(task, returns, lengths, **others)

    def env_steps(self) -> int:
        """Number of steps in all episodes."""
        return sum(self.lengths)

    def agent_steps(self) -> int:
        """As `env_steps`: one agent, the task, acts in each step."""
        return self.env_steps()
