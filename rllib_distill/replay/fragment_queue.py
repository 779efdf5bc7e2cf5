"""Samples that wait for a learner, which learns from each once."""

from collections import deque
from collections.abc import Iterable

import torch

from rllib_distill.replay.batch import Batch
from rllib_distill.replay.fragment import Fragment
from rllib_distill.tasks import SharedSpaces


class FragmentQueue:
    """What came since the last step; a sample is a fragment of each task from one env runner."""

    def __init__(self, tasks: Iterable[str], spaces: SharedSpaces, device: torch.device | str = "cpu"):
        """Makes an empty queue.

        Args:
            tasks: Names, in the order that batches have.
            spaces: The tasks' common spaces.
            device: Where batches' tensors go.
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
        """Adds the next fragment of a sample, of which all are added before the next sample's."""
        self._begun[fragment.task] = fragment
        if len(self._begun) == len(self._tasks):
            self._samples.append(self._begun)
            self._begun = {}

    def pop_all(self) -> Batch | None:
        """Takes out all whole samples, side by side; None where there is none."""
        samples = [
            Batch.of_fragments([sample[task] for task in self._tasks], self._spaces, self._device)
            for sample in self._samples
        ]
        self._samples.clear()
        return Batch.joined(samples) if samples else None
