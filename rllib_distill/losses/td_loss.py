"""Q-learning: the targets and the temporal-difference loss of DQN and double DQN.

Discounts come with the termination in them: gamma where the episode goes on or was cut off by a time limit,
0 where it terminated.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from rllib_distill.losses.common import check_one_per_row, check_same_shape, only_legal


@torch.no_grad()
def q_learning_target(
    rewards: Tensor, discounts: Tensor, next_q_target: Tensor, *, legal_actions: Tensor | None = None
) -> Tensor:
    """Target of Q-learning: y = r + discount * max_a Q_target(s', a) over the legal actions.

    See "Human-level control through deep reinforcement learning" by Mnih et al., 2015, algorithm 1.

    Args:
        rewards: r, `(B,)`.
        discounts: gamma, or 0 where s' is terminal, `(B,)`.
        next_q_target: The target network's Q-values at s', `(B, A)`.
        legal_actions: Legal actions at s', `(B, A)` bool with at least one per row, or None: all are legal.

    Returns:
        Targets, `(B,)`, without gradient.

    Raises:
        DistillError: Two shapes do not fit.
    """
    check_one_per_row(next_q_target=next_q_target, rewards=rewards, discounts=discounts)
    check_same_shape(next_q_target=next_q_target, legal_actions=legal_actions)
    return rewards + discounts * only_legal(next_q_target, legal_actions).amax(-1)


@torch.no_grad()
def double_q_target(
    rewards: Tensor,
    discounts: Tensor,
    next_q_target: Tensor,
    next_q_online: Tensor,
    *,
    legal_actions: Tensor | None = None,
) -> Tensor:
    """Target of double Q-learning: the online network picks the next action, the target network values it.

    y = r + discount * Q_target(s', argmax_a Q_online(s', a)), the argmax over the legal actions.
    See "Deep Reinforcement Learning with Double Q-learning" by van Hasselt et al., 2016, equation 4.

    Args:
        rewards: r, `(B,)`.
        discounts: gamma, or 0 where s' is terminal, `(B,)`.
        next_q_target: The target network's Q-values at s', `(B, A)`.
        next_q_online: The online network's Q-values at s', `(B, A)`.
        legal_actions: Legal actions at s', `(B, A)` bool with at least one per row, or None: all are legal.

    Returns:
        Targets, `(B,)`, without gradient.

    Raises:
        DistillError: Two shapes do not fit.
    """
    check_one_per_row(next_q_target=next_q_target, rewards=rewards, discounts=discounts)
    check_same_shape(next_q_target=next_q_target, next_q_online=next_q_online, legal_actions=legal_actions)
    best = only_legal(next_q_online, legal_actions).argmax(-1, keepdim=True)
    return rewards + discounts * next_q_target.gather(-1, best).squeeze(-1)


def td_loss(q: Tensor, actions: Tensor, targets: Tensor, *, huber_delta: float | None) -> Tensor:
    """Loss of the temporal-difference error e = Q(s, a) - y: squared or Huber.

    e^2 / 2, or, beyond `huber_delta`, huber_delta * (|e| - huber_delta / 2). The gradient at Q(s, a) is e,
    clipped to [-huber_delta, huber_delta]: with 1.0 this is the error clipping of Mnih et al., 2015.

    Args:
        q: Q(s, .), `(B, A)`.
        actions: The actions taken, `(B,)` integers.
        targets: y, `(B,)`; get no gradient.
        huber_delta: Where the loss turns from a square into a line, greater than 0; None: it stays a square.

    Returns:
        One loss per sample, `(B,)`.

    Raises:
        DistillError: Two shapes do not fit.
    """
    check_one_per_row(q=q, actions=actions, targets=targets)
    taken = q.gather(-1, actions.long().unsqueeze(-1)).squeeze(-1)
    if huber_delta is None:
        # Half the square, so that it agrees with Huber's near 0.
        return 0.5 * (taken - targets.detach()).square()
    return F.huber_loss(taken, targets.detach(), reduction="none", delta=huber_delta)
