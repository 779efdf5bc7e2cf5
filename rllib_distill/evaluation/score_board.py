"""Returns of all players on all tasks, and what they come to."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rllib_distill.sampling import EpisodeReturns

RANDOM, EXPERT, STUDENT, POLICY = "random", "expert", "student", "policy"


@dataclass(frozen=True)
class ScoreBoard:
    """Scores.

    Attributes:
        episodes: Player -> task -> what it played; `random` and, beside it, either `policy` or
            `expert` and `student`.
    """

    episodes: Mapping[str, Mapping[str, EpisodeReturns]]

    @property
    def players(self) -> tuple[str, ...]:
        """In the order of columns."""
        return tuple(self.episodes)

    @property
    def tasks(self) -> tuple[str, ...]:
        """In the user's order."""
        return tuple(next(iter(self.episodes.values())))

    def mean(self, player: str, task: str) -> float:
        """Mean return per episode."""
        return float(np.mean(self.episodes[player][task].returns))

    def std(self, player: str, task: str) -> float:
        """Standard deviation of an episode's return."""
        return float(np.std(self.episodes[player][task].returns))

    @property
    def measure(self) -> Literal["ratio", "normalised"] | None:
        """How student and expert are compared, the same way on all tasks; None without a student.

        `ratio`: student / expert. That means nothing where a score is 0 or less; if there is one such score
        it is `normalised`: (student - random) / (expert - random).
        """
        if STUDENT not in self.episodes:
            return None
        scores = [self.mean(player, task) for player in (EXPERT, STUDENT) for task in self.tasks]
        return "ratio" if min(scores) > 0 else "normalised"

    def student_share(self, task: str) -> float | None:
        """By `measure`; None without a student, or where the expert is no better than random play."""
        if self.measure is None:
            return None
        student, expert = self.mean(STUDENT, task), self.mean(EXPERT, task)
        if self.measure == "ratio":
            return student / expert
        random = self.mean(RANDOM, task)
        return (student - random) / (expert - random) if expert > random else None

    @property
    def geometric_mean(self) -> float | None:
        """Of the shares; None if one is missing or not above 0."""
        shares = [self.student_share(task) for task in self.tasks]
        if any(share is None or share <= 0 for share in shares):
            return None
        return math.exp(sum(math.log(share) for share in shares if share) / len(shares))
