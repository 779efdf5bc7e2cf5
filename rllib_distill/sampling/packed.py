"""Boolean arrays at 8 values to a byte, for checkpoints."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Packed = tuple[NDArray[Any], tuple[int, ...] | None]
"""An array, and the shape that it had where it is bits now."""


def pack(column: NDArray[Any]) -> Packed:
    """Packs a boolean array, and leaves any other as it is."""
    return (np.packbits(column), column.shape) if column.dtype == np.bool_ else (column, None)


def unpack(packed: Packed) -> NDArray[Any]:
    """What `pack` was given."""
    array, shape = packed
    if shape is None:
        return array
    return np.unpackbits(array, count=int(np.prod(shape))).astype(np.bool_).reshape(shape)
