"""Distral's losses: by hand, by the paper's identities and limits, by their gradients; what they refuse."""

from math import exp, inf, log, nan

import pytest
import torch
from torch import Tensor

from rllib_distill.errors import DistillError
from rllib_distill.losses import (
    distilled_policy_loss,
    regularised_rewards,
    soft_q_targets,
    soft_value,
    two_column_logits,
)
from rllib_distill.losses.common import only_legal
from tests.losses import oracle

EXACT = {"rtol": 1e-12, "atol": 1e-12}
COEFFICIENTS = [(0.0, 5.0), (0.5, 0.3), (0.5, 5.0), (1.0, 2.0)]
each_coefficient = pytest.mark.parametrize(("alpha", "beta"), COEFFICIENTS)


def columns(scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """h and Q of 3 tasks, 4 steps, 2 environments and 5 actions."""
    generator = torch.Generator().manual_seed(2)
    h, q = torch.randn(2, 3, 4, 2, 5, generator=generator, dtype=torch.float64)
    return 2 * h, scale * q


def best_policy(h: Tensor, q: Tensor, alpha: float, beta: float) -> Tensor:
    """Equation (2) as printed: pi_0^alpha exp(beta (Q - V))."""
    advantages = q - soft_value(h, q, alpha=alpha, beta=beta)[..., None]
    return torch.softmax(h, -1) ** alpha * torch.exp(beta * advantages)


def test_every_function_by_hand():
    # pi_0 = [3/4, 1/4]; alpha = 1/2 and beta = 2, so that c_KL = c_Ent = 1/4.
    h, f = torch.tensor([log(3.0), 0.0]), torch.tensor([1.0, -0.5])
    logits = two_column_logits(h, f, alpha=0.5, beta=2.0)
    torch.testing.assert_close(logits, torch.tensor([0.5 * log(3.0) + 2.0, -1.0]))
    value = soft_value(h, f, alpha=0.5, beta=2.0)
    torch.testing.assert_close(value, torch.tensor(log(0.75**0.5 * exp(2.0) + 0.25**0.5 * exp(-1.0)) / 2.0))
    rewards = regularised_rewards(
        torch.tensor(1.0), torch.tensor(log(0.75)), torch.tensor(log(0.2)), alpha=0.5, beta=2.0
    )
    torch.testing.assert_close(rewards, torch.tensor(1.0 + 0.25 * log(0.75) - 0.5 * log(0.2)))
    # The task's policy is even: the cross entropy is the mean of -log pi_0.
    loss = distilled_policy_loss(torch.zeros(2), h, alpha=0.5, beta=2.0, discounts=torch.tensor(0.9))
    torch.testing.assert_close(loss, torch.tensor(-0.25 * 0.9 * 0.5 * (log(0.75) + log(0.25))))


@each_coefficient
def test_two_columns_make_the_best_policy__catches_one_column_of_q_without_beta(alpha, beta):
    h, q = columns()
    policy = torch.softmax(two_column_logits(h, q, alpha=alpha, beta=beta), -1)
    torch.testing.assert_close(policy, best_policy(h, q, alpha, beta), **EXACT)
    assert not torch.allclose(policy, torch.softmax(q, -1), atol=1e-2)


@each_coefficient
def test_the_value_is_the_best_policys_return_of_regularised_rewards(alpha, beta):
    h, q = columns()
    policy = best_policy(h, q, alpha, beta)
    log_ratio = alpha * torch.log_softmax(h, -1) - policy.log()
    value = (policy * (q + log_ratio / beta)).sum(-1)
    torch.testing.assert_close(soft_value(h, q, alpha=alpha, beta=beta), value, **EXACT)
    # Whatever the action: R_reg = r - Q + V, which makes a soft-Q target of the rewards.
    zero, logs = torch.zeros_like(q), (torch.log_softmax(h, -1), policy.log())
    regularised = regularised_rewards(zero, *logs, alpha=alpha, beta=beta)
    torch.testing.assert_close(regularised, value[..., None] - q, **EXACT)


@each_coefficient
def test_no_other_policy_has_a_higher_value(alpha, beta):
    h, q = columns()
    value = soft_value(h, q, alpha=alpha, beta=beta)
    generator = torch.Generator().manual_seed(3)
    for _ in range(20):
        policy = torch.randn(q.shape, generator=generator, dtype=q.dtype).softmax(-1)
        log_ratio = alpha * torch.log_softmax(h, -1) - policy.log()
        assert ((policy * (q + log_ratio / beta)).sum(-1) < value).all()


@each_coefficient
def test_the_value_equals_the_oracle__catches_a_hard_maximum_and_a_wrong_power_of_pi_0(alpha, beta):
    h, q = columns(3.0)
    rows = zip(h.flatten(0, -2).tolist(), q.flatten(0, -2).tolist(), strict=True)
    expected = torch.tensor([oracle.soft_value(*row, alpha, beta) for row in rows], dtype=torch.float64)
    torch.testing.assert_close(soft_value(h, q, alpha=alpha, beta=beta).flatten(), expected, **EXACT)


def test_alpha_0_is_soft_q_learning_that_knows_nothing_of_pi_0():
    h, q = columns()
    h.requires_grad_()
    value = soft_value(h, q, alpha=0.0, beta=2.0)
    torch.testing.assert_close(value, torch.log(torch.exp(2.0 * q).sum(-1)) / 2.0, **EXACT)
    logits = two_column_logits(h, q, alpha=0.0, beta=2.0)
    assert torch.equal(logits, 2.0 * q)
    (gradient,) = torch.autograd.grad((value + logits.sum(-1)).sum(), h)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), **EXACT)


def test_alpha_1_weighs_actions_by_pi_0_itself():
    h, q = columns()
    value = soft_value(h, q, alpha=1.0, beta=2.0)
    expected = torch.log((torch.softmax(h, -1) * torch.exp(2.0 * q)).sum(-1)) / 2.0
    torch.testing.assert_close(value, expected, **EXACT)
    # Without entropy, staying with pi_0 is free: equal Q-values are worth just that.
    even = soft_value(h, torch.full_like(q, -3.0), alpha=1.0, beta=2.0)
    torch.testing.assert_close(even, torch.full_like(even, -3.0), **EXACT)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_a_great_beta_leaves_the_greatest_q(alpha):
    h, q = columns()
    errors = [(soft_value(h, q, alpha=alpha, beta=beta) - q.amax(-1)).abs().max() for beta in (1e2, 1e4, 1e8)]
    assert errors[0] < 0.1 and errors[1] < 1e-3 and errors[2] < 1e-7


@each_coefficient
def test_pi_0_to_the_alpha_is_not_normalised__catches_pi_0_for_its_power(alpha, beta):
    value = soft_value(
        torch.full((5,), 7.0, dtype=torch.float64),
        torch.zeros(5, dtype=torch.float64),
        alpha=alpha,
        beta=beta,
    )
    assert value.item() == pytest.approx((1 - alpha) * log(5) / beta, abs=1e-14)


def test_policies_equal_to_pi_0_leave_the_entropy_alone__catches_a_double_entropy_bonus():
    h, _ = columns()
    log_probs = torch.log_softmax(h, -1)[..., 0]
    rewards = torch.ones_like(log_probs)
    alpha, beta = 0.6, 2.0
    regularised = regularised_rewards(rewards, log_probs, log_probs, alpha=alpha, beta=beta)
    # beta' = beta / (1 - alpha) = 1 / c_Ent
    torch.testing.assert_close(regularised, rewards - (1 - alpha) / beta * log_probs, **EXACT)
    assert torch.equal(regularised_rewards(rewards, log_probs, log_probs, alpha=1.0, beta=beta), rewards)


@pytest.mark.parametrize(("c_kl", "c_entropy"), [(0.3, 0.1), (0.0, 0.2), (0.2, 0.0)])
def test_alpha_and_beta_are_those_of_the_costs__catches_beta_for_1_over_beta(c_kl, c_entropy):
    alpha, beta = c_kl / (c_kl + c_entropy), 1 / (c_kl + c_entropy)
    distilled, task = torch.tensor([-0.5, -2.0]), torch.tensor([-1.5, -0.1])
    rewards = torch.tensor([1.0, -1.0])
    expected = rewards - c_kl * (task - distilled) - c_entropy * task
    regularised = regularised_rewards(rewards, distilled, task, alpha=alpha, beta=beta)
    torch.testing.assert_close(regularised, expected)


@pytest.mark.parametrize("discounted", [True, False])
@each_coefficient
def test_distilling_draws_pi_0_to_the_task__catches_the_reverse_kl_and_a_dropped_scale(
    alpha, beta, discounted
):
    h, task_logits = columns()
    h.requires_grad_(), task_logits.requires_grad_()
    discounts = 0.9 ** torch.arange(4.0, dtype=torch.float64)[:, None].expand(3, 4, 2) if discounted else None
    loss = distilled_policy_loss(task_logits, h, alpha=alpha, beta=beta, discounts=discounts)
    assert loss.shape == (3, 4, 2)
    loss.sum().backward()
    expected = alpha / beta * (torch.softmax(h, -1) - torch.softmax(task_logits, -1))
    expected = expected if discounts is None else discounts[..., None] * expected
    torch.testing.assert_close(h.grad, expected.detach(), **EXACT)
    assert task_logits.grad is None


def test_pi_0_learns_nothing_through_pi_i__catches_a_forgotten_stop_gradient():
    h, f = columns()
    h.requires_grad_(), f.requires_grad_()
    task_logits = two_column_logits(h, f, alpha=0.5, beta=2.0)
    distilled_policy_loss(task_logits, h, alpha=0.5, beta=2.0).sum().backward()
    expected = 0.25 * (torch.softmax(h, -1) - torch.softmax(task_logits, -1))
    torch.testing.assert_close(h.grad, expected.detach(), **EXACT)
    assert f.grad is None


def test_distilling_all_tasks_leads_to_their_mean_policy():
    # One state that all tasks visit alike: at the mean of their policies pi_0 stands still.
    _, task_logits = columns()
    h = torch.softmax(task_logits, -1).mean((0, 1, 2)).log().requires_grad_()
    loss = distilled_policy_loss(task_logits, h.expand(3, 4, 2, 5), alpha=1.0, beta=2.0)
    (gradient,) = torch.autograd.grad(loss.sum(), h)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), **EXACT)


def test_regularised_rewards_are_constants__catches_gradients_around_the_score_function():
    rewards, distilled, task = torch.randn(3, 4, requires_grad=True)
    regularised = regularised_rewards(rewards, distilled, task, alpha=0.5, beta=2.0)
    assert not regularised.requires_grad


@pytest.mark.parametrize("shape", [(3, 1, 1), (3, 4, 2), (2,), ()])
def test_coefficients_may_differ_by_row(shape):
    h, q = columns()
    alpha, beta = torch.rand(shape, dtype=torch.float64), 1 + torch.rand(shape, dtype=torch.float64)
    discounts = torch.rand(3, 4, 2, dtype=torch.float64)
    everywhere = torch.broadcast_to(alpha, (3, 4, 2)), torch.broadcast_to(beta, (3, 4, 2))

    def all_of(h, q, discount, alpha, beta):
        coefficients = {"alpha": alpha, "beta": beta}
        return [
            two_column_logits(h, q, **coefficients),
            soft_value(h, q, **coefficients),
            regularised_rewards(discount, h[..., 0], q[..., 0], **coefficients),
            distilled_policy_loss(q, h, discounts=discount, **coefficients),
        ]

    at_once = all_of(h, q, discounts, alpha, beta)
    for row in [(0, 0, 0), (1, 3, 1), (2, 2, 0)]:
        numbers = [table[row].item() for table in everywhere]
        one_by_one = all_of(h[row], q[row], discounts[row], *numbers)
        for table, expected in zip(at_once, one_by_one, strict=True):
            torch.testing.assert_close(table[row], expected, **EXACT)


@pytest.mark.parametrize("beta", [1e-3, 5.0, 1e4])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("scale", [1e6, -1e6, 1e3])
def test_large_values_stay_finite__catches_an_exponential_that_overflows_at_88(scale, alpha, beta):
    q = torch.tensor([[scale, 0.0, 0.3 * scale], [scale, scale, scale]], requires_grad=True)
    h = torch.tensor([[0.0, scale, 1.0], [1.0, 2.0, 3.0]], requires_grad=True)
    value = soft_value(h, q, alpha=alpha, beta=beta)
    logits = two_column_logits(h, q, alpha=alpha, beta=beta)
    loss = distilled_policy_loss(logits, h, alpha=alpha, beta=beta)
    distilled, task = torch.log_softmax(h, -1), torch.log_softmax(logits, -1)
    rewards = regularised_rewards(q, distilled, task, alpha=alpha, beta=beta)
    for result in (value, logits, loss, rewards):
        assert result.dtype == torch.float32 and result.isfinite().all()
    (value + loss + logits.sum(-1)).sum().backward()
    assert q.grad.isfinite().all() and h.grad.isfinite().all()
    # Equal Q-values: theirs is the value, but for the entropy.
    bonus = soft_value(h, torch.zeros_like(q), alpha=alpha, beta=beta)
    torch.testing.assert_close(value[1], q[1, 0] + bonus[1], rtol=1e-6, atol=1e-6)


def test_illegal_actions_have_no_part():
    legal = torch.tensor([True, False, True, True, False]).expand(3, 4, 2, 5)
    tables = [only_legal(table, legal).requires_grad_() for table in columns()]
    subsets = [table[..., legal[0, 0, 0]] for table in tables]

    def losses(h, q):
        value = soft_value(h, q, alpha=0.5, beta=0.9)
        return value + distilled_policy_loss(q, h, alpha=0.5, beta=0.9)

    torch.testing.assert_close(losses(*tables), losses(*subsets), **EXACT)
    losses(*tables).sum().backward()
    for table in tables:
        assert table.grad.isfinite().all() and not table.grad[~legal].any()


TABLE, ROWS = torch.zeros(4, 2, 3), torch.zeros(4, 2)


def each_function(**coefficients):
    yield lambda: two_column_logits(TABLE, TABLE, **coefficients)
    yield lambda: soft_value(TABLE, TABLE, **coefficients)
    yield lambda: regularised_rewards(ROWS, ROWS, ROWS, **coefficients)
    yield lambda: distilled_policy_loss(TABLE, TABLE, **coefficients)


@pytest.mark.parametrize("alpha", [-0.1, 1.1, nan])
def test_alpha_outside_0_to_1_is_refused(alpha):
    for function in each_function(alpha=alpha, beta=1.0):
        with pytest.raises(DistillError, match=f"alpha is {alpha}.* from 0 .* to 1"):
            function()


@pytest.mark.parametrize("beta", [0.0, -5.0, nan, inf])
def test_beta_that_is_not_positive_is_refused(beta):
    for function in each_function(alpha=0.5, beta=beta):
        with pytest.raises(DistillError, match=f"beta is {beta}.*above 0"):
            function()


@pytest.mark.parametrize("shape", [(3,), (4, 1, 1), (1, 4, 2), (5, 2)])
def test_coefficients_that_fit_no_rows_are_refused(shape):
    message = rf"shape {torch.zeros(shape).shape}".replace("torch.Size([", r"\(").replace("])", r",?\)")
    for function in each_function(alpha=torch.full(shape, 0.5), beta=1.0):
        with pytest.raises(DistillError, match=rf"alpha has {message} but the rows have shape \(4, 2\)"):
            function()
    for function in each_function(alpha=0.5, beta=torch.ones(shape)):
        with pytest.raises(DistillError, match=rf"beta has {message} but the rows have shape \(4, 2\)"):
            function()


def test_shapes_that_disagree_are_both_named():
    one = {"alpha": 0.5, "beta": 1.0}
    with pytest.raises(
        DistillError, match=r"task_logits has shape \(4, 3\) but distilled_logits.*\(4, 2, 3\)"
    ):
        two_column_logits(TABLE, TABLE[:, 0], **one)
    with pytest.raises(DistillError, match=r"q has shape \(4, 2, 2\) but distilled_logits.*\(4, 2, 3\)"):
        soft_value(TABLE, TABLE[..., :2], **one)
    with pytest.raises(DistillError, match=r"distilled_log_probs has shape \(2,\) but rewards.*\(4, 2\)"):
        regularised_rewards(ROWS, ROWS[0], ROWS, **one)
    with pytest.raises(DistillError, match=r"task_log_probs has shape \(4, 1\) but rewards.*\(4, 2\)"):
        regularised_rewards(ROWS, ROWS, ROWS[:, :1], **one)
    with pytest.raises(
        DistillError, match=r"task_logits has shape \(1, 2, 3\) but distilled_logits.*\(4, 2, 3\)"
    ):
        distilled_policy_loss(TABLE[:1], TABLE, **one)
    with pytest.raises(DistillError, match=r"discounts has shape \(4, 1\) but distilled_logits.*\(4, 2, 3\)"):
        distilled_policy_loss(TABLE, TABLE, **one, discounts=ROWS[:, :1])
    with pytest.raises(DistillError, match=r"continues has shape \(3, 2\) but rewards has shape \(4, 2\)"):
        soft_q_targets(ROWS, ROWS, ROWS, ROWS, continues=ROWS[1:] > 0, n_step=1)
    with pytest.raises(DistillError, match=r"next_values has shape \(4, 1\) but rewards has shape \(4, 2\)"):
        soft_q_targets(ROWS, ROWS, ROWS[:, :1], ROWS, continues=ROWS > 0, n_step=1)
