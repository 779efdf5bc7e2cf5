"""Distral (Teh et al., 2017), https://arxiv.org/abs/1707.04175: tasks learn around a distilled policy.

With h the distilled policy's logits, pi_0 = softmax(h), and f or Q the task's own, the objective is

    J = sum_i E_{pi_i}[sum_t gamma^t (R_i + (alpha / beta) log pi_0(a_t|s_t) - (1 / beta) log pi_i(a_t|s_t))]

(equation 1), where alpha = c_KL / (c_KL + c_Ent) and beta = 1 / (c_KL + c_Ent), an inverse temperature, weigh
the divergence from pi_0 and the entropy. Its gradient, (9) and (10), has two parts: that of a policy gradient
whose rewards are `regularised_rewards`, taken as constants, and that of `distilled_policy_loss`. The former
reaches h where pi_i has two columns, alpha h + beta f, and does not where it has one.

The last axis is that of the actions; `...` stands for any axes before it, one row for each of their elements.
`alpha` and `beta` are numbers, or tensors that broadcast to the rows: with one value per task, `(N, 1, 1)`.
The values in tensors are not checked. Where actions are illegal, give all columns through `only_legal`.
"""

from math import inf

import torch
from torch import Tensor

from rllib_distill.errors import DistillError
from rllib_distill.losses.common import check_one_per_row, check_same_shape

Coefficient = float | Tensor


def two_column_logits(
    distilled_logits: Tensor, task_logits: Tensor, *, alpha: Coefficient, beta: Coefficient
) -> Tensor:
    """Logits of the task's policy, made of the distilled column's and the task column's.

    pi_i = softmax(alpha h + beta f)                                       (8)
    It is the best policy, pi_0^alpha exp(beta (Q_i - V_i)), equation (2), if f is Q_i up to a constant.
    A value-based Distral acts with it too: softmax(Q_i) without beta is far too random.

    Args:
        distilled_logits: h, `(..., A)`; any constant may be added to a row.
        task_logits: f, `(..., A)`.
        alpha: c_KL / (c_KL + c_Ent), from 0 (no part for pi_0) to 1 (no entropy bonus).
        beta: 1 / (c_KL + c_Ent), greater than 0, in 1 / units of reward.

    Returns:
        Logits, `(..., A)`, with gradients to both columns.

    Raises:
        DistillError: Two shapes do not fit, or `alpha` or `beta` is out of its range.
    """
    check_same_shape(distilled_logits=distilled_logits, task_logits=task_logits)
    _check_coefficients(alpha, beta, distilled_logits.shape[:-1])
    return _per_action(alpha) * distilled_logits + _per_action(beta) * task_logits


def soft_value(distilled_logits: Tensor, q: Tensor, *, alpha: Coefficient, beta: Coefficient) -> Tensor:
    """Value of a state under the best policy, equation (2), given its Q-values.

    V_i(s) = (1 / beta) log sum_a pi_0(a|s)^alpha exp(beta Q_i(s, a))      (3)
    pi_0^alpha is not normalised: alpha below 1 leaves an entropy bonus of up to (1 - alpha) log A / beta.

    Args:
        distilled_logits: h, `(..., A)`; any constant may be added to a row.
        q: Q_i, `(..., A)`, in units of reward.
        alpha: c_KL / (c_KL + c_Ent), from 0 (plain soft Q-learning: tasks go their own ways) to 1.
        beta: 1 / (c_KL + c_Ent), greater than 0; as it grows, V goes to the greatest Q.

    Returns:
        Values, `(...)`, with gradients to both arguments.

    Raises:
        DistillError: Two shapes do not fit, or `alpha` or `beta` is out of its range.
    """
    check_same_shape(distilled_logits=distilled_logits, q=q)
    _check_coefficients(alpha, beta, q.shape[:-1])
    # The sum of exponentials would overflow from beta Q = 88 on: it never leaves the logarithm.
    scores = _per_action(alpha) * torch.log_softmax(distilled_logits, -1) + _per_action(beta) * q
    return torch.logsumexp(scores, -1) / beta


@torch.no_grad()
def regularised_rewards(
    rewards: Tensor,
    distilled_log_probs: Tensor,
    task_log_probs: Tensor,
    *,
    alpha: Coefficient,
    beta: Coefficient,
) -> Tensor:
    """Rewards as the policy gradient of Distral sees them.

    R_i^reg = R_i + (alpha / beta) log pi_0(a|s) - (1 / beta) log pi_i(a|s)     (9)
    The entropy is in them: an entropy bonus beside them would count it twice.

    Args:
        rewards: R_i, `(...)`.
        distilled_log_probs: log pi_0 of the action taken, the task's and not one of pi_0's own, `(...)`.
        task_log_probs: log pi_i of the action taken, `(...)`.
        alpha: c_KL / (c_KL + c_Ent), from 0 to 1.
        beta: 1 / (c_KL + c_Ent), greater than 0, in 1 / units of reward.

    Returns:
        Rewards, `(...)`, without gradient: what J owes to their logarithms is in `distilled_policy_loss`.

    Raises:
        DistillError: Two shapes do not fit, or `alpha` or `beta` is out of its range.
    """
    check_same_shape(rewards=rewards, distilled_log_probs=distilled_log_probs, task_log_probs=task_log_probs)
    _check_coefficients(alpha, beta, rewards.shape)
    return rewards + (alpha * distilled_log_probs - task_log_probs) / beta


def distilled_policy_loss(
    task_logits: Tensor,
    distilled_logits: Tensor,
    *,
    alpha: Coefficient,
    beta: Coefficient,
    discounts: Tensor | None = None,
) -> Tensor:
    """Distils the tasks' policies into pi_0: the cross entropy of pi_i and pi_0, as much as J weighs it.

    L(s_t) = -(alpha / beta) gamma^t sum_a pi_i(a|s_t) log pi_0(a|s_t)     (5)
    Its gradient at h is (alpha / beta) gamma^t (pi_0 - pi_i), the second part of (10) with its sign turned.

    Args:
        task_logits: Logits of pi_i, `(..., A)`: with two columns those of `two_column_logits`. They get no
            gradient, and h gets none through them.
        distilled_logits: h, `(..., A)`, at the states that every task's own policy visits.
        alpha: c_KL / (c_KL + c_Ent), from 0 to 1.
        beta: 1 / (c_KL + c_Ent), greater than 0, in 1 / units of reward.
        discounts: gamma^t, 1 at an episode's first step, `(...)`; None: 1 everywhere, as actor-critics do.

    Returns:
        One loss per row, `(...)`, in units of reward.

    Raises:
        DistillError: Two shapes do not fit, or `alpha` or `beta` is out of its range.
    """
    check_same_shape(distilled_logits=distilled_logits, task_logits=task_logits)
    _check_coefficients(alpha, beta, distilled_logits.shape[:-1])
    task_policy = torch.softmax(task_logits.detach(), -1)
    cross_entropy = -(task_policy * torch.log_softmax(distilled_logits, -1)).sum(-1)
    loss: Tensor = alpha / beta * cross_entropy
    if discounts is None:
        return loss
    check_one_per_row(distilled_logits=distilled_logits, discounts=discounts)
    return discounts * loss


@torch.no_grad()
def soft_q_targets(
    rewards: Tensor,
    discounts: Tensor,
    next_values: Tensor,
    q_taken: Tensor,
    *,
    continues: Tensor,
    n_step: int,
) -> Tensor:
    """Targets for Q_i(s_t, a_t) from up to n steps that ANY policy made.

    delta_t = r_t + discount_t V_i(s_{t+1}) - Q_i(s_t, a_t), the error in equation (4)
    y_t = r_t + discount_t V_i(s_{t+1}) + sum_{k=1}^{n-1} gamma^k delta_{t+k}

    Each later step adds R_i^reg for pi_i of equation (2), since then R_i^reg = r - Q_i + V_i: the targets are
    path consistency (Nachum et al., 2017, https://arxiv.org/abs/1702.08892). Where Q_i solves (4) each delta
    is 0 in expectation whatever the later actions, so that their policy does not matter. On the way there
    it does, and more steps off the policy may call for a smaller step size.

    Args:
        rewards: r, time first, `(T, ...)`.
        discounts: gamma, or 0 where s_{t+1} is terminal, `(T, ...)`.
        next_values: V_i(s_{t+1}), equation (3), `(T, ...)`; at an episode's last row of its final state.
        q_taken: Q_i(s_t, a_t), `(T, ...)`.
        continues: Whether the next row is the next step of the same episode, `(T, ...)` bool; the last row's
            is not asked for. Targets know nothing of the rows behind a False.
        n_step: How many steps at most, at least 1; fewer where the episode or the array ends.

    Returns:
        Targets, `(T, ...)`, without gradient.

    Raises:
        DistillError: Two shapes differ, or `n_step` is less than 1.
    """
    check_same_shape(
        rewards=rewards, discounts=discounts, next_values=next_values, q_taken=q_taken, continues=continues
    )
    if n_step < 1:
        raise DistillError(
            f"n_step is {n_step}, but it must be at least 1 (1: the next state's value alone)."
        )
    one_step = rewards + discounts * next_values
    errors = one_step - q_taken
    later = torch.zeros_like(errors)
    # After k rounds `later` is the sum's first k terms: gamma (delta_{t+1} + gamma (delta_{t+2} + ...)).
    for _ in range(min(n_step, len(rewards)) - 1):
        ahead = discounts[:-1] * (errors + later)[1:]
        # Chosen, not multiplied: rows between episodes may hold anything, and 0 * nan is nan.
        later[:-1] = torch.where(continues[:-1], ahead, 0.0)
    return one_step + later


def _per_action(coefficient: Coefficient) -> Coefficient:
    """A coefficient of rows, `(...)`, for their actions, `(..., 1)`."""
    return coefficient.unsqueeze(-1) if isinstance(coefficient, Tensor) else coefficient


def _check_coefficients(alpha: Coefficient, beta: Coefficient, rows: torch.Size) -> None:
    """Raise DistillError unless numbers are in their ranges and tensors broadcast to the rows."""
    for name, value in (("alpha", alpha), ("beta", beta)):
        if isinstance(value, Tensor):
            _check_broadcasts(name, value.shape, rows)
    if not isinstance(alpha, Tensor) and not 0.0 <= alpha <= 1.0:
        raise DistillError(
            f"alpha is {alpha}, but c_KL / (c_KL + c_Ent) must be from 0 (tasks apart) to 1 (no entropy)."
        )
    if not isinstance(beta, Tensor) and not 0.0 < beta < inf:
        raise DistillError(
            f"beta is {beta}, but 1 / (c_KL + c_Ent), an inverse temperature, must be finite and above 0."
        )


def _check_broadcasts(name: str, shape: torch.Size, rows: torch.Size) -> None:
    """Raise DistillError naming both shapes unless `shape` broadcasts to `rows` and leaves it as it is."""
    pairs = zip(reversed(shape), reversed(rows), strict=False)
    if len(shape) > len(rows) or any(size not in (1, row) for size, row in pairs):
        raise DistillError(
            f"{name} has shape {tuple(shape)} but the rows have shape {tuple(rows)}: "
            "it must broadcast to them, without an axis for the actions; (N, 1, 1) for N tasks, say."
        )
