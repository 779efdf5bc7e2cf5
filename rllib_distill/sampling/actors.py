"""Who acts: the modules being trained, or the experts. One batched forward per network and step."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from ray.rllib.core.columns import Columns

from rllib_distill.sampling.columns import TASKS
from rllib_distill.sampling.fragment import Fragment
from rllib_distill.sampling.row_layout import RowLayout
from rllib_distill.sampling.task_envs import TaskEnvs
from rllib_distill.tasks import SharedSpaces

Observations = Mapping[str, NDArray[Any]]
Actions = dict[str, NDArray[np.int64]]
Forward = Callable[[torch.Tensor, tuple[str, ...]], torch.Tensor]
"""`(N, *observation)` and the tasks that the rows are equal chunks of -> `(N, A)`."""


class Actor(Protocol):
    """Chooses actions for any of the tasks it acts for."""

    def __call__(self, observations: Observations, epsilon: float, rng: np.random.Generator) -> Actions:
        """Epsilon-greedy actions.

        Args:
            observations: Task -> `(B, *observation)`.
            epsilon: Probability of a uniformly drawn legal action instead of the greedy one.
            rng: Where that chance comes from.

        Returns:
            Task -> `(B,)` int64, each task's own actions.
        """


class RememberingActor(ABC):
    """What an actor that remembers, within episodes or of how it drew its actions, has beside `Actor`."""

    @abstractmethod
    def see_begins(self, begins: Mapping[str, NDArray[np.bool_]]) -> None:
        """Is told before each call: task -> `(B,)`, which of its observations are the first of an episode."""

    @abstractmethod
    def start_recording(self) -> None:
        """Keeps, from the next call on, what `write` will write."""

    @abstractmethod
    def write(self, fragments: Mapping[str, Fragment]) -> None:
        """Ends the recording: adds it to each task's fragment, which has a row per call."""


def ask(actor: Actor, envs: Mapping[str, TaskEnvs], epsilon: float, rng: np.random.Generator) -> Actions:
    """The actions for the next step of some tasks' environments. Arguments as of `Actor`."""
    if isinstance(actor, RememberingActor):
        actor.see_begins({task: task_envs.begins for task, task_envs in envs.items()})
    return actor({task: task_envs.observations for task, task_envs in envs.items()}, epsilon, rng)


def module_forward(module: Any) -> Forward:
    """What an RLModule says when it acts: Q-values or logits over the common action set."""

    def outputs(observations: torch.Tensor, tasks: tuple[str, ...]) -> torch.Tensor:
        batch = {Columns.OBS: observations, TASKS: tasks}
        result: torch.Tensor = module.forward_inference(batch)[Columns.ACTION_DIST_INPUTS]
        return result

    return outputs


class ModuleActor:
    """Acts with one module for all the tasks that are mapped to it, in one forward."""

    def __init__(
        self,
        forward: Forward,
        spaces: SharedSpaces,
        num_envs: int,
        device: torch.device | str = "cpu",
        *,
        draws: bool = False,
    ):
        """Makes an actor.

        Args:
            forward: Gives the rows' Q-values or logits over the common action set, see `module_forward`.
            spaces: The common spaces of the tasks that this module acts for.
            num_envs: Environments per task, `B`.
            device: Where the module is.
            draws: Whether actions are drawn from the softmax of the legal values, instead of the best ones.
        """
        self._forward = forward
        self._spaces = spaces
        self._num_envs = num_envs
        self._device = device
        self._draws = draws
        self._layouts: dict[tuple[str, ...], RowLayout] = {}

    def __call__(self, observations: Observations, epsilon: float, rng: np.random.Generator) -> Actions:
        """See `Actor`."""
        layout = self._layout(observations)
        layout.fill(observations)
        with torch.inference_mode():
            rows = torch.from_numpy(layout.input).to(self._device)
            values = self._forward(rows, tuple(observations)).cpu().numpy()
        values = values + layout.illegal
        if self._draws:  # the largest of values with Gumbel noise is a draw from their softmax
            values = values + rng.gumbel(size=values.shape)
        common = values.argmax(axis=1)
        own: NDArray[np.int64] = layout.own_actions[layout.rows, common]
        if epsilon > 0.0:
            random = (rng.random(len(own)) * layout.num_actions).astype(np.int64)
            own = np.where(rng.random(len(own)) < epsilon, random, own)
        return dict(zip(observations, own.reshape(-1, self._num_envs), strict=True))

    def _layout(self, observations: Observations) -> RowLayout:
        tasks = tuple(observations)  # a subset while an evaluation's last tasks finish
        if tasks not in self._layouts:
            self._layouts[tasks] = RowLayout.of(self._spaces, observations, self._num_envs)
        return self._layouts[tasks]


class JointActor:
    """Acts with the actor of each group of tasks."""

    def __init__(self, actors: Mapping[tuple[str, ...], Actor]):
        """Makes an actor from task names -> who acts for them."""
        self._actors = actors

    def __call__(self, observations: Observations, epsilon: float, rng: np.random.Generator) -> Actions:
        """See `Actor`."""
        actions: Actions = {}
        for tasks, actor in self._actors.items():
            mine = {task: observations[task] for task in tasks if task in observations}
            if mine:
                actions |= actor(mine, epsilon, rng)
        return actions


class ExpertActor:
    """Acts with the tasks' experts, one forward per task."""

    def __init__(self, expert_outputs: Callable[[str, NDArray[Any]], NDArray[np.float32]]):
        """Makes an actor of experts.

        Args:
            expert_outputs: `(task, (B, *observation))` -> `(B, n)` Q-values or logits of the task's actions.
        """
        self._expert_outputs = expert_outputs

    def __call__(self, observations: Observations, epsilon: float, rng: np.random.Generator) -> Actions:
        """See `Actor`."""
        return {
            task: epsilon_greedy(self._expert_outputs(task, observation), epsilon, rng)
            for task, observation in observations.items()
        }


class RandomActor:
    """Acts uniformly at random: the yardstick of every score."""

    def __init__(self, num_actions: Mapping[str, int]):
        """Makes an actor from task -> number of actions."""
        self._num_actions = num_actions

    def __call__(self, observations: Observations, epsilon: float, rng: np.random.Generator) -> Actions:
        """See `Actor`; epsilon makes no difference."""
        return {
            task: rng.integers(0, self._num_actions[task], len(observation))
            for task, observation in observations.items()
        }


def epsilon_greedy(values: NDArray[Any], epsilon: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """The best action of each row, or with probability epsilon any.

    Args:
        values: `(B, n)` over the legal actions only.
        epsilon: In [0, 1].
        rng: Where the chance comes from.

    Returns:
        `(B,)` int64.
    """
    greedy: NDArray[np.int64] = values.argmax(axis=1)
    if epsilon <= 0.0:
        return greedy
    random = rng.integers(0, values.shape[1], len(values))
    return np.where(rng.random(len(values)) < epsilon, random, greedy)
