"""Arrays that are filled again for every minibatch, and their way to the learner's device."""

import ctypes
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_MIB = 2**20


def axes_in_memory(array: NDArray[Any]) -> list[int]:
    """The array's axes, the one with the longest strides first: copies between equal orders are fastest."""
    return sorted(range(array.ndim), key=lambda axis: -array.strides[axis])


def tune_process(*, compiles: bool) -> None:
    """Sets up the process for learning and acting; the config's `tune_process: false` leaves it out.

    Args:
        compiles: Whether networks are compiled here.

    - Given a seed, RLlib asks torch for deterministic algorithms, and torch then also fills every new tensor,
      in case someone reads what was never written. Nobody here does. With the next point, a gradient step on
      Atari frames takes a quarter less time.
    - glibc gives the memory of large arrays back to the system when they are dropped, and asks for it again,
      page by page, for the next minibatch. It keeps up to 256 MiB instead, of arrays up to 32 MiB (its
      limit). Other C libraries are left alone.
    - All networks share one `forward`, and torch.compile gives up after 8 versions of a function, one for
      each network's sizes, with and without gradients; it may make as many as it allows in all.
    """
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # set by a module class
    if compiles:
        limits = torch._dynamo.config
        limits.recompile_limit = max(limits.recompile_limit, limits.accumulated_recompile_limit)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 * _MIB)
        mallopt(_M_TRIM_THRESHOLD, 256 * _MIB)


class HostBuffers:
    """Named arrays in host memory, made when they are first asked for.

    For a GPU they are page-locked, so that the copies run while the next minibatch is drawn, and there are
    two sets of them: the one being filled and the one that the GPU may still be reading. On a processor
    there is one, and its tensors are the arrays themselves, which the next turn writes over.
    """

    def __init__(self, device: torch.device | str):
        """Makes no array yet.

        Args:
            device: Device of the tensors.
        """
        self._device = torch.device(device)
        self._is_pinned = self._device.type == "cuda"
        self._sets: deque[dict[str, Tensor]] = deque({} for _ in range(2 if self._is_pinned else 1))
        self._copied = deque(torch.cuda.Event() for _ in range(2 if self._is_pinned else 0))

    def turn(self) -> None:
        """Turns to the set that was filled longest ago, after waiting for the copies from it to end."""
        self._sets.rotate()
        if self._is_pinned:
            self._copied.rotate()
            self._copied[0].synchronize()

    def get(self, name: str) -> NDArray[Any] | None:
        """The array, or None where `make` has not made it yet in this set."""
        tensor = self._sets[0].get(name)
        return None if tensor is None else tensor.numpy()

    def make(self, name: str, shape: Sequence[int], like: NDArray[Any]) -> NDArray[Any]:
        """Makes an array of zeros with the dtype of `like` and, in its last axes, its order in memory.

        Stacked frames lie frame by frame, though their axis is the last: rows of memory that are in the same
        order on both sides are copied fastest.
        """
        before = len(shape) - like.ndim
        order = [*range(before), *(before + axis for axis in axes_in_memory(like))]
        dtype = torch.from_numpy(np.empty(0, like.dtype)).dtype
        memory = torch.zeros([shape[axis] for axis in order], dtype=dtype, pin_memory=self._is_pinned)
        self._sets[0][name] = memory.permute(*np.argsort(order).tolist())
        return self._sets[0][name].numpy()

    def to_device(self, name: str) -> Tensor:
        """The array as a tensor on the device; dtype and order of axes in memory stay."""
        return self._sets[0][name].to(self._device, non_blocking=True)

    def sent(self) -> None:
        """Marks the end of a turn's copies; call it after the last `to_device`."""
        if self._is_pinned:
            self._copied[0].record(torch.cuda.current_stream(self._device))
