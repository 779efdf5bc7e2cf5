"""The losses descend Distral's objective: their gradient is that of equation (1), worked out exactly."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from rllib_distill.losses import distilled_policy_loss, regularised_rewards, score_function_loss
from tests.losses.distral_process import (
    COSTS,
    DISCOUNTS,
    GAMMA,
    RIGHT,
    STATES,
    STEPS,
    TASKS,
    TRAJECTORIES,
    expected_losses,
    objective,
    one_column,
    probabilities,
    random_worlds,
    taken,
    two_columns,
)

EXACT = {"rtol": 1e-11, "atol": 1e-12}
each_kind = pytest.mark.parametrize("columns", [one_column, two_columns])


def gradients(result: Tensor, *parameters: Tensor) -> list[Tensor]:
    found = torch.autograd.grad(result, parameters, retain_graph=True, allow_unused=True)
    return [
        torch.zeros_like(p) if gradient is None else gradient
        for p, gradient in zip(parameters, found, strict=True)
    ]


@each_kind
def test_that_the_losses_expected_gradient_is_that_of_distrals_objective(columns):
    worlds, h, f = random_worlds()
    truth = gradients(objective(worlds, columns, h, f), h, f)
    of_losses = gradients(sum(expected_losses(worlds, columns, h, f)), h, f)
    for gradient, of_loss in zip(truth, of_losses, strict=True):
        torch.testing.assert_close(of_loss, -gradient, **EXACT)  # a loss goes down where J goes up
        assert gradient.abs().max() > 0.01


@each_kind
def test_that_the_objective_is_the_trajectories_mean_return_of_regularised_rewards(columns):
    worlds, h, f = random_worlds()
    logits, (states, actions) = columns(h, f), TRAJECTORIES
    mean = torch.zeros(())
    for task in range(TASKS):
        logs = taken(h[states], actions), taken(logits[task][states], actions)
        regularised = regularised_rewards(worlds.rewards[task][states, actions], *logs, **COSTS)
        mean = mean + probabilities(worlds, task, logits[task]) @ (DISCOUNTS * regularised).sum(-1)
    torch.testing.assert_close(objective(worlds, columns, h, f), mean, **EXACT)


def test_that_returns_move_pi_0_with_two_columns_and_not_with_one():
    worlds, h, f = random_worlds()
    with_one, _ = expected_losses(worlds, one_column, h, f)
    assert torch.autograd.grad(with_one, h, allow_unused=True) == (None,)
    with_two, _ = expected_losses(worlds, two_columns, h, f)
    (through_pi_i,) = torch.autograd.grad(with_two, h)
    assert through_pi_i.abs().max() > 0.01


@each_kind
def test_that_distillation_moves_pi_0_and_no_task(columns):
    worlds, h, f = random_worlds()
    _, distillation = expected_losses(worlds, columns, h, f)
    of_h, of_f = torch.autograd.grad(distillation, (h, f), allow_unused=True)
    assert of_h.abs().max() > 0.01 and of_f is None


def test_that_pi_0_is_best_as_the_tasks_mean_weighed_by_discounted_visits():
    """While the tasks' policies stay, both gradients are 0 at that mean: J's and the distillation's."""
    worlds, _, f = random_worlds()
    states, _ = TRAJECTORIES
    visits = torch.zeros(TASKS, STATES, dtype=torch.float64)
    for task in range(TASKS):
        weights = probabilities(worlds, task, f[task]).detach()[:, None] * DISCOUNTS
        visits[task] = torch.bincount(states.flatten(), weights.flatten(), minlength=STATES)
    weighed = (visits[..., None] * torch.softmax(f, -1)).sum(0) / visits.sum(0)[:, None]
    h = weighed.detach().log().requires_grad_()
    for result in (expected_losses(worlds, one_column, h, f)[1], objective(worlds, one_column, h, f)):
        (gradient,) = gradients(result, h)
        torch.testing.assert_close(gradient, torch.zeros_like(h), rtol=0.0, atol=1e-12)


def with_gradient(rewards, distilled, task, *, alpha, beta):
    return rewards + alpha / beta * distilled - task / beta


def with_entropy_bonus(rewards, distilled, task, *, alpha, beta):
    return regularised_rewards(rewards, distilled, task, alpha=alpha, beta=beta) - task / beta


def with_beta_for_its_inverse(rewards, distilled, task, *, alpha, beta):
    return regularised_rewards(rewards, distilled, task, alpha=alpha, beta=1 / beta)


def without_pi_0(rewards, distilled, task, *, alpha, beta):
    return regularised_rewards(rewards, distilled, task, alpha=0.0, beta=beta)


def of_all_pairs(logits, actions, advantages):
    """policy(s)[:, actions]: each state's log-probability of every row's action."""
    log_policy = torch.log_softmax(logits, -1)
    pairs = log_policy.gather(-1, actions[:, None].expand(-1, STEPS, -1))
    return -pairs.mean(-1) * advantages.detach()


def without_score_function(logits, actions, returns):
    return -returns


def beside_the_score_function(logits, actions, returns):
    """The return from the first step on is differentiated too; once, hence divided by the steps summed."""
    return score_function_loss(logits, actions, returns) - returns[..., :1] / STEPS


def reverse_kl(task_logits, h, *, alpha, beta, discounts):
    log_ratio = torch.log_softmax(h, -1) - torch.log_softmax(task_logits.detach(), -1)
    return alpha / beta * discounts * (torch.softmax(h, -1) * log_ratio).sum(-1)


def without_stop_gradient(task_logits, h, *, alpha, beta, discounts):
    policy = torch.softmax(task_logits, -1)
    return -alpha / beta * discounts * (policy * torch.log_softmax(h, -1)).sum(-1)


def without_scale(task_logits, h, *, alpha, beta, discounts):
    return distilled_policy_loss(task_logits, h, alpha=1.0, beta=1.0, discounts=discounts)


MISTAKES = {
    "log_pi_0_of_its_own_action": replace(RIGHT, distilled_actions=lambda actions, h: h.argmax(-1)),
    "gradient_through_rewards_and_distillation": replace(
        RIGHT, rewards=with_gradient, score_function=beside_the_score_function
    ),
    "entropy_bonus_beside_the_rewards": replace(RIGHT, rewards=with_entropy_bonus),
    "beta_for_1_over_beta": replace(RIGHT, rewards=with_beta_for_its_inverse),
    "no_pi_0_in_the_returns": replace(RIGHT, rewards=without_pi_0),
    "all_pairs_instead_of_gather": replace(RIGHT, score_function=of_all_pairs),
    "rewards_without_score_function": replace(
        RIGHT, rewards=with_gradient, score_function=without_score_function
    ),
    "reverse_kl": replace(RIGHT, distillation=reverse_kl),
    "pi_i_learns_from_distillation": replace(RIGHT, distillation=without_stop_gradient),
    "alpha_over_beta_dropped": replace(RIGHT, distillation=without_scale),
    "discounts_that_start_at_gamma": replace(RIGHT, distillation_discounts=GAMMA * DISCOUNTS),
    "no_discounts": replace(RIGHT, distillation_discounts=torch.ones_like(DISCOUNTS)),
    "one_tasks_states_only": replace(RIGHT, tasks_distilled=(0,)),
}


@each_kind
@pytest.mark.parametrize("mistake", MISTAKES)
def test_that_the_objectives_gradient_catches(mistake, columns):
    worlds, h, f = random_worlds()
    truth = gradients(objective(worlds, columns, h, f), h, f)
    of_losses = gradients(sum(expected_losses(worlds, columns, h, f, MISTAKES[mistake])), h, f)
    errors = [(gradient + loss).abs().max() for gradient, loss in zip(truth, of_losses, strict=True)]
    assert max(errors) > 1e-3
