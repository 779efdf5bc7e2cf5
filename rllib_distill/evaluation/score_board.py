"""Returns of all players on all tasks, and what they come to."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from rllib_distill.env_runner.play import EpochReturns
from rllib_distill.env_runner.task_envs import EpisodeReturns
from rllib_distill.evaluation.atari_scores import human_normalised
from rllib_distill.evaluation.shares import Measure, geometric_mean, share_of_expert

RANDOM, EXPERT, STUDENT, POLICY, DISTILLED = "random", "expert", "student", "policy", "distilled"


@dataclass(frozen=True)
class ScoreBoard:
    """Scores.

    Attributes:
        episodes: Player -> task -> what it played; `random` and, beside it, `expert` and `student`, or
            `policy` and, where the tasks' policies share what they learn through one, `distilled`.
        games: Task -> which game of the table in `atari_scores` it is; no other tasks.
        epsilon: Chance of a random action that all but `random` had.
        steps: Length of the epochs they played; None if it was a number of episodes.
    """

    episodes: Mapping[str, Mapping[str, EpisodeReturns]]
    games: Mapping[str, str] = field(default_factory=dict)
    epsilon: float | None = None
    steps: int | None = None

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

    def num_episodes(self, player: str, task: str) -> int:
        """How many the mean is over."""
        return len(self.episodes[player][task].returns)

    def is_unfinished(self, player: str, task: str) -> bool:
        """Whether not one episode ended in the epoch, so that the score is of those it cut off."""
        played = self.episodes[player][task]
        return isinstance(played, EpochReturns) and not played.finished

    def human_normalised(self, player: str, task: str) -> float | None:
        """`(mean - random) / (human - random)` with the published scores, which are of whole games.

        None for a task that is no such game, and for a score of what was cut off.
        """
        if task not in self.games or self.is_unfinished(player, task):
            return None
        return human_normalised(self.games[task], self.mean(player, task))

    @property
    def measure(self) -> Measure | None:
        """How student and expert are compared, the same way on all tasks; None without a student.

        `ratio`: student / expert. That means nothing where 0 is a score like any other: if one mean is 0 or
        less, or anyone has scored less than 0 in one episode (as in Pong, however good the two are), it is
        `normalised`: (student - random) / (expert - random), where random play is what was measured.
        """
        if STUDENT not in self.episodes:
            return None
        scores = [self.mean(player, task) for player in (EXPERT, STUDENT) for task in self.tasks]
        lowest = min(min(played.returns) for of in self.episodes.values() for played in of.values())
        return "ratio" if min(scores) > 0 and lowest >= 0 else "normalised"

    def student_share(self, task: str) -> float | None:
        """By `measure`; None without a student, or where the expert is no better than random play.

        None as well where someone's score is of what was cut off: half a lost game looks like a good one.
        """
        if self.measure is None or any(self.is_unfinished(player, task) for player in self.players):
            return None
        student, expert, random = (self.mean(player, task) for player in (STUDENT, EXPERT, RANDOM))
        return share_of_expert(self.measure, student, expert, random)

    @property
    def geometric_mean(self) -> float | None:
        """Of the shares; None if one is missing or not above 0."""
        return geometric_mean(self.student_share(task) for task in self.tasks)
