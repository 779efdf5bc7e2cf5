"""The replay memory that lives in a learner: one per task, sampled in equal shares."""

import logging
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rllib_distill.sampling.fragment import Fragment
from rllib_distill.sampling.ring import Ring

logger = logging.getLogger(__name__)


class TaskReplay:
    """A ring per task and source of fragments; memory is taken when the first fragment comes.

    Actor-Mimic and Policy Distillation both keep one replay memory per game (Parisotto 2016, 100,000
    transitions; Rusu 2016, 540,000), so a task whose episodes are long cannot crowd out the others.
    """

    def __init__(
        self,
        tasks: Iterable[str],
        *,
        capacity: int,
        num_sources: int = 1,
        n_step: int = 1,
        gamma: float = 0.99,
        seed: int | None = None,
    ):
        """Makes an empty memory.

        Args:
            tasks: Names of the tasks.
            capacity: Transitions per task, shared equally by the sources.
            num_sources: How many env runners feed this memory.
            n_step: Steps of a return, see `Ring.take_n_step`.
            gamma: Its discount factor.
            seed: Of the sampling; None draws one.
        """
        self.capacity = capacity
        self._num_sources = num_sources
        self._n_step = n_step
        self._gamma = gamma
        self._rings: dict[str, dict[int, Ring]] = {task: {} for task in tasks}
        self._restored: dict[str, set[int]] = {task: set() for task in tasks}  # sources not heard of since
        self._rng = np.random.default_rng(seed)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks."""
        return tuple(self._rings)

    def __len__(self) -> int:
        """Number of transitions of the task that has the fewest."""
        return min(self.num_transitions(task) for task in self._rings)

    def num_transitions(self, task: str) -> int:
        """Number of stored steps of a task (autoreset rows, which are never drawn, count too)."""
        return sum(map(len, self._rings[task].values()))

    def observation_shape(self, task: str) -> tuple[int, ...]:
        """Shape of one stored observation of a task, of which there must be some."""
        return next(iter(self._rings[task].values())).observation_shape

    def add(self, fragment: Fragment) -> None:
        """Stores a fragment, over the oldest steps of its source once the memory is full."""
        rings, restored = self._rings[fragment.task], self._restored[fragment.task]
        share = -(-self.capacity // self._num_sources)
        if fragment.source in restored:
            restored.discard(fragment.source)
            if not rings[fragment.source].fits(share, fragment):
                logger.warning("Task %r has other sizes than what was restored of it.", fragment.task)
                del rings[fragment.source]
        if fragment.source not in rings:
            while restored and len(rings) >= self._num_sources:  # of other runners than there are now
                del rings[restored.pop()]
            rings[fragment.source] = Ring.for_fragments(share, fragment)
        rings[fragment.source].add(fragment)

    def draw_task(self, tasks: Iterable[str]) -> str:
        """One of `tasks`, each with the same chance."""
        tasks = tuple(tasks)
        return tasks[int(self._rng.integers(len(tasks)))]

    def sample(
        self,
        task: str,
        size: int,
        columns: Iterable[str],
        out: Mapping[str, NDArray[Any]] | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Draws transitions of one task uniformly, with replacement.

        Args:
            task: Whose.
            size: How many.
            columns: Of `observations`, `actions`, `rewards`, `terminations`, `truncations`,
                `next_observations` and the labels' names; with `discounts`, `rewards` are returns of up to
                `n_step` steps and `next_observations` what follows them, discounted so.
            out: Arrays to write into, by column; others are allocated.

        Returns:
            Column -> `(size, ...)`.
        """
        out, columns = out or {}, tuple(columns)
        rings = list(self._rings[task].values())
        if len(rings) == 1:
            return self._take(rings[0], rings[0].draw(size, self._rng), columns, out)
        parts = [self._take(ring, index, columns, {}) for ring, index in self._draw_parts(rings, size)]
        return {name: np.concatenate([part[name] for part in parts], out=out.get(name)) for name in columns}

    def _take(
        self, ring: Ring, index: NDArray[np.int64], columns: tuple[str, ...], out: Mapping[str, NDArray[Any]]
    ) -> dict[str, NDArray[Any]]:
        if "discounts" not in columns:
            return {name: ring.take(name, index, out.get(name)) for name in columns}
        returns, discounts, last = ring.take_n_step(index, self._n_step, self._gamma)
        taken = {"rewards": returns, "discounts": discounts}
        for name in columns:
            if name not in taken:
                taken[name] = ring.take(name, last if name == "next_observations" else index, out.get(name))
        return taken

    def save(self, path: Path) -> None:
        """Writes the whole memory, and where its random numbers stand, to a file."""
        state = {
            "rng": self._rng.bit_generator.state,
            "rings": {
                task: {source: ring.get_state() for source, ring in rings.items()}
                for task, rings in self._rings.items()
            },
        }
        with path.open("wb") as file:
            pickle.dump(state, file, protocol=pickle.HIGHEST_PROTOCOL)

    def load(self, path: Path) -> None:
        """Restores what `save` wrote.

        If capacity, environments or labels are others now, a task's memory starts empty when its next
        fragment comes; what other runners than today's had sampled goes when today's need the room.

        Raises:
            DistillError: An older version saved it.
        """
        with path.open("rb") as file:
            state = pickle.load(file)
        self._rng.bit_generator.state = state["rng"]
        for task, states in state["rings"].items():
            # One by one: each takes as much memory again as its ring until it is gone.
            self._rings[task] = {source: Ring.from_state(states.pop(source)) for source in list(states)}
            self._restored[task] = set(self._rings[task])

    def _draw_parts(self, rings: list[Ring], size: int) -> list[tuple[Ring, NDArray[np.int64]]]:
        lengths = np.array([len(ring) for ring in rings], float)
        counts = self._rng.multinomial(size, lengths / lengths.sum())
        return [(ring, ring.draw(int(n), self._rng)) for ring, n in zip(rings, counts, strict=True) if n]
