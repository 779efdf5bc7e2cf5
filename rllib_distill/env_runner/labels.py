"""What experts say of the states of a sample, each state asked about once."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rllib_distill.losses import expert_log_likelihood
from rllib_distill.replay.fragment import EXPERT_FEATURES, EXPERT_OUTPUTS, Fragment

Row = dict[str, NDArray[np.float32]]


class Labels:
    """Writes the experts' labels into fragments; what an expert said when it acted is one already.

    Attributes:
        row: Of the fragments, which is being played.
    """

    def __init__(
        self,
        label: Callable[[str, NDArray[Any]], tuple[NDArray[np.float32], NDArray[np.float32]]],
        columns: Sequence[str],
        imitation_reward_tau: Callable[[str], float | None] = lambda task: None,
    ):
        """Makes an empty book of labels.

        Args:
            label: `(task, (N, *observation))` -> outputs `(N, n)` and features `(N, F)` of the task's expert.
            columns: Which of `expert_outputs` and `expert_features` fragments get.
            imitation_reward_tau: Task -> temperature of the expert policy whose log-likelihoods become the
                rewards; None leaves the rewards as they are.
        """
        self._label = label
        self._columns = tuple(columns)
        self._tau_of = imitation_reward_tau
        self._rows: defaultdict[str, dict[int, Row]] = defaultdict(dict)
        self.row = 0

    def begin(self) -> None:
        """Forgets what was kept of a sample that was never finished."""
        self._rows.clear()

    def outputs(self, task: str, observations: NDArray[Any]) -> NDArray[np.float32]:
        """The expert's outputs `(B, n)` at `(B, *observation)`, for it to act; kept as labels of `row`."""
        outputs, features = self._label(task, observations)
        self._rows[task][self.row] = self._wanted(outputs, features)
        return outputs

    def write(self, fragment: Fragment) -> None:
        """Labels a fragment, and where imitation is rewarded, replaces its rewards."""
        rows, tau = self._rows.pop(fragment.task, {}), self._tau_of(fragment.task)
        if not self._columns and tau is None:
            return
        missing = [t for t in range(len(fragment)) if t not in rows]
        if missing:
            observations = fragment.observations[missing if rows else slice(-1)]
            said = self._label(fragment.task, observations.reshape(-1, *observations.shape[2:]))
            parts = [values.reshape(*observations.shape[:2], -1) for values in said]
            rows |= {t: self._wanted(*(part[i] for part in parts)) for i, t in enumerate(missing)}
        labels = {name: np.stack([rows[t][name] for t in range(len(fragment))]) for name in rows[0]}
        fragment.labels = {name: labels[name] for name in self._columns}
        if tau is not None:
            fragment.rewards = _log_likelihoods(labels[EXPERT_OUTPUTS], fragment.actions, tau)

    def _wanted(self, outputs: NDArray[np.float32], features: NDArray[np.float32]) -> Row:
        """The outputs, and the features, which are many, if they are asked for."""
        has_features = EXPERT_FEATURES in self._columns
        return {EXPERT_OUTPUTS: outputs, **({EXPERT_FEATURES: features} if has_features else {})}


def _log_likelihoods(
    outputs: NDArray[np.float32], actions: NDArray[np.int64], tau: float
) -> NDArray[np.float32]:
    """The expert's log pi_E(a|s), `(T, B)`, of outputs `(T, B, n)` and actions `(T, B)`, the task's own."""
    rows = torch.from_numpy(outputs).flatten(0, 1), torch.from_numpy(actions).flatten()
    likelihoods: NDArray[np.float32] = expert_log_likelihood(*rows, tau=tau).numpy()
    return likelihoods.reshape(actions.shape)
