"""Policy Distillation (Rusu et al., 2016), https://arxiv.org/abs/1511.06295: the three losses of section 3.

The paper's teacher is the expert here. Only the mean squared error makes the student's outputs Q-values;
the other two make them logits of a policy.
"""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature

import torch
from torch import Tensor

from rllib_distill.losses.common import Temperature, check_same_shape, expert_policy, only_legal


def distillation_nll_loss(
    expert_q: Tensor, student_logits: Tensor, *, legal_actions: Tensor | None = None
) -> Tensor:
    """Negative log-likelihood of the expert's best legal action.

    L_NLL(s) = -log pi_S(argmax_a Q_E(s, a) | s), with pi_S = softmax(z) over the legal actions.
    See "Policy Distillation" by Rusu et al., section 3.

    Args:
        expert_q: The expert's Q-values (or logits) Q_E, `(B, A)`; gets no gradient.
        student_logits: The student's logits z, `(B, A)`.
        legal_actions: `(B, A)` bool with at least one legal action per row, or None: all are legal.

    Returns:
        One loss per sample, `(B,)`.

    Raises:
        DistillError: Two shapes differ.
    """
    check_same_shape(expert_q=expert_q, student_logits=student_logits, legal_actions=legal_actions)
    best = only_legal(expert_q, legal_actions).argmax(-1, keepdim=True)
    log_policy = torch.log_softmax(only_legal(student_logits, legal_actions), -1)
    return -log_policy.gather(-1, best).squeeze(-1)


def distillation_mse_loss(
    expert_q: Tensor, student_q: Tensor, *, legal_actions: Tensor | None = None
) -> Tensor:
    """Squared distance of the student's and the expert's Q-values.

    L_MSE(s) = sum_a (Q_S(s, a) - Q_E(s, a))^2 over the legal actions.
    See "Policy Distillation" by Rusu et al., section 3.

    Args:
        expert_q: The expert's Q-values Q_E, `(B, A)`; gets no gradient.
        student_q: The student's Q-values Q_S, `(B, A)`.
        legal_actions: `(B, A)` bool, or None: all are legal.

    Returns:
        One loss per sample, `(B,)`, summed over actions (not their mean, despite the loss's name).

    Raises:
        DistillError: Two shapes differ.
    """
    check_same_shape(expert_q=expert_q, student_q=student_q, legal_actions=legal_actions)
    difference = student_q - expert_q.detach()
    if legal_actions is not None:
        difference = difference.masked_fill(~legal_actions, 0.0)
    return difference.square().sum(-1)


def distillation_kl_loss(
    expert_q: Tensor, student_logits: Tensor, *, tau: Temperature = 0.01, legal_actions: Tensor | None = None
) -> Tensor:
    """Kullback-Leibler divergence from the expert's policy to the student's, over the legal actions.

    L_KL(s) = sum_a pi_E(a|s) log(pi_E(a|s) / pi_S(a|s)), with pi_E = softmax(Q_E / tau) and
    pi_S = softmax(z). Its gradient at z is that of the policy regression loss, pi_S - pi_E.
    See "Policy Distillation" by Rusu et al., section 3.

    Args:
        expert_q: The expert's Q-values (or logits) Q_E, `(B, A)`; gets no gradient.
        student_logits: The student's logits z, `(B, A)`.
        tau: Temperature, greater than 0, of all rows or `(B,)`; it divides the expert's Q alone. The paper's
            0.01 sharpens, since the Q-values of a state differ little; towards 0 this becomes the negative
            log-likelihood.
        legal_actions: `(B, A)` bool with at least one legal action per row, or None: all are legal.

    Returns:
        One loss per sample, `(B,)`, summed over actions.

    Raises:
        DistillError: Two shapes differ, or `tau` is not greater than 0.
    """
    check_same_shape(expert_q=expert_q, student_logits=student_logits, legal_actions=legal_actions)
    target = expert_policy(expert_q, tau, legal_actions)
    log_policy = torch.log_softmax(only_legal(student_logits, legal_actions), -1)
    # xlogy is 0 where the expert's probability is 0; notes on the paper that divide z by tau too are wrong.
    return (torch.xlogy(target, target) - target * log_policy).sum(-1)


@dataclass(frozen=True)
class DistillationLoss:
    """An entry of `DISTILLATION_LOSSES`.

    Attributes:
        function: `(expert_q, student, *, legal_actions=None)` -> one loss per sample: tensors `(..., A)` to
            `(...)`, legal actions as of this package's losses. It may have the argument `tau`.
        of_q_values: Whether the student's outputs are compared as Q-values, so that experts must have such;
            otherwise they are logits.
    """

    function: Callable[..., Tensor]
    of_q_values: bool = False

    @property
    def takes_tau(self) -> bool:
        """Whether the function has the argument `tau`, the experts' temperature."""
        return "tau" in signature(self.function).parameters


DISTILLATION_LOSSES: dict[str, DistillationLoss] = {
    "kl": DistillationLoss(distillation_kl_loss),
    "nll": DistillationLoss(distillation_nll_loss),
    "mse": DistillationLoss(distillation_mse_loss, of_q_values=True),
}
"""Names that the setting `loss` of PolicyDistillation knows; it takes `my_package:my_loss`, too."""
