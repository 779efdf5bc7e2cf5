"""Distilling Policy Distillation (Czarnecki et al., 2019), https://arxiv.org/abs/1902.02186.

Its expected entropy regularised distillation: the student acts, and maximises the likelihood that its expert
gives to the student's actions, E_S[sum_t log pi_E(a_t|s_t)]. That is an objective to which rewards can be
added, and descending it cannot cycle; the expert's cross entropy on the student's own states is no
gradient of any, and with rewards it may. At each step,

    gradient = grad H(pi_S(.|s_t) || pi_E(.|s_t)) - grad log pi_S(a_t|s_t) * sum_{k > t} log pi_E(a_k|s_k):

`expected_cross_entropy_loss` is the first term, with the action of step t in expectation, which lowers the
variance; `score_function_loss` is the second, whose advantages are sums (or an estimate of them) of the LATER
`expert_log_likelihood`s.
"""

import torch
from torch import Tensor

from rllib_distill.losses.common import (
    Temperature,
    check_one_per_row,
    check_same_shape,
    expert_log_policy,
    only_legal,
)


def expert_log_likelihood(
    expert_q: Tensor, actions: Tensor, *, tau: Temperature, legal_actions: Tensor | None = None
) -> Tensor:
    """How likely the expert was to act as was acted: log pi_E(a|s), with pi_E = softmax(Q_E / tau).

    It is the reward of expected entropy regularised distillation (Czarnecki et al., 2019).

    Args:
        expert_q: The expert's Q-values (or logits) Q_E, `(B, A)`.
        actions: The actions taken, legal ones, `(B,)` integers.
        tau: Temperature, greater than 0, of all rows or `(B,)`. Small values make every action but the best
            one costly.
        legal_actions: `(B, A)` bool with at least one legal action per row, or None: all are legal.

    Returns:
        At most 0 and finite, `(B,)`, without gradient.

    Raises:
        DistillError: Two shapes do not fit, or `tau` is not greater than 0.
    """
    check_one_per_row(expert_q=expert_q, actions=actions)
    check_same_shape(expert_q=expert_q, legal_actions=legal_actions)
    log_policy = expert_log_policy(expert_q, tau, legal_actions)
    return log_policy.gather(-1, actions.long().unsqueeze(-1)).squeeze(-1)


def expected_cross_entropy_loss(
    expert_q: Tensor, student_logits: Tensor, *, tau: Temperature, legal_actions: Tensor | None = None
) -> Tensor:
    """Cross entropy of the student's and the expert's policies, in this order, over the legal actions.

    H(pi_S || pi_E) = -sum_a pi_S(a|s) log pi_E(a|s), with pi_E = softmax(Q_E / tau) and pi_S = softmax(z).
    The other losses have the expert's policy outside the logarithm. See Czarnecki et al., 2019.

    Args:
        expert_q: The expert's Q-values (or logits) Q_E, `(B, A)`; gets no gradient.
        student_logits: The student's logits z, `(B, A)`.
        tau: Temperature, greater than 0, of all rows or `(B,)`; it divides the expert's Q alone. The loss
            grows with 1 / tau.
        legal_actions: `(B, A)` bool with at least one legal action per row, or None: all are legal.

    Returns:
        One loss per sample, `(B,)`, summed over actions; its gradient at illegal actions is exactly 0.

    Raises:
        DistillError: Two shapes differ, or `tau` is not greater than 0.
    """
    check_same_shape(expert_q=expert_q, student_logits=student_logits, legal_actions=legal_actions)
    policy = torch.softmax(only_legal(student_logits, legal_actions), -1)
    return -(policy * expert_log_policy(expert_q, tau, legal_actions)).sum(-1)


def score_function_loss(
    student_logits: Tensor, actions: Tensor, advantages: Tensor, *, legal_actions: Tensor | None = None
) -> Tensor:
    """The policy gradient's loss: -log pi_S(a|s) * advantage, with pi_S = softmax(z) over the legal actions.

    See "Simple statistical gradient-following algorithms" by Williams, 1992 (REINFORCE).

    Args:
        student_logits: The student's logits z, `(B, A)`.
        actions: The actions taken, legal ones that pi_S itself drew, `(B,)` integers.
        advantages: What the actions brought, `(B,)`; a constant.
        legal_actions: `(B, A)` bool with at least one legal action per row, or None: all are legal.

    Returns:
        One loss per sample, `(B,)`.

    Raises:
        DistillError: Two shapes do not fit.
    """
    check_one_per_row(student_logits=student_logits, actions=actions, advantages=advantages)
    check_same_shape(student_logits=student_logits, legal_actions=legal_actions)
    log_policy = torch.log_softmax(only_legal(student_logits, legal_actions), -1)
    return -log_policy.gather(-1, actions.long().unsqueeze(-1)).squeeze(-1) * advantages.detach()
