"""Who can play for scores; a player is small, travels to where the game is, and loads what it needs there."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from rllib_distill.env_runner.actors import Actor, ExpertActor, RandomActor
from rllib_distill.evaluation.trained_policies import TrainedPolicies, Who
from rllib_distill.experts import ExpertBank
from rllib_distill.tasks import TaskSet


class Player(Protocol):
    """Makes an actor for some of the tasks."""

    def actor(self, tasks: TaskSet, num_envs: int) -> Actor:
        """An actor for `tasks`, with `num_envs` environments of each."""


@dataclass(frozen=True)
class RandomPlayer:
    """Uniformly random actions."""

    def actor(self, tasks: TaskSet, num_envs: int) -> Actor:
        """See `Player`."""
        return RandomActor({name: task.num_actions for name, task in tasks.items()})


@dataclass(frozen=True)
class ExpertPlayer:
    """Each task's expert.

    Attributes:
        paths: Task -> file.
    """

    paths: Mapping[str, str]

    def actor(self, tasks: TaskSet, num_envs: int) -> Actor:
        """See `Player`."""
        experts = ExpertBank.load({task: self.paths[task] for task in tasks}, tasks)
        return ExpertActor(lambda task, observations: experts.label(task, observations)[0])


@dataclass(frozen=True)
class PolicyPlayer:
    """The policies of a checkpoint, or others that learned beside them.

    Attributes:
        checkpoint: Its folder.
        who: Which of them.
    """

    checkpoint: str
    who: Who = "policies"

    def actor(self, tasks: TaskSet, num_envs: int) -> Actor:
        """See `Player`."""
        return TrainedPolicies(self.checkpoint).actor(tasks, num_envs, self.who)
