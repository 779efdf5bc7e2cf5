"""Who acts: the modules being trained, or the experts. One batched forward per network and step."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from ray.rllib.core.columns import Columns

from rllib_distill.sampling.columns import TASKS
from rllib_distill.sampling.memory_habits import axes_in_memory
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
        self._layouts: dict[tuple[str, ...], _Layout] = {}

    def __call__(self, observations: Observations, epsilon: float, rng: np.random.Generator) -> Actions:
        """See `Actor`."""
        layout = self._layout(observations)
        for part, observation in zip(layout.parts, observations.values(), strict=True):
            part[...] = observation
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

    def _layout(self, observations: Observations) -> "_Layout":
        tasks = tuple(observations)  # a subset while an evaluation's last tasks finish
        if tasks not in self._layouts:
            self._layouts[tasks] = _Layout.of(self._spaces, observations, self._num_envs)
        return self._layouts[tasks]


@dataclass(frozen=True)
class _Layout:
    """The rows of one forward, `N = len(tasks) * B`, and what each row's actions mean.

    Attributes:
        input: `(N, *observation)`, zero where a task has fewer channels.
        parts: Per task, the view of `input` that its observations fill.
        illegal: `(N, A)` float32, 0 or -inf, to add to values.
        own_actions: `(N, A)` the task's own index of each common action.
        num_actions: `(N,)` how many actions the row's task has.
        rows: `(N,)` 0, 1, 2, ...
    """

    input: NDArray[Any]
    parts: tuple[NDArray[Any], ...]
    illegal: NDArray[np.float32]
    own_actions: NDArray[np.int64]
    num_actions: NDArray[np.int64]
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, spaces: SharedSpaces, like: Observations, num_envs: int) -> "_Layout":
        space, tasks = spaces.observation_space, tuple(like)
        buffer = _zeros_like_order((len(tasks) * num_envs, *space.shape), like[tasks[0]])
        own_actions = np.zeros((len(tasks), spaces.num_actions), np.int64)
        for i, task in enumerate(tasks):
            own_actions[i, spaces.common_actions[task]] = np.arange(len(spaces.common_actions[task]))
        legal = np.stack([spaces.legal_actions[task] for task in tasks])
        return cls(
            input=buffer,
            parts=tuple(
                buffer[i * num_envs : (i + 1) * num_envs, ..., : observation.shape[-1]]
                for i, observation in enumerate(like.values())
            ),
            illegal=np.where(legal, 0.0, -np.inf).astype(np.float32).repeat(num_envs, axis=0),
            own_actions=own_actions.repeat(num_envs, axis=0),
            num_actions=legal.sum(axis=1).repeat(num_envs),
            rows=np.arange(len(buffer)),
        )


def _zeros_like_order(shape: tuple[int, ...], like: NDArray[Any]) -> NDArray[Any]:
    """Zeros with the dtype of `like` and its order of axes in memory, in which it is copied fastest."""
    order = axes_in_memory(like)
    return np.zeros([shape[axis] for axis in order], like.dtype).transpose(np.argsort(order))


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
