"""Actor-Mimic: Deep Multitask and Transfer Reinforcement Learning (Parisotto, Ba, Salakhutdinov, 2016).

https://arxiv.org/abs/1511.06342. The learner adds the two: L^i = L_policy^i + beta * L_feature^i.
"""

import torch
from torch import Tensor

from rllib_distill.losses.common import Temperature, check_same_shape, expert_policy, only_legal


def policy_regression_loss(
    expert_q: Tensor, student_logits: Tensor, *, tau: Temperature = 1.0, legal_actions: Tensor | None = None
) -> Tensor:
    """Cross entropy of the expert's and the student's policies over the legal actions.

    L_policy(s) = -sum_a pi_E(a|s) log pi_S(a|s), with pi_E = softmax(Q_E / tau) and pi_S = softmax(z).
    Its gradient at z is pi_S - pi_E at legal actions and exactly 0 at the others.
    See "Actor-Mimic" by Parisotto et al., equations 1 and 2.

    Args:
        expert_q: The expert's Q-values (or logits) Q_E, `(B, A)`; gets no gradient.
        student_logits: The student's logits z, `(B, A)`.
        tau: Temperature, greater than 0, of all rows or `(B,)`; it divides the expert's Q alone. Small values
            imitate the greedy action, large ones blur the expert. The official code has 1.0.
        legal_actions: `(B, A)` bool with at least one legal action per row, or None: all are legal.

    Returns:
        One loss per sample, `(B,)`, summed over actions.

    Raises:
        DistillError: Two shapes differ, or `tau` is not greater than 0.
    """
    check_same_shape(expert_q=expert_q, student_logits=student_logits, legal_actions=legal_actions)
    target = expert_policy(expert_q, tau, legal_actions)
    # Equation 2 is printed without its minus sign; as in the official code, the student's logits are not
    # divided by tau, and both softmaxes are taken over the legal actions.
    return -(target * torch.log_softmax(only_legal(student_logits, legal_actions), -1)).sum(-1)


def feature_regression_loss(predicted_features: Tensor, expert_features: Tensor) -> Tensor:
    """Squared distance of the features that the student predicts and those of the expert.

    L_feature(s) = || f_i(h_S(s)) - h_E(s) ||_2^2, where f_i maps the student's last hidden layer to the
    expert's. See "Actor-Mimic" by Parisotto et al., equation 3.

    Args:
        predicted_features: f_i(h_S(s)), `(B, F)`.
        expert_features: The expert's last hidden layer after its ReLU, h_E(s), `(B, F)`; gets no gradient.

    Returns:
        One loss per sample, `(B,)`, summed over features.

    Raises:
        DistillError: The shapes differ.
    """
    check_same_shape(predicted_features=predicted_features, expert_features=expert_features)
    # The paper's text. The official code's gradient is half of this one's, so its beta is twice ours.
    return (predicted_features - expert_features.detach()).square().sum(-1)
