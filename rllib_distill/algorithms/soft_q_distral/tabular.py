"""Tables instead of networks: a gradient step that is the classic update of every visited entry."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rllib_distill.errors import DistillError
from rllib_distill.tasks.spaces import one_line

TABULAR = "tabular"
_ONE_HOT = (
    "a tabular network needs one-hot states, a 1 among 0s: of rllib_distill/TwoRooms-v0 by env_config: "
    "{observation: state}, of Discrete observations by wrappers: [gymnasium.wrappers.FlattenObservation]."
)


def is_tabular(config: Any) -> bool:
    """Whether the config's network is a table, with a row for each of the states."""
    return isinstance(config.network, Mapping) and config.network.get("type") == TABULAR


def check_tabular(config: Any) -> None:
    """Raises DistillError unless optimizer, learning rate and observations suit a table."""
    if config.optimizer != {"type": "sgd"}:
        raise DistillError(
            f"optimizer is {config.optimizer!r}; a tabular network's entries are moved by plain gradient "
            "descent: set optimizer: {type: sgd}."
        )
    if not isinstance(config.lr, int | float) or not 0 < config.lr <= 1:
        raise DistillError(
            f"lr is {config.lr!r}; for a tabular network it must be a number above 0 and at most 1: the "
            "share of the way to its target that a visit moves an entry."
        )
    for module_id, overrides in config.algorithm_config_overrides_per_module.items():
        for name in ("lr", "optimizer"):  # a step weighs visits by the lr of all
            if name in overrides:
                raise DistillError(
                    f"algorithm_config_overrides_per_module sets {name} of module {module_id!r} to "
                    f"{overrides[name]!r}; tabular networks all move alike: set {name} for all, or remove it."
                )
    space = config.shared_spaces.observation_space
    in_range = np.all(space.low >= 0) and np.all(space.high <= 1)
    # Networks take uint8 for pictures, whose 255 is a 1. `states_of` looks at the observations themselves.
    if len(space.shape) != 1 or space.dtype == np.uint8 or not in_range:
        raise DistillError(
            f"the tasks observe {one_line(space)}; {_ONE_HOT} (One-dimensional, from 0 to 1, no uint8.)"
        )


def states_of(observations: Tensor, valid: Tensor) -> Tensor:
    """Numbers of one-hot states.

    Args:
        observations: `(..., S)`.
        valid: `(...)` bool, false where the number does not matter.

    Returns:
        `(...)` int64.

    Raises:
        DistillError: An observation is not one-hot.
    """
    states = observations.byte().argmax(-1)
    hottest = observations.gather(-1, states.unsqueeze(-1)).squeeze(-1)
    is_one_hot = (hottest == 1) & (observations.count_nonzero(-1) == 1)
    if not (is_one_hot | ~valid).all():
        wrong = observations[valid & ~is_one_hot][0]
        raise DistillError(
            f"a task's observation has the {len(wrong.nonzero())} values {wrong[wrong != 0].tolist()[:5]} "
            f"that are not 0; {_ONE_HOT}"
        )
    return states


def visit_weights(entries: Tensor, valid: Tensor, lr: float) -> Tensor:
    """Weights of rows with which one step of size `lr` on their sum does what `c` steps would do.

    An entry that is visited c times moves 1 - (1 - lr)^c of the way to the mean of its targets, which is
    what c steps toward that mean would do; a plain sum would overshoot for c above 1 / lr, and a mean over
    all rows would hardly move.

    Args:
        entries: Number of the entry that each row visits, any shape, integers from 0.
        valid: Whether the row is a visit, bool, of the same shape.
        lr: Learning rate, in (0, 1].

    Returns:
        (1 - (1 - lr)^c) / (c lr), of the same shape; 0 where a row is no visit.
    """
    visits = torch.bincount(entries.flatten(), weights=valid.flatten().float())[entries].clamp(min=1.0)
    return valid * (1.0 - (1.0 - lr) ** visits) / (visits * lr)
