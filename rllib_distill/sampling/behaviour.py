"""Who acts in training: a task's expert or the student, one of them from an episode's begin to its end."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from rllib_distill.sampling.actors import Actions, Actor, Observations


class Behaviour:
    """An actor that asks the expert in some episodes and the student in the others.

    Whose an episode is, is drawn when it begins; a share of the expert that falls with time is the beta of
    DAgger (Ross et al., 2011). Where neither has a task's row to act in, it is not asked for that task.
    """

    def __init__(
        self, student: Actor, expert: Actor, expert_share: Callable[[], float], rng: np.random.Generator
    ):
        """Makes an actor.

        Args:
            student: Acts in one part of the episodes.
            expert: Acts in the other part.
            expert_share: How large that is at the moment, in [0, 1].
            rng: Where the draws come from.
        """
        self._student = student
        self._expert = expert
        self._expert_share = expert_share
        self._rng = rng
        self._by_expert: dict[str, NDArray[np.bool_]] = {}

    def __call__(self, observations: Observations, epsilon: float, rng: np.random.Generator) -> Actions:
        """See `Actor`."""
        for task, rows in observations.items():
            if task not in self._by_expert:
                self._by_expert[task] = self._draw(len(rows))
        by_expert = self._by_expert
        experts = self._expert(
            {task: rows for task, rows in observations.items() if by_expert[task].any()}, epsilon, rng
        )
        students = self._student(
            {task: rows for task, rows in observations.items() if not by_expert[task].all()}, epsilon, rng
        )
        mixed = {
            task: np.where(by_expert[task], experts[task], students[task])
            for task in experts.keys() & students.keys()
        }
        return {**students, **experts, **mixed}

    def end_episode(self, task: str, env: int) -> bool:
        """Draws whose the next episode of an environment is; returns whether the last was the expert's."""
        by_expert = self._by_expert[task]
        was_by_expert = bool(by_expert[env])
        by_expert[env] = self._draw(1)[0]
        return was_by_expert

    def begin_anew(self) -> None:
        """Tells that all environments were reset."""
        self._by_expert.clear()

    def _draw(self, num_episodes: int) -> NDArray[np.bool_]:
        return self._rng.random(num_episodes) < self._expert_share()
