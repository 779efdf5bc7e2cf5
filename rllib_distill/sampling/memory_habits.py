"""What memory costs in a process that makes and drops large tensors all the time, and need not."""

import ctypes
from typing import Any

import torch
from numpy.typing import NDArray

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_MIB = 2**20


def axes_in_memory(array: NDArray[Any]) -> list[int]:
    """The array's axes, the one with the longest strides first: copies between equal orders are fastest."""
    return sorted(range(array.ndim), key=lambda axis: -array.strides[axis])


def keep_large_tensors_cheap() -> None:
    """For the whole process; makes a gradient step on Atari frames take a quarter less time.

    - Given a seed, RLlib asks torch for deterministic algorithms, and torch then also fills every new tensor,
      in case someone reads what was never written. Nobody here does.
    - glibc gives the memory of large arrays back to the system when they are dropped, and asks for it again,
      page by page, for the next minibatch. It keeps up to 256 MiB instead, of arrays up to 32 MiB (its
      limit). Other C libraries are left alone.
    """
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # set by a module class
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 * _MIB)
        mallopt(_M_TRIM_THRESHOLD, 256 * _MIB)
