"""The tasks of an experiment, in the user's order, with what their environments say about themselves."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from gymnasium.spaces import Box, Discrete

from rllib_distill.errors import DistillError
from rllib_distill.tasks.minatar import minatar_action_meanings
from rllib_distill.tasks.shared_spaces import SharedSpaces, one_line, share_spaces
from rllib_distill.tasks.task_spec import TaskSpec


@dataclass(frozen=True)
class Task:
    """One task and its spaces.

    Attributes:
        spec: how its environments are made.
        observation_space: of one environment, after the wrappers.
        num_actions: how many discrete actions the task has of its own.
        action_meanings: a name for each of them where the environment has names (MinAtar, Atari), else None.
    """

    spec: TaskSpec
    observation_space: Box
    num_actions: int
    action_meanings: tuple[str, ...] | None

    @classmethod
    def from_spec(cls, spec: TaskSpec) -> "Task":
        """Makes one environment, reads its spaces, and closes it.

        Raises:
            DistillError: the environment can't be made, or its spaces are not a Box of observations and a
                Discrete set of actions that starts at 0.
        """
        env = spec.make_env()
        try:
            observation_space, action_space = env.observation_space, env.action_space
            if not isinstance(observation_space, Box):
                raise DistillError(
                    f"task {spec.name!r} has the observation space {one_line(observation_space)}; "
                    "it must be a Box: add a wrapper, e.g. wrappers: [gymnasium.wrappers.FlattenObservation]."
                )
            if not isinstance(action_space, Discrete) or action_space.start != 0:
                raise DistillError(
                    f"task {spec.name!r} has the action space {one_line(action_space)}; "
                    "it must be Discrete with start 0: add a wrapper that makes it so."
                )
            num_actions = int(action_space.n)
            return cls(spec, observation_space, num_actions, _action_meanings(env, num_actions))
        finally:
            env.close()


class TaskSet(Mapping[str, Task]):
    """Task name -> task, in the user's order. Picklable if the tasks' callables are."""

    def __init__(self, tasks: Mapping[str, Task]) -> None:
        """Keeps the tasks; `from_config` is the usual way to make a set."""
        self._tasks = dict(tasks)

    @classmethod
    def from_config(cls, config: Any) -> "TaskSet":
        """Reads `{"breakout": "MinAtar/Breakout-v1", "mine": {"env": ..., "env_config": {...}}, ...}`.

        Args:
            config: task name -> what `TaskSpec.from_config` takes. Each task's environment is made once, to
                read its spaces, and closed.

        Raises:
            DistillError: no tasks, a name that can't be used, or a task that can't be made.
        """
        if not isinstance(config, Mapping):
            raise DistillError(f"tasks is {config!r}; it must map task names to environments, {_EXAMPLE}.")
        if not config:
            raise DistillError(f"tasks is empty; give at least one, {_EXAMPLE}.")
        for name in config:
            # A name becomes an RLlib module id, a metric's key and a folder of the checkpoint.
            if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
                raise DistillError(
                    f"task name {name!r} can't be used: it must be letters, digits, '_', '-' and '.', "
                    "and begin with a letter or a digit."
                )
        specs = [TaskSpec.from_config(name, value) for name, value in config.items()]
        return cls({spec.name: Task.from_spec(spec) for spec in specs})

    def shared(self, *, own_actions: bool = False) -> SharedSpaces:
        """The observation space and action set that one student needs for all tasks.

        Args:
            own_actions: whether a common action is merely the n-th of every task's own, as for a network with
                one head per task, or what has the same name in all of them (where all have names).

        Raises:
            DistillError: two tasks have observations that one student can't take; names both, with spaces.
        """
        return share_spaces(self._tasks, own_actions=own_actions)

    def __getitem__(self, name: str) -> Task:
        return self._tasks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)


_EXAMPLE = "e.g. tasks: {breakout: MinAtar/Breakout-v1}"


def _action_meanings(env: gym.Env[Any, Any], num_actions: int) -> tuple[str, ...] | None:
    try:
        meanings = tuple(env.get_wrapper_attr("get_action_meanings")())
    except AttributeError:
        meanings = minatar_action_meanings(env.unwrapped) or ()
    # A wrapper may have changed the action set, and equal names do not tell actions apart: then no names.
    return meanings if len(set(meanings)) == num_actions == len(meanings) else None
