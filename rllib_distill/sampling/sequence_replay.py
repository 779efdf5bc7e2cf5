"""A replay memory of sequences, for learners that look several steps ahead at once."""

import logging
import pickle
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from rllib_distill.sampling.fragment import Fragment
from rllib_distill.sampling.sequence_ring import SequenceRing
from rllib_distill.sampling.trajectories import Trajectories
from rllib_distill.tasks import SharedSpaces

logger = logging.getLogger(__name__)


class SequenceReplay:
    """A ring of sequences per task; memory is taken when the first fragment comes.

    Where `TaskReplay` hands out transitions, this hands out what an environment did in a whole fragment.
    """

    def __init__(
        self,
        tasks: Iterable[str],
        *,
        capacity: int,
        spaces: SharedSpaces,
        device: torch.device | str = "cpu",
        seed: int | None = None,
    ):
        """Makes an empty memory.

        Args:
            tasks: Names, in the order that trajectories have.
            capacity: Transitions per task.
            spaces: The tasks' common spaces.
            device: Where trajectories' tensors go.
            seed: Of the drawing; None draws one.
        """
        self.capacity = capacity
        self.tasks = tuple(tasks)
        self._spaces = spaces
        self._device = device
        self._rings: dict[str, SequenceRing] = {}
        self._rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        """Number of transitions of the task that has the fewest."""
        return min(map(self.num_transitions, self.tasks))

    def num_transitions(self, task: str) -> int:
        """Number of stored steps of a task (autoreset rows count too)."""
        return self._rings[task].num_steps if task in self._rings else 0

    def add(self, fragment: Fragment) -> None:
        """Stores a fragment's sequences, over the oldest ones once the memory is full.

        Where it has other sizes than what a checkpoint of other settings held, it begins an empty memory.
        """
        ring = self._rings.get(fragment.task)
        if ring is None or not ring.fits(self.capacity, fragment):
            if ring is not None:
                logger.warning("Task %r has other sizes than what was stored of it.", fragment.task)
            ring = self._rings[fragment.task] = SequenceRing.for_fragments(self.capacity, fragment)
        ring.add(fragment)

    def draw(self, num_sequences: int) -> Trajectories:
        """So many sequences of each task, which must have some, uniformly; none twice if there are enough.

        Returns:
            Trajectories with `B = num_sequences`.
        """
        drawn = [self._rings[task].draw(num_sequences, self._rng) for task in self.tasks]
        return Trajectories.of(drawn, self._spaces, self._device)

    def save(self, path: Path) -> None:
        """Writes the whole memory, and where its random numbers stand, to a file."""
        rings = {task: ring.get_state() for task, ring in self._rings.items()}
        state = {"rng": self._rng.bit_generator.state, "rings": rings}
        with path.open("wb") as file:
            pickle.dump(state, file, protocol=pickle.HIGHEST_PROTOCOL)

    def load(self, path: Path) -> None:
        """Restores what `save` wrote."""
        with path.open("rb") as file:
            state = pickle.load(file)
        self._rng.bit_generator.state = state["rng"]
        states = state["rings"]
        # One by one: each takes as much memory again as its ring until it is gone.
        self._rings = {task: SequenceRing.from_state(states.pop(task)) for task in list(states)}
