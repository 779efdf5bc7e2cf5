"""How often a student would do what its expert would."""

from typing import Any

import torch

from rllib_distill.losses.common import only_legal
from rllib_distill.sampling.columns import EXPERT_OUTPUTS, LEGAL_ACTIONS


@torch.no_grad()
def greedy_agreement(batch: dict[str, Any], outputs: torch.Tensor) -> torch.Tensor:
    """Whether the best legal actions are the same, `(N,)` bool, of the minibatch's labels and `(N, A)`."""
    legal = batch[LEGAL_ACTIONS]
    return only_legal(batch[EXPERT_OUTPUTS], legal).argmax(-1) == only_legal(outputs, legal).argmax(-1)
