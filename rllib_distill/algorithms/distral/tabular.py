"""Tables instead of networks: a gradient step that is the classic update of every visited entry."""

from typing import Any

import torch
from torch import Tensor

from rllib_distill.errors import DistillError

TABULAR = "tabular"


def is_tabular(config: Any) -> bool:
    """Whether the config's network is a table with a row per state, which observations are one-hots of."""
    return isinstance(config.network, dict) and config.network.get("type") == TABULAR


def check_tabular(config: Any) -> None:
    """Raises DistillError unless optimizer and learning rate are those of tables."""
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


def visit_weights(entries: Tensor, valid: Tensor, lr: float) -> Tensor:
    """Weights of rows with which one step of size `lr` on their sum does as `c` steps one by one.

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
