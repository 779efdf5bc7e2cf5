"""Everyone who may act for an env runner, made from its config and its modules."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from ray.rllib.core.columns import Columns

from rllib_distill.env_runner.task_envs import DISTILLED, EXPERT, TaskEnvs
from rllib_distill.replay.fragment import BEHAVIOUR_LOG_PROBS, TASKS, Fragment
from rllib_distill.replay.host_buffers import axes_in_memory
from rllib_distill.tasks import SharedSpaces


@dataclass(frozen=True)
class RowLayout:
    """The rows of one forward, `N = len(tasks) * B`, and what each row's actions mean.

    Attributes:
        input: `(N, *observation)`, zero where a task has fewer channels.
        parts: Per task, the view of `input` that its observations fill.
        illegal: `(N, A)` float32, 0 or -inf, to add to values.
        uniform: `(N, A)` probabilities of a uniformly random legal action.
        own_actions: `(N, A)` the task's own index of each common action.
        num_actions: `(N,)` how many actions the row's task has.
        rows: `(N,)` 0, 1, 2, ...
    """

    input: NDArray[Any]
    parts: tuple[NDArray[Any], ...]
    illegal: NDArray[np.float32]
    uniform: NDArray[np.float64]
    own_actions: NDArray[np.int64]
    num_actions: NDArray[np.int64]
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, spaces: SharedSpaces, like: Mapping[str, NDArray[Any]], num_envs: int) -> Self:
        """The layout for observations like these, task -> `(num_envs, *observation)`."""
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
            uniform=(legal / legal.sum(axis=1, keepdims=True)).repeat(num_envs, axis=0),
            own_actions=own_actions.repeat(num_envs, axis=0),
            num_actions=legal.sum(axis=1).repeat(num_envs),
            rows=np.arange(len(buffer)),
        )

    def fill(self, observations: Mapping[str, NDArray[Any]]) -> None:
        """Writes the tasks' observations into `input`."""
        for part, observation in zip(self.parts, observations.values(), strict=True):
            part[...] = observation


def _zeros_like_order(shape: tuple[int, ...], like: NDArray[Any]) -> NDArray[Any]:
    """Zeros with the dtype of `like` and its order of axes in memory, in which it is copied fastest."""
    order = axes_in_memory(like)
    return np.zeros([shape[axis] for axis in order], like.dtype).transpose(np.argsort(order))


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


PolicyForward = Callable[
    [torch.Tensor, tuple[str, ...], torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]
]
"""Observations `(N, 1, B, *observation)`, the N tasks, states `(N, B, S)` and begins `(N, 1, B)` bool (where
the state is forgotten first) -> logits `(N, B, A)` over the common actions and the states afterwards."""


class PolicyActor(RememberingActor):
    """Acts for all its tasks in one forward: an `Actor`, and a `Behaviour` in which nobody else acts.

    It remembers each environment's recurrent state, and draws its actions from

        mu(a|s) = (1 - epsilon) pi(a|s) + epsilon / n_i,    a one of the n_i legal actions,

    whose log mu(a|s) it records. A recorded state is the one from before row 0, not yet forgotten where row 0
    begins an episode: a forward over the fragment that is told its `begins()` gives the logits again.
    """

    def __init__(
        self,
        forward: PolicyForward,
        spaces: SharedSpaces,
        num_envs: int,
        state_size: int,
        device: torch.device | str = "cpu",
        *,
        draws: bool,
    ):
        """Makes an actor.

        Args:
            forward: The policies, see `PolicyForward`.
            spaces: The common spaces of its tasks.
            num_envs: Environments per task, `B`.
            state_size: Of a recurrent state, `S`; 0 without one.
            device: Where the policies are.
            draws: Whether pi is the softmax of the legal logits, or always the best action.
        """
        self._forward = forward
        self._spaces = spaces
        self._num_envs = num_envs
        self._state_size = state_size
        self._device = device
        self._draws = draws
        self._tasks = tuple(spaces.common_actions)
        self._layouts: dict[tuple[str, ...], RowLayout] = {}
        self._begins: dict[str, NDArray[np.bool_]] = {}
        self._recorded: list[NDArray[np.float32]] | None = None
        self.begin_anew()

    def begin_anew(self) -> None:
        """Tells that all environments were reset."""
        self._states = torch.zeros(len(self._tasks), self._num_envs, self._state_size, device=self._device)

    def end_episode(self, task: str, env: int) -> bool:
        """Tells that an episode ended; returns whether an expert acted in it, which never does."""
        return False

    def see_begins(self, begins: Mapping[str, NDArray[np.bool_]]) -> None:
        """See `RememberingActor`."""
        self._begins = dict(begins)

    def __call__(self, observations: Observations, epsilon: float, rng: np.random.Generator) -> Actions:
        """See `Actor`."""
        tasks = tuple(observations)  # a subset while an evaluation's last tasks finish
        layout = self._layouts.get(tasks)
        if layout is None:
            layout = self._layouts[tasks] = RowLayout.of(self._spaces, observations, self._num_envs)
        layout.fill(observations)
        logits = self._logits(tasks, layout) + layout.illegal
        probabilities = _softmax(logits) if self._draws else _greedy(logits)
        if epsilon > 0.0:
            probabilities = (1.0 - epsilon) * probabilities + epsilon * layout.uniform
        common = _draw(probabilities, rng)
        if self._recorded is not None:
            log_probs = np.log(probabilities[layout.rows, common]).astype(np.float32)
            self._recorded.append(log_probs.reshape(len(tasks), self._num_envs))
        own = layout.own_actions[layout.rows, common].reshape(len(tasks), self._num_envs)
        return dict(zip(tasks, own, strict=True))

    def _logits(self, tasks: tuple[str, ...], layout: RowLayout) -> NDArray[np.float64]:
        """`(N * B, A)`; the tasks' states move on."""
        of_tasks = np.stack([self._begins.pop(task) for task in tasks])  # who forgets to tell is found out
        with torch.inference_mode():
            begins = torch.from_numpy(of_tasks).to(self._device).unsqueeze(1)
            rows = torch.from_numpy(layout.input).to(self._device)
            rows = rows.view(len(tasks), 1, self._num_envs, *rows.shape[1:])
            if tasks == self._tasks:
                logits, self._states = self._forward(rows, tasks, self._states, begins)
            else:
                index = torch.tensor([self._tasks.index(task) for task in tasks], device=self._device)
                logits, states = self._forward(rows, tasks, self._states[index], begins)
                self._states = self._states.index_copy(0, index, states)
            return logits.flatten(0, 1).cpu().numpy().astype(np.float64)

    def start_recording(self) -> None:
        """See `RememberingActor`."""
        self._recorded = []
        self._first_states = self._states

    def write(self, fragments: Mapping[str, Fragment]) -> None:
        """See `RememberingActor`."""
        log_probs, self._recorded = np.stack(self._recorded or []), None  # (T, N, B)
        states = self._first_states.cpu().numpy()
        for i, task in enumerate(self._tasks):
            fragment = fragments[task]
            fragment.labels = {**fragment.labels, BEHAVIOUR_LOG_PROBS: log_probs[:, i]}
            fragment.state = states[i]


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each row, `(N, A)`; in double precision, whose rounding no importance weight will show."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities


def _greedy(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """All on the best of each row, `(N, A)`."""
    probabilities = np.zeros_like(logits)
    np.put_along_axis(probabilities, logits.argmax(axis=1, keepdims=True), 1.0, axis=1)
    return probabilities


def _draw(probabilities: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """One of each row, `(N, A)` -> `(N,)`; never one whose probability is 0."""
    cumulative = probabilities.cumsum(axis=1)
    drawn: NDArray[np.int64] = (cumulative > rng.random((len(cumulative), 1)) * cumulative[:, -1:]).argmax(
        axis=1
    )
    return drawn


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


class RunnerActors:
    """Who acts, in training and in evaluation.

    Attributes:
        random: The yardstick.
        student: The modules that act for the tasks, greedily but for epsilon.
        behaviour: Expert and student in training; the latter draws its actions where the config says so.
            Experts are modules that learn where the config has such, else those from files.
        beside: Who is evaluated beside the student: under `EXPERT`, experts that learn.
    """

    def __init__(
        self,
        config: Any,
        modules: Any,
        device: torch.device | str,
        *,
        expert_outputs: Callable[[str, NDArray[Any]], NDArray[np.float32]],
        expert_share: Callable[[], float],
        rng: np.random.Generator,
    ):
        """Makes them.

        Args:
            config: The runner's.
            modules: Module id -> RLModule.
            device: Where the modules are.
            expert_outputs: What experts from files say, see `ExpertActor`.
            expert_share: Share of the training episodes that experts act at the moment; 0 in evaluation.
            rng: Where the draws of who acts an episode come from.
        """
        self._config, self._modules, self._device = config, modules, device
        students = dict.fromkeys(config.policy_mapping_fn(task, None) for task in config.task_set)
        experts = dict.fromkeys(config.expert_modules.values())
        draws = config.samples_actions and config.explore and not config.in_evaluation
        self.random = RandomActor({name: task.num_actions for name, task in config.task_set.items()})
        self.student: Actor = self._of_modules(students)
        expert: Actor = self._of_modules(experts) if experts else ExpertActor(expert_outputs)
        exploring = self._of_modules(students, draws=True) if draws else self.student
        self.behaviour = Behaviour(exploring, expert, expert_share, rng)
        self.beside: Mapping[str, Actor] = {EXPERT: expert} if experts else {}

    def _of_modules(self, module_ids: Iterable[str], *, draws: bool = False) -> JointActor:
        return JointActor(
            {
                self._config.tasks_of_module(module_id): ModuleActor(
                    module_forward(self._modules[module_id]),
                    self._config.module_spaces(module_id),
                    self._config.num_envs_per_task,
                    self._device,
                    draws=draws,
                )
                for module_id in module_ids
            }
        )


class PolicyRunnerActors:
    """Who acts where the tasks' policies are stochastic, perhaps recurrent, and have parts in common.

    They are asked all at once, so `modules` is a MultiRLModule that has, for all tasks,

        task_forward: See `PolicyForward`.
        distilled_forward: As well, where a distilled policy is evaluated.
        state_size: Of a recurrent state.

    Attributes:
        random: The yardstick.
        student: The tasks' policies, drawn from where the config's `explore` says so, in evaluation too.
        behaviour: The same.
        beside: Who is evaluated beside them: under `DISTILLED`, the distilled policy on every task.
    """

    def __init__(self, config: Any, modules: Any, device: torch.device | str, **_: Any):
        """Makes them. Arguments as of `RunnerActors`; there are no experts."""
        spaces, num_envs, draws = config.task_set.shared(), config.num_envs_per_task, bool(config.explore)

        def actor(forward: PolicyForward) -> PolicyActor:
            return PolicyActor(forward, spaces, num_envs, modules.state_size, device, draws=draws)

        self.random = RandomActor({name: task.num_actions for name, task in config.task_set.items()})
        self.student = self.behaviour = actor(modules.task_forward)
        self.beside: Mapping[str, Actor] = (
            {DISTILLED: actor(modules.distilled_forward)} if config.evaluates_distilled else {}
        )
