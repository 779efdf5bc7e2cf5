"""Actors: networks, experts, chance, or several of them by turns, all with one protocol."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from rllib_distill.experts import ExpertBank
from rllib_distill.replay.fragment import (
    BEHAVIOUR_LOG_PROBS,
    BY_EXPERT,
    EXPERT_FEATURES,
    EXPERT_OUTPUTS,
    Fragment,
)
from rllib_distill.replay.host_buffers import axes_in_memory
from rllib_distill.tasks import SharedSpaces


class Rows(Protocol):
    """What an actor sees of one task's B environments, such as `TaskEnvs`.

    Attributes:
        observations: `(B, *observation)`.
        is_first: `(B,)` bool, whether the observation begins an episode, as learners see episodes.
        is_reset: `(B,)` bool, whether the observation is the first since the environment's reset.
    """

    observations: NDArray[Any]
    is_first: NDArray[np.bool_]
    is_reset: NDArray[np.bool_]


State = Mapping[str, Tensor]
"""Task -> `(B, S)`: an actor's recurrent state of every environment; S is 0 where nothing is recurrent."""


class Acted(NamedTuple):
    """What an actor returns.

    Attributes:
        actions: Task -> `(B,)` int64, each task's own actions.
        state: The recurrent states afterwards.
        columns: Task -> name -> `(B, ...)`: what else it tells of its rows, such as log-probabilities.
    """

    actions: dict[str, NDArray[np.int64]]
    state: State
    columns: dict[str, dict[str, NDArray[Any]]]


class Actor(Protocol):
    """Chooses actions for any of the tasks it acts for."""

    def first_state(self, task: str, num_envs: int) -> Tensor:
        """The recurrent state `(num_envs, S)` of environments that were just reset."""

    def __call__(
        self, rows: Mapping[str, Rows], state: State, epsilon: float, rng: np.random.Generator
    ) -> Acted:
        """Chooses an action in every environment.

        Args:
            rows: Task -> what its environments show.
            state: The states that the last call returned; the actor forgets them where a row `is_first`.
            epsilon: Probability of a uniformly drawn legal action instead of the actor's own.
            rng: Random numbers.
        """


class Acting:
    """An actor with the states of the environments that it acts in."""

    def __init__(self, actor: Actor, rows: Mapping[str, Rows]):
        """Begins in environments that were just reset.

        Args:
            actor: The actor.
            rows: Task -> what its environments show.
        """
        self.actor = actor
        self.state = {task: actor.first_state(task, len(row.is_first)) for task, row in rows.items()}

    def __call__(self, rows: Mapping[str, Rows], epsilon: float, rng: np.random.Generator) -> Acted:
        """Acts for some of the tasks, or all; arguments as in `Actor`."""
        acted = self.actor(rows, {task: self.state[task] for task in rows}, epsilon, rng)
        self.state.update(acted.state)
        return acted


Forward = Callable[[Tensor, tuple[str, ...], Tensor, Tensor], tuple[Tensor, Tensor]]
"""Observations `(N, 1, B, *observation)`, N tasks, states `(N, B, S)` and is_first `(N, 1, B)` bool, where
the state is forgotten -> Q-values or logits `(N, B, A)` of the common actions, and the states afterwards."""


class NetworkActor(Actor):
    """Acts with one network for several tasks, in one forward.

    Without `draws` it is epsilon-greedy. With `draws` it draws actions from

        mu(a|s) = (1 - epsilon) pi(a|s) + epsilon / n_i,    a one of the n_i legal actions,

    and returns log mu(a|s) as the column `behaviour_log_probs`.
    """

    def __init__(
        self,
        forward: Forward,
        spaces: SharedSpaces,
        *,
        state_size: int = 0,
        device: torch.device | str = "cpu",
        draws: bool = False,
    ):
        """Makes an actor.

        Args:
            forward: The network.
            spaces: The common spaces of the tasks that it acts for.
            state_size: Size S of a recurrent state.
            device: The network's device.
            draws: Whether actions are drawn from the softmax of the legal values, instead of the best ones.
        """
        self._forward = forward
        self._spaces = spaces
        self._state_size = state_size
        self._device = device
        self._draws = draws
        self._layouts: dict[tuple[str, ...], _Layout] = {}

    @override
    def first_state(self, task: str, num_envs: int) -> Tensor:
        return torch.zeros(num_envs, self._state_size, device=self._device)

    @override
    def __call__(
        self, rows: Mapping[str, Rows], state: State, epsilon: float, rng: np.random.Generator
    ) -> Acted:
        tasks = tuple(rows)  # a subset while an evaluation's last tasks finish
        layout = self._layouts.get(tasks)
        if layout is None:
            layout = self._layouts[tasks] = _Layout(self._spaces, rows)
        values, state = self._values(layout, tasks, rows, state)
        if self._draws:
            common, log_probs = _draw(values, layout.uniform, epsilon, rng)
        else:
            common, log_probs = values.argmax(axis=1), None
        own: NDArray[np.int64] = layout.own_actions[layout.rows, common]
        if epsilon > 0.0 and not self._draws:
            random = (rng.random(len(own)) * layout.num_actions).astype(np.int64)
            own = np.where(rng.random(len(own)) < epsilon, random, own)
        columns: dict[str, dict[str, NDArray[Any]]] = {}
        if log_probs is not None:
            parts = log_probs.reshape(len(tasks), -1)
            columns = {task: {BEHAVIOUR_LOG_PROBS: part} for task, part in zip(tasks, parts, strict=True)}
        return Acted(dict(zip(tasks, own.reshape(len(tasks), -1), strict=True)), state, columns)

    def _values(
        self, layout: "_Layout", tasks: tuple[str, ...], rows: Mapping[str, Rows], state: State
    ) -> tuple[NDArray[Any], State]:
        """Values of the common actions `(N * B, A)`, -inf at illegal ones, and the states afterwards."""
        layout.fill(rows)
        with torch.inference_mode():
            observations = torch.from_numpy(layout.input).to(self._device)
            states = torch.stack([state[task] for task in tasks])
            is_first = torch.from_numpy(np.stack([row.is_first for row in rows.values()])).to(self._device)
            values, after = self._forward(observations, tasks, states, is_first.unsqueeze(1))
            if self._state_size:
                state = dict(zip(tasks, after.unbind(), strict=True))
            return values.flatten(0, 1).cpu().numpy() + layout.illegal, state


class _Layout:
    """The rows of one forward, N tasks of B environments each, and what each row's actions mean.

    Attributes:
        input: `(N, 1, B, *observation)`, zero where a task has fewer channels.
        illegal: `(N * B, A)` float32, 0 or -inf, to add to values.
        uniform: `(N * B, A)` probabilities of a uniformly random legal action.
        own_actions: `(N * B, A)` the task's own index of each common action.
        num_actions: `(N * B,)` how many actions the row's task has.
        rows: `(N * B,)` 0, 1, 2, ...
    """

    def __init__(self, spaces: SharedSpaces, rows: Mapping[str, Rows]):
        """Lays out rows like these."""
        like = next(iter(rows.values())).observations
        num_envs = len(like)
        self._spaces = spaces
        self.input = _zeros_like_order((len(rows), num_envs, *spaces.observation_space.shape), like)[:, None]
        legal = np.stack([spaces.legal_actions[task] for task in rows])
        own = np.stack([spaces.to_own(task, np.arange(spaces.num_actions)) for task in rows])
        self.illegal = np.where(legal, 0.0, -np.inf).astype(np.float32).repeat(num_envs, axis=0)
        self.uniform = (legal / legal.sum(axis=1, keepdims=True)).repeat(num_envs, axis=0)
        self.own_actions = own.repeat(num_envs, axis=0)
        self.num_actions = legal.sum(axis=1).repeat(num_envs)
        self.rows = np.arange(len(self.own_actions))

    def fill(self, rows: Mapping[str, Rows]) -> None:
        """Writes the tasks' observations into `input`."""
        for part, row in zip(self.input, rows.values(), strict=True):
            self._spaces.pad(row.observations, out=part[0])


def _zeros_like_order(shape: tuple[int, ...], like: NDArray[Any]) -> NDArray[Any]:
    """Zeros `(N, *like)` with the dtype of `like` and its order of axes in memory: copied fastest."""
    order = [0, *(axis + 1 for axis in axes_in_memory(like))]
    return np.zeros([shape[axis] for axis in order], like.dtype).transpose(np.argsort(order))


def _draw(
    values: NDArray[Any], uniform: NDArray[np.float64], epsilon: float, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Draws an action of each row of logits `(R, A)`, never one of probability 0, with its log-probability.

    Double precision keeps rounding errors out of importance weights.
    """
    logits = values.astype(np.float64)
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    if epsilon > 0.0:
        probabilities = (1.0 - epsilon) * probabilities + epsilon * uniform
    cumulative = probabilities.cumsum(axis=1)
    drawn = (cumulative > rng.random((len(cumulative), 1)) * cumulative[:, -1:]).argmax(axis=1)
    log_probs = np.log(probabilities[np.arange(len(drawn)), drawn]).astype(np.float32)
    return drawn, log_probs


class JointActor(Actor):
    """Acts with one actor for each group of tasks."""

    def __init__(self, actors: Mapping[tuple[str, ...], Actor]):
        """Makes an actor from task names -> who acts for them."""
        self._actors = actors
        self._actor_of = {task: actor for tasks, actor in actors.items() for task in tasks}

    @override
    def first_state(self, task: str, num_envs: int) -> Tensor:
        return self._actor_of[task].first_state(task, num_envs)

    @override
    def __call__(
        self, rows: Mapping[str, Rows], state: State, epsilon: float, rng: np.random.Generator
    ) -> Acted:
        parts = []
        for tasks, actor in self._actors.items():
            mine = {task: rows[task] for task in tasks if task in rows}
            if mine:
                parts.append(actor(mine, {task: state[task] for task in mine}, epsilon, rng))
        return _merged(parts)


class ExpertActor(Actor):
    """Acts with the tasks' experts, one forward per task, and returns their outputs as columns."""

    def __init__(self, experts: ExpertBank, columns: Collection[str] = ()):
        """Makes an actor of experts.

        Args:
            experts: The tasks' experts.
            columns: Which of `expert_outputs` and `expert_features` it returns.
        """
        self._experts = experts
        self._columns = tuple(columns)

    @override
    def first_state(self, task: str, num_envs: int) -> Tensor:
        return torch.zeros(num_envs, self._experts[task].network.state_size)

    @override
    def __call__(
        self, rows: Mapping[str, Rows], state: State, epsilon: float, rng: np.random.Generator
    ) -> Acted:
        actions, after, columns = {}, {}, {}
        for task, row in rows.items():
            label = self._experts.label(task, row.observations[None], state[task], row.is_first[None])
            actions[task] = epsilon_greedy(label.outputs[0], epsilon, rng)
            after[task] = label.state
            said = {EXPERT_OUTPUTS: label.outputs[0], EXPERT_FEATURES: label.features[0]}
            columns[task] = {name: said[name] for name in self._columns}
        return Acted(actions, after, columns)


class ExpertLabels:
    """Adds the experts' labels to fragments, in the rows in which the experts were not asked."""

    def __init__(self, experts: ExpertBank, columns: Collection[str]):
        """Takes the experts.

        Args:
            experts: The tasks' experts.
            columns: Which of `expert_outputs` and `expert_features` fragments get.
        """
        self._experts = experts
        self._columns = tuple(columns)
        self._state: dict[str, Tensor] = {}

    def complete(self, fragment: Fragment) -> None:
        """Asks the task's expert, in one forward, about all rows in which it acted in no environment.

        A recurrent expert is asked about whole fragments, unless `TakingTurns` asked it in every row.
        """
        is_recurrent = self._experts[fragment.task].network.state_size > 0
        missing: Any = slice(None)
        if (by_expert := fragment.columns.get(BY_EXPERT)) is not None:
            missing = [] if is_recurrent else np.flatnonzero(~by_expert.any(axis=1))
            if not len(missing):
                return
        state = self._state.get(fragment.task)
        observations = fragment.observations[:-1][missing]
        label = self._experts.label(fragment.task, observations, state, fragment.is_first[:-1][missing])
        self._state[fragment.task] = label.state
        said = {EXPERT_OUTPUTS: label.outputs, EXPERT_FEATURES: label.features}
        for name in self._columns:
            if name in fragment.columns:
                fragment.columns[name][missing] = said[name]
            else:
                fragment.columns[name] = said[name]


class TakingTurns(Actor):
    """Lets the expert act in some episodes, from their first step to their last, and the student in others.

    Who acts is drawn when an environment is reset; a share of the expert that falls with time is the beta of
    DAgger (Ross et al., 2011). An actor that acts in no environment of a task is not asked about this task,
    unless it is recurrent. The column `by_expert` tells who acted. The state returned is the student's, which
    learners go on from; the expert's is kept here.
    """

    def __init__(
        self, student: Actor, expert: Actor, expert_share: Callable[[], float], rng: np.random.Generator
    ):
        """Makes an actor.

        Args:
            student: The actor of the student's episodes.
            expert: The actor of the expert's episodes.
            expert_share: Returns the expert's present share of the episodes, in [0, 1].
            rng: Random numbers that decide who acts.
        """
        self._student = student
        self._expert = expert
        self._expert_share = expert_share
        self._rng = rng
        self._by_expert: dict[str, NDArray[np.bool_]] = {}
        self._expert_state: dict[str, Tensor] = {}

    @override
    def first_state(self, task: str, num_envs: int) -> Tensor:
        """The student's first state; the expert's is kept here."""
        self._by_expert[task] = np.zeros(num_envs, np.bool_)
        self._expert_state[task] = self._expert.first_state(task, num_envs)
        return self._student.first_state(task, num_envs)

    @override
    def __call__(
        self, rows: Mapping[str, Rows], state: State, epsilon: float, rng: np.random.Generator
    ) -> Acted:
        asked_student, asked_expert = {}, {}
        for task, row in rows.items():
            by_expert = self._draw(task, row.is_reset)
            if not by_expert.all() or state[task].shape[1]:
                asked_student[task] = row
            if by_expert.any() or self._expert_state[task].shape[1]:
                asked_expert[task] = row
        student = expert = Acted({}, {}, {})
        if asked_student:
            student = self._student(asked_student, state, epsilon, rng)
        if asked_expert:
            expert = self._expert(asked_expert, self._expert_state, epsilon, rng)
            self._expert_state.update(expert.state)
        actions, columns = {}, {}
        for task in rows:
            by_expert = self._by_expert[task]
            told = [acted for acted in (student, expert) if task in acted.actions]
            actions[task] = told[0].actions[task]
            if len(told) == 2:
                actions[task] = np.where(by_expert, expert.actions[task], student.actions[task])
            columns[task] = {
                name: values for acted in told for name, values in acted.columns.get(task, {}).items()
            }
            columns[task][BY_EXPERT] = by_expert.copy()
        return Acted(actions, {**state, **student.state}, columns)

    def _draw(self, task: str, is_reset: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Tells in which environments the expert acts, drawn anew where one was reset."""
        by_expert = self._by_expert[task]
        if is_reset.any():
            by_expert[is_reset] = self._rng.random(int(is_reset.sum())) < self._expert_share()
        return by_expert


class RandomActor(Actor):
    """Acts uniformly at random: the yardstick of every score."""

    def __init__(self, num_actions: Mapping[str, int]):
        """Makes an actor from task -> number of actions."""
        self._num_actions = num_actions

    @override
    def first_state(self, task: str, num_envs: int) -> Tensor:
        return torch.zeros(num_envs, 0)

    @override
    def __call__(
        self, rows: Mapping[str, Rows], state: State, epsilon: float, rng: np.random.Generator
    ) -> Acted:
        actions = {
            task: rng.integers(0, self._num_actions[task], len(row.observations))
            for task, row in rows.items()
        }
        return Acted(actions, state, {})


def epsilon_greedy(values: NDArray[Any], epsilon: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Takes the best action of each row or, with probability epsilon, a random one.

    Args:
        values: `(B, n)` over the legal actions only.
        epsilon: In [0, 1].
        rng: Random numbers.

    Returns:
        `(B,)` int64.
    """
    greedy: NDArray[np.int64] = values.argmax(axis=1)
    if epsilon <= 0.0:
        return greedy
    random = rng.integers(0, values.shape[1], len(values))
    return np.where(rng.random(len(values)) < epsilon, random, greedy)


def _merged(parts: Iterable[Acted]) -> Acted:
    state: dict[str, Tensor] = {}
    merged = Acted({}, state, {})
    for part in parts:
        merged.actions.update(part.actions)
        state.update(part.state)
        merged.columns.update(part.columns)
    return merged
