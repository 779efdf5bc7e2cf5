"""Arrays that are filled again for every minibatch, and their way to the learner's device."""

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rllib_distill.sampling import axes_in_memory


class HostBuffers:
    """Named arrays in host memory, made when they are first asked for.

    For a GPU they are page-locked, so that the copies run while the next minibatch is drawn, and there are
    two sets of them: the one being filled and the one that the GPU may still be reading. On a processor
    there is one, and its tensors are the arrays themselves, which the next turn writes over.
    """

    def __init__(self, device: torch.device | str):
        """Makes no array yet.

        Args:
            device: Where the tensors go.
        """
        self._device = torch.device(device)
        self._is_pinned = self._device.type == "cuda"
        self._sets: deque[dict[str, Tensor]] = deque({} for _ in range(2 if self._is_pinned else 1))
        self._copied = deque(torch.cuda.Event() for _ in range(2 if self._is_pinned else 0))

    def turn(self) -> None:
        """Turns to the set that was filled longest ago, and waits for the end of the copies from it."""
        self._sets.rotate()
        if self._is_pinned:
            self._copied.rotate()
            self._copied[0].synchronize()

    def get(self, name: str) -> NDArray[Any] | None:
        """The array, or None where `make` has not made it yet in this set."""
        tensor = self._sets[0].get(name)
        return None if tensor is None else tensor.numpy()

    def make(self, name: str, shape: Sequence[int], like: NDArray[Any]) -> NDArray[Any]:
        """An array of zeros with the dtype of `like` and its order of axes in memory.

        Stacked frames lie frame by frame, though their axis is the last: rows of memory that are in the same
        order on both sides are copied fastest.
        """
        order = axes_in_memory(like)
        dtype = torch.from_numpy(np.empty(0, like.dtype)).dtype
        memory = torch.zeros([shape[axis] for axis in order], dtype=dtype, pin_memory=self._is_pinned)
        self._sets[0][name] = memory.permute(*np.argsort(order).tolist())
        return self._sets[0][name].numpy()

    def to_device(self, name: str) -> Tensor:
        """The array as a tensor on the device; dtype and order of axes in memory stay."""
        return self._sets[0][name].to(self._device, non_blocking=True)

    def sent(self) -> None:
        """Call after the last `to_device` of a turn."""
        if self._is_pinned:
            self._copied[0].record(torch.cuda.current_stream(self._device))
