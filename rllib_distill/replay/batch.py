"""Batches for learners, and the queue of samples from which each learns once."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rllib_distill.replay.fragment import EXPERT_FEATURES, EXPERT_OUTPUTS, STEP_COLUMNS, Fragment
from rllib_distill.tasks import SharedSpaces


@dataclass(frozen=True)
class FinalObservations:
    """The last observations of truncated episodes, where the next row has another episode's already.

    Attributes:
        observations: `(N, K, *observation)`; K is the number in the task that has the most.
        rows: `(N, K)` int64, `t * B + b` of the row whose next observation it is.
        valid: `(N, K)` bool, false where a task has fewer.
    """

    observations: Tensor
    rows: Tensor
    valid: Tensor


@dataclass(frozen=True)
class Batch:
    """T consecutive steps of B environments of each of N tasks; single rows are sequences with T = 1.

    What is known of every row is a column, `(N, T, B, ...)`; columns that nobody asked for are missing.

    Attributes:
        tasks: The N names.
        observations: `(N, T, B, *observation)`, padded to the common space, in the tasks' dtype; of sequences
            `(N, T + 1, B, *observation)`, with what follows the last row.
        columns: `actions` (int64, common ones), `rewards`, `terminations`, `truncations`, `valid` (false
            where a row merely reset an environment), and labels: `expert_outputs` `(N, T, B, A)`, 0 at
            illegal actions, `expert_features`, a list of `(T, B, F_i)` per task, since their sizes differ,
            and `behaviour_log_probs`. Rows may have `next_observations` and `discounts` (of n-step returns).
        legal_actions: `(N, 1, 1, A)` bool, or None if all are legal.
        state: `(N, B, S)` float32, a policy's recurrent state before row 0; S = 0 if nothing is recurrent.
        is_first: `(N, T', B)` bool, for as many rows as there are observations: whether the row begins an
            episode, before which a recurrent state is forgotten. None where rows are drawn.
        burn_in: Number of rows at the beginning that only warm up a recurrent state.
        final: The last observations of truncated episodes; None if there are none.
    """

    tasks: tuple[str, ...]
    observations: Tensor
    columns: Mapping[str, Any]
    legal_actions: Tensor | None = None
    state: Tensor | None = None
    is_first: Tensor | None = None
    burn_in: int = 0
    final: FinalObservations | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """N, T, B."""
        first = next(iter(self.columns.values()), self.observations)  # rows may have no columns
        shape = (len(first), *first[0].shape[:2]) if isinstance(first, list) else first.shape[:3]
        return (int(shape[0]), int(shape[1]), int(shape[2]))

    @property
    def num_rows(self) -> int:
        """N T B, autoreset rows included."""
        return int(np.prod(self.shape))

    @property
    def counts(self) -> Tensor | None:
        """`(N, T, B)` bool, the rows that a loss counts: transitions after the burn-in; None for all."""
        valid: Tensor | None = self.columns.get("valid")
        if valid is None or not self.burn_in:
            return valid
        return valid & (torch.arange(valid.shape[1], device=valid.device) >= self.burn_in).view(1, -1, 1)

    @property
    def continues(self) -> Tensor:
        """`(N, T, B)` bool: the next row is the next step of the same episode; the last row's is unknown.

        An invalid row after a step that did not end an episode is a gap between fragments.
        """
        columns = self.columns
        valid = columns["valid"]
        goes_on: Tensor = ~(columns["terminations"] | columns["truncations"]) & valid
        goes_on[:, :-1] &= valid[:, 1:]
        return goes_on

    def legal_of(self, outputs: Tensor) -> Tensor | None:
        """The legal actions `(N, T, B, A)` of each row of outputs of this shape, or None."""
        return None if self.legal_actions is None else self.legal_actions.expand_as(outputs)

    def mean(self, values: Tensor) -> Tensor:
        """Each task's mean `(N,)` of `(N, T, B)` values over the rows that count; 0 where there are none."""
        counts = self.counts
        if counts is None:
            return values.flatten(1).mean(1)
        # Chosen, not multiplied: rows that do not count may hold anything, and 0 * nan is nan.
        total = torch.where(counts, values, 0.0).flatten(1).sum(1)
        return total / counts.flatten(1).sum(1).clamp(min=1)

    def per_row(self, of_tasks: Sequence[float]) -> Tensor | float:
        """Spreads a value per task over its rows, `(N, T, B)`; a number if all tasks have the same."""
        if len(set(of_tasks)) == 1:
            return of_tasks[0]
        values = torch.tensor(of_tasks).to(self.observations.device, non_blocking=True)
        return values.view(-1, 1, 1).expand(self.shape)

    def of_tasks(self, tasks: Sequence[str]) -> "Batch":
        """The batch of some of the tasks, in the order given."""
        if tuple(tasks) == self.tasks:
            return self
        index = [self.tasks.index(task) for task in tasks]

        def part(values: Any) -> Any:
            if values is None:
                return None
            return [values[i] for i in index] if isinstance(values, list) else values[index]

        final = None
        if self.final is not None:
            final = FinalObservations(
                part(self.final.observations), part(self.final.rows), part(self.final.valid)
            )
        return Batch(
            tasks=tuple(tasks),
            observations=part(self.observations),
            columns={name: part(values) for name, values in self.columns.items()},
            legal_actions=part(self.legal_actions),
            state=part(self.state),
            is_first=part(self.is_first),
            burn_in=self.burn_in,
            final=final,
        )

    @classmethod
    def of_fragments(
        cls, fragments: Sequence[Fragment], spaces: SharedSpaces, device: torch.device | str = "cpu"
    ) -> Self:
        """Makes a batch of a sample's fragments, which are of equal length.

        Args:
            fragments: One per task, in the order of the batch's tasks.
            spaces: The tasks' common spaces.
            device: Device of the tensors.
        """
        tasks = tuple(fragment.task for fragment in fragments)

        def stack(arrays: Sequence[NDArray[Any]]) -> Tensor:
            return torch.from_numpy(np.stack(arrays)).to(device)

        columns: dict[str, Any] = {
            name: stack([getattr(fragment, name) for fragment in fragments]) for name in STEP_COLUMNS
        }
        columns["actions"] = stack([spaces.to_common(f.task, f.actions) for f in fragments])
        for name in fragments[0].columns:
            of_tasks = [fragment.columns[name] for fragment in fragments]
            if name == EXPERT_OUTPUTS:
                of_tasks = [
                    spaces.scatter(task, values) for task, values in zip(tasks, of_tasks, strict=True)
                ]
            is_ragged = len({values.shape for values in of_tasks}) > 1 or name == EXPERT_FEATURES
            columns[name] = [stack([values])[0] for values in of_tasks] if is_ragged else stack(of_tasks)
        legal = spaces.legal_of(tasks)
        return cls(
            tasks=tasks,
            observations=stack([spaces.pad(fragment.observations) for fragment in fragments]),
            columns=columns,
            legal_actions=None if legal is None else torch.from_numpy(legal).to(device)[:, None, None],
            state=stack([fragment.state for fragment in fragments]),
            is_first=stack([fragment.is_first for fragment in fragments]),
            final=final_observations(
                [fragment.final_observations for fragment in fragments],
                fragments[0].num_envs,
                spaces,
                device,
            ),
        )

    @classmethod
    def joined(cls, samples: Sequence["Batch"]) -> "Batch":
        """Joins samples of equal length into one batch of all their environments.

        Args:
            samples: At least one, all of the same tasks in the same order and with the same columns.
        """
        if len(samples) == 1:
            return samples[0]
        first = samples[0]

        def join(parts: Sequence[Any], dim: int) -> Any:
            if isinstance(parts[0], list):
                return [torch.cat(of_task, dim - 1) for of_task in zip(*parts, strict=True)]
            return None if parts[0] is None else torch.cat(list(parts), dim)

        return cls(
            tasks=first.tasks,
            observations=join([sample.observations for sample in samples], 2),
            columns={name: join([sample.columns[name] for sample in samples], 2) for name in first.columns},
            legal_actions=first.legal_actions,
            state=join([sample.state for sample in samples], 1),
            is_first=join([sample.is_first for sample in samples], 2),
            final=_joined_final(samples),
        )


def _joined_final(samples: Sequence[Batch]) -> FinalObservations | None:
    num_envs = [sample.shape[2] for sample in samples]
    first_env = np.cumsum([0, *num_envs[:-1]]).tolist()
    parts = []
    for sample, envs, first in zip(samples, num_envs, first_env, strict=True):
        if sample.final is not None:
            t, b = sample.final.rows // envs, sample.final.rows % envs
            parts.append((sample.final.observations, t * sum(num_envs) + first + b, sample.final.valid))
    if not parts:
        return None
    return FinalObservations(*(torch.cat(of_samples, 1) for of_samples in zip(*parts, strict=True)))


def final_observations(
    of_tasks: Sequence[Mapping[tuple[int, int], NDArray[Any]]],
    num_envs: int,
    spaces: SharedSpaces,
    device: torch.device | str,
) -> FinalObservations | None:
    """Puts tasks' final observations, `(t, b) -> observation`, side by side; None where there are none."""
    most = max(map(len, of_tasks))
    if not most:
        return None
    like = next(observation for finals in of_tasks for observation in finals.values())
    observations = np.zeros((len(of_tasks), most, *spaces.observation_space.shape), like.dtype)
    rows = np.zeros((len(of_tasks), most), np.int64)
    is_valid = np.zeros((len(of_tasks), most), np.bool_)
    for i, finals in enumerate(of_tasks):
        for k, ((t, b), observation) in enumerate(finals.items()):
            spaces.pad(observation, out=observations[i, k])
            rows[i, k] = t * num_envs + b
            is_valid[i, k] = True
    return FinalObservations(
        *(torch.from_numpy(array).to(device) for array in (observations, rows, is_valid))
    )


class FragmentQueue:
    """Samples since the last gradient step, each a fragment of every task from one env runner."""

    def __init__(self, tasks: Iterable[str], spaces: SharedSpaces, device: torch.device | str = "cpu"):
        """Makes an empty queue.

        Args:
            tasks: Names of the tasks, in the order of batches.
            spaces: The tasks' common spaces.
            device: Device of batches' tensors.
        """
        self._tasks = tuple(tasks)
        self._spaces = spaces
        self._device = device
        self._begun: dict[str, Fragment] = {}
        self._samples: deque[dict[str, Fragment]] = deque()

    def __len__(self) -> int:
        """Number of whole samples that wait."""
        return len(self._samples)

    def add(self, fragment: Fragment) -> None:
        """Adds a fragment; all of a sample must come before the next sample's."""
        self._begun[fragment.task] = fragment
        if len(self._begun) == len(self._tasks):
            self._samples.append(self._begun)
            self._begun = {}

    def pop_all(self) -> Batch | None:
        """Takes out all whole samples as one batch; None if there is none."""
        samples = [
            Batch.of_fragments([sample[task] for task in self._tasks], self._spaces, self._device)
            for sample in self._samples
        ]
        self._samples.clear()
        return Batch.joined(samples) if samples else None
