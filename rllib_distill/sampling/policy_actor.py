"""Acts with stochastic policies, which may be recurrent, and knows how probable its actions were."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from rllib_distill.sampling.actors import Actions, Observations, RememberingActor
from rllib_distill.sampling.columns import BEHAVIOUR_LOG_PROBS
from rllib_distill.sampling.fragment import Fragment
from rllib_distill.sampling.row_layout import RowLayout
from rllib_distill.tasks import SharedSpaces

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
