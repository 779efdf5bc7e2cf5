"""What the losses share: the expert's policy, the legal actions, the checks of shapes."""

import torch
from torch import Tensor

from rllib_distill.errors import DistillError

Temperature = float | Tensor
"""One for all rows, or one of each row, `(B,)`."""


def only_legal(scores: Tensor, legal_actions: Tensor | None) -> Tensor:
    """Scores that make a softmax give illegal actions probability 0, and an argmax or max pass them over.

    Args:
        scores: Q-values or logits, `(B, A)`.
        legal_actions: `(B, A)` bool with at least one legal action per row, or None: all are legal.

    Returns:
        `(B, A)`; no gradient reaches an illegal action.
    """
    if legal_actions is None:
        return scores
    # The lowest finite number, not -inf: a loss multiplies log-probabilities by 0, and 0 * -inf is nan.
    return scores.masked_fill(~legal_actions, torch.finfo(scores.dtype).min)


def expert_policy(expert_q: Tensor, tau: Temperature, legal_actions: Tensor | None) -> Tensor:
    """softmax(Q_E / tau) over the legal actions, `(B, A)`; a constant, so that experts never learn.

    Raises:
        DistillError: `tau` is not greater than 0.
    """
    return torch.softmax(_tempered(expert_q, tau, legal_actions), -1)


def expert_log_policy(expert_q: Tensor, tau: Temperature, legal_actions: Tensor | None) -> Tensor:
    """Logarithm of the expert's policy, `(B, A)`; a constant, and finite at illegal actions too.

    Raises:
        DistillError: `tau` is not greater than 0.
    """
    logits = _tempered(expert_q, tau, legal_actions)
    # A tau below 1 takes the lowest finite number to -inf.
    return torch.log_softmax(logits.clamp(min=torch.finfo(logits.dtype).min), -1)


def _tempered(expert_q: Tensor, tau: Temperature, legal_actions: Tensor | None) -> Tensor:
    """Q_E / tau without gradient, shifted so that the best legal action has 0."""
    if isinstance(tau, Tensor):  # its values are not looked at, for which a GPU would have to be waited for
        check_one_per_row(expert_q=expert_q, tau=tau)
        tau = tau.unsqueeze(-1)
    elif not tau > 0:
        raise DistillError(f"tau is {tau}, but a temperature must be greater than 0 (1.0 leaves Q as it is).")
    q = only_legal(expert_q.detach(), legal_actions)
    # Subtract before dividing: softmax sees the differences alone, and Q / tau would round them away.
    return (q - q.amax(-1, keepdim=True)) / tau


def check_same_shape(**tensors: Tensor | None) -> None:
    """Raise DistillError naming both shapes unless every given tensor has the shape of the first."""
    (first, reference), *others = tensors.items()
    assert reference is not None
    for name, tensor in others:
        if tensor is not None and tensor.shape != reference.shape:
            raise DistillError(
                f"{name} has shape {tuple(tensor.shape)} but {first} has shape {tuple(reference.shape)}: "
                "the two must be equal."
            )


def check_one_per_row(**tensors: Tensor) -> None:
    """Raise DistillError naming both shapes unless the first is `(B, A)` and the others `(B,)`."""
    (first, table), *others = tensors.items()
    for name, tensor in others:
        if tensor.shape != table.shape[:-1]:
            raise DistillError(
                f"{name} has shape {tuple(tensor.shape)} but {first} has shape {tuple(table.shape)}: "
                f"{name} must have one value per row, shape {tuple(table.shape[:-1])}."
            )
