"""Tasks: named environments with their spaces, and sets of tasks."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, TypeAlias, cast

import gymnasium as gym
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers import TimeLimit

from rllib_distill.errors import DistillError, check_number, nearest
from rllib_distill.tasks.atari import AtariEnv
from rllib_distill.tasks.minatar import minatar_action_meanings
from rllib_distill.tasks.minigrid import ID_PREFIXES as MINIGRID_PREFIXES
from rllib_distill.tasks.minigrid import OneHotMiniGrid
from rllib_distill.tasks.spaces import SharedSpaces, one_line, share_spaces
from rllib_distill.tasks.vector_envs import (
    atari_options,
    check_gridworld_options,
    find_env_spec,
    is_atari,
    make_own_vector_env,
)

Env: TypeAlias = gym.Env[Any, Any]
Wrapper: TypeAlias = str | Callable[[Env], Env]

_DEFAULTS: dict[str, Any] = {"env": None, "env_config": {}, "wrappers": (), "max_episode_steps": None}


@dataclass(frozen=True)
class TaskSpec:
    """How the environments of a task are made; it can be pickled if its callables can.

    Attributes:
        name: The task's name, which is also its RLlib agent id.
        env: A gymnasium id, a class, or a callable that returns an environment.
        env_config: Keyword arguments for `gym.make`, the class or the callable; for an Atari id, options of
            `AtariVectorEnv`.
        wrappers: Dotted names or callables, each called with the environment, in this order.
        max_episode_steps: Episodes are truncated after this many steps; None leaves it to the environment.
    """

    name: str
    env: str | Callable[..., Env]
    env_config: Mapping[str, Any] = field(default_factory=dict)
    wrappers: tuple[Wrapper, ...] = ()
    max_episode_steps: int | None = None

    @classmethod
    def from_config(cls, name: str, value: Any) -> "TaskSpec":
        """Reads and checks a user's description of one task.

        Args:
            name: The task's name.
            value: An id, a class, a callable, or a mapping with the key `env` and optionally `env_config`,
                `wrappers` and `max_episode_steps`.

        Raises:
            DistillError: A key is unknown, a value has the wrong type, or a wrapper cannot be imported.
        """
        given = value if isinstance(value, Mapping) else {"env": value}
        for key in given:
            if key not in _DEFAULTS:
                raise DistillError(f"task {name!r}: unknown key {key!r}. {nearest(str(key), _DEFAULTS)}")
        if "env" not in given:
            raise DistillError(f"task {name!r} has no environment: add the key 'env', e.g. env: CartPole-v1.")
        config = {**_DEFAULTS, **given}
        _check_types(name, config)
        for wrapper in config["wrappers"]:
            _import_wrapper(name, wrapper)
        config |= {"env_config": dict(config["env_config"]), "wrappers": tuple(config["wrappers"])}
        return cls(name, **config)

    def make_env(self) -> Env:
        """Makes one environment.

        Raises:
            DistillError: The id is unknown, its package is missing, or `env_config` does not fit.
        """
        env = self._make_bare_env()
        for wrapper in self.wrappers:
            env = _import_wrapper(self.name, wrapper)(env)
        return env

    def make_vector_env(self, num_envs: int, num_threads: int = 1) -> VectorEnv[Any, Any, Any]:
        """Makes a vector env of `num_envs` environments.

        Its `metadata["autoreset_mode"]` is SAME_STEP for ids with a special vector env (MinAtar, ALE, this
        package's gridworlds; only without wrappers) and NEXT_STEP for others. The next step may overwrite the
        observations that the last step returned.

        Args:
            num_envs: Number of environments.
            num_threads: Number of threads that step them, for environments with own threads (ALE).

        Raises:
            DistillError: As in `make_env`.
        """
        with self._naming_the_task():
            if isinstance(self.env, str) and not self.wrappers:  # they are for single environments
                own = make_own_vector_env(
                    self.env, self.env_config, self.max_episode_steps, num_envs, num_threads
                )
                if own is not None:
                    return own
        return SyncVectorEnv([self.make_env] * num_envs, copy=False, autoreset_mode=AutoresetMode.NEXT_STEP)

    @property
    def is_atari(self) -> bool:
        """Whether the environment is an ALE game, whose `env_config` has the options of `AtariVectorEnv`."""
        return is_atari(self.env)

    def _make_bare_env(self) -> Env:
        with self._naming_the_task():
            if isinstance(self.env, str):
                return self._make_from_id(self.env)
            env = self.env(**self.env_config)
        if not isinstance(env, gym.Env):
            raise DistillError(f"task {self.name!r}: env made {env!r}; it must make a gymnasium.Env.")
        return env if self.max_episode_steps is None else TimeLimit(env, self.max_episode_steps)

    def _make_from_id(self, env_id: str) -> Env:
        # gym.make gets the spec since, for an id, it would warn that MinAtar's -v0 is outdated. It is not: it
        # has another action set.
        spec = find_env_spec(env_id)
        if self.is_atari:
            return AtariEnv(**atari_options(env_id, self.env_config, self.max_episode_steps))
        check_gridworld_options(spec.id, self.env_config)
        env: Env = gym.make(spec, max_episode_steps=self.max_episode_steps, **self.env_config)
        return OneHotMiniGrid(env) if spec.id.startswith(MINIGRID_PREFIXES) and not self.wrappers else env

    @contextmanager
    def _naming_the_task(self) -> Iterator[None]:
        """Turns errors in this context into a one-line DistillError with the task's name and `env_config`."""
        try:
            yield
        except (TypeError, gym.error.Error, DistillError) as error:
            given = f" with env_config {self.env_config}" if self.env_config else ""
            why = " ".join(str(error).split())
            raise DistillError(f"task {self.name!r}{given}: {why}") from error


def _check_types(task: str, config: Mapping[str, Any]) -> None:
    env, env_config, wrappers, steps = (config[key] for key in _DEFAULTS)
    checks = {
        "env": (isinstance(env, str) or callable(env), "a gymnasium id (a string), a class or a callable"),
        "env_config": (
            isinstance(env_config, Mapping) and all(isinstance(key, str) for key in env_config),
            "a mapping of argument names to values",
        ),
        "wrappers": (
            isinstance(wrappers, Sequence) and not isinstance(wrappers, str),
            "a list of dotted names or callables",
        ),
    }
    for key, (is_right, allowed) in checks.items():
        if not is_right:
            raise DistillError(f"task {task!r}: {key} is {config[key]!r}; it must be {allowed}.")
    if steps is not None:
        check_number(f"task {task!r}: max_episode_steps", steps, least=1, integer=True)
    if isinstance(env, str) and "max_episode_steps" in env_config:  # gym.make has an argument of this name
        given = env_config["max_episode_steps"]
        raise DistillError(
            f"task {task!r}: env_config has max_episode_steps ({given!r}); it is a key of the task: write it "
            "beside env_config."
        )


def _import_wrapper(task: str, wrapper: Any) -> Callable[[Env], Env]:
    if isinstance(wrapper, str):
        module, _, attribute = wrapper.rpartition(".")
        try:
            wrapper = getattr(import_module(module), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            raise DistillError(
                f"task {task!r}: cannot import wrapper {wrapper!r} ({error}); "
                "give its full dotted name, e.g. gymnasium.wrappers.FlattenObservation."
            ) from error
    if not callable(wrapper):
        raise DistillError(f"task {task!r}: wrapper {wrapper!r} is not callable; it takes the environment.")
    return cast(Callable[[Env], Env], wrapper)


@dataclass(frozen=True)
class Task:
    """One task and its spaces.

    Attributes:
        spec: How its environments are made.
        observation_space: The observation space of one environment, after the wrappers.
        num_actions: The number of the task's own discrete actions.
        action_meanings: A name for each action if the environment has names (MinAtar, Atari), else None.
    """

    spec: TaskSpec
    observation_space: Box
    num_actions: int
    action_meanings: tuple[str, ...] | None

    @classmethod
    def from_spec(cls, spec: TaskSpec) -> "Task":
        """Makes one environment, reads its spaces, and closes it.

        Raises:
            DistillError: The environment cannot be made, its observation space is not a Box, or its action
                space is not Discrete with start 0.
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
    """Task name -> task, in the user's order; it can be pickled if the tasks' callables can."""

    def __init__(self, tasks: Mapping[str, Task]) -> None:
        """Keeps the tasks; `from_config` is the usual way to make a set."""
        self._tasks = dict(tasks)

    @classmethod
    def from_config(cls, config: Any) -> "TaskSet":
        """Reads `{"breakout": "MinAtar/Breakout-v1", "mine": {"env": ..., "env_config": {...}}, ...}`.

        Args:
            config: Task name -> value, as in `TaskSpec.from_config`. One environment of each task is made, to
                read its spaces, and closed.

        Raises:
            DistillError: There are no tasks, a name is not allowed, or a task cannot be made.
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
        """Returns the observation space and the action set of a student of all tasks.

        Args:
            own_actions: Whether to match the tasks' own actions by index, as for a network with one head per
                task. Otherwise they are matched by name, if all tasks have names for them.

        Raises:
            DistillError: The observations of two tasks differ in more than the size of their last axis.
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
    # No names if a wrapper has changed the number of actions, or if two actions have the same name.
    return meanings if len(set(meanings)) == num_actions == len(meanings) else None
