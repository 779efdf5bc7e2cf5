"""The losses descend Distral's objective: their gradient is that of equation (1), worked out exactly.

Two tasks are so small that the objective is worked out by dynamic programming, and what the losses expect by
a sum over all trajectories: neither knows of the other.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import pytest
import torch
from torch import Tensor

from rllib_distill.losses import (
    distilled_policy_loss,
    regularised_rewards,
    score_function_loss,
    two_column_logits,
)

TASKS, STATES, ACTIONS, STEPS = 2, 3, 3, 3
ALPHA, BETA, GAMMA = 0.6, 2.0, 0.8
COSTS = {"alpha": ALPHA, "beta": BETA}
SEQUENCES = [torch.tensor(list(product(range(size), repeat=STEPS))) for size in (STATES, ACTIONS)]
PAIRS = torch.cartesian_prod(*(torch.arange(len(rows)) for rows in SEQUENCES))
# Every trajectory: its states and its actions, each (729, 3).
TRAJECTORIES = [rows[chosen] for rows, chosen in zip(SEQUENCES, PAIRS.T, strict=True)]
DISCOUNTS = (GAMMA ** torch.arange(float(STEPS), dtype=torch.float64)).expand(len(PAIRS), STEPS)


@dataclass
class Worlds:
    """Two tasks that differ in all but the sizes; the first axis of each table is the task's."""

    start: Tensor  # (N, S) probabilities
    transitions: Tensor  # (N, S, A, S) probabilities
    rewards: Tensor  # (N, S, A)


def random_worlds() -> tuple[Worlds, Tensor, Tensor]:
    """The tasks, h (S, A) and f (N, S, A)."""
    generator = torch.Generator().manual_seed(8)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    worlds = Worlds(
        normal(TASKS, STATES).softmax(-1),
        normal(TASKS, STATES, ACTIONS, STATES).softmax(-1),
        normal(TASKS, STATES, ACTIONS),
    )
    return worlds, normal(STATES, ACTIONS).requires_grad_(), normal(TASKS, STATES, ACTIONS).requires_grad_()


def one_column(h: Tensor, f: Tensor) -> Tensor:
    return f


def two_columns(h: Tensor, f: Tensor) -> Tensor:
    return two_column_logits(h.expand_as(f), f, **COSTS)


def objective(worlds: Worlds, columns: Callable[[Tensor, Tensor], Tensor], h: Tensor, f: Tensor) -> Tensor:
    """J of equation (1), from the last step back to the first."""
    distilled, policy = torch.softmax(h, -1), torch.softmax(columns(h, f), -1)
    rewards = worlds.rewards + ALPHA / BETA * distilled.log() - policy.log() / BETA
    values = torch.zeros(TASKS, STATES, dtype=torch.float64)
    for _ in range(STEPS):
        q = rewards + GAMMA * torch.einsum("nsak,nk->nsa", worlds.transitions, values)
        values = (policy * q).sum(-1)
    return (worlds.start * values).sum()


def probabilities(worlds: Worlds, task: int, logits: Tensor) -> Tensor:
    """Of every trajectory of a task under softmax(logits), `(729,)`."""
    states, actions = TRAJECTORIES
    moves = worlds.transitions[task][states[:, :-1], actions[:, :-1], states[:, 1:]]
    choices = torch.softmax(logits, -1)[states, actions]
    return worlds.start[task][states[:, 0]] * moves.prod(-1) * choices.prod(-1)


def taken(logits: Tensor, actions: Tensor) -> Tensor:
    return torch.log_softmax(logits, -1).gather(-1, actions[..., None])[..., 0]


def expected_losses(
    worlds: Worlds, columns: Callable[[Tensor, Tensor], Tensor], h: Tensor, f: Tensor
) -> tuple[Tensor, Tensor]:
    """An actor-critic's two losses, of returns and of distillation: their expectations, summed over tasks."""
    logits = columns(h, f)
    states, actions = TRAJECTORIES
    of_returns, of_distillation = torch.zeros(2, dtype=torch.float64)
    for task in range(TASKS):
        weights = probabilities(worlds, task, logits[task]).detach()
        assert weights.sum().item() == pytest.approx(1.0)  # all trajectories are there
        own, distilled = logits[task][states], h[states]
        logs = taken(distilled, actions), taken(own, actions)
        regularised = regularised_rewards(worlds.rewards[task][states, actions], *logs, **COSTS)
        # (9): each step's return from then on, discounted from the episode's start.
        returns = (DISCOUNTS * regularised).flip(-1).cumsum(-1).flip(-1)
        of_returns = of_returns + weights @ score_function_loss(own, actions, returns).sum(-1)
        losses = distilled_policy_loss(own, distilled, **COSTS, discounts=DISCOUNTS)
        of_distillation = of_distillation + weights @ losses.sum(-1)
    return of_returns, of_distillation


EXACT = {"rtol": 1e-11, "atol": 1e-12}
each_kind = pytest.mark.parametrize("columns", [one_column, two_columns])


def gradients(result: Tensor, *parameters: Tensor) -> list[Tensor]:
    found = torch.autograd.grad(result, parameters, retain_graph=True, allow_unused=True)
    return [
        torch.zeros_like(p) if gradient is None else gradient
        for p, gradient in zip(parameters, found, strict=True)
    ]


@each_kind
def test_the_losses_expected_gradient_is_that_of_distrals_objective(columns):
    worlds, h, f = random_worlds()
    truth = gradients(objective(worlds, columns, h, f), h, f)
    of_losses = gradients(sum(expected_losses(worlds, columns, h, f)), h, f)
    for gradient, of_loss in zip(truth, of_losses, strict=True):
        torch.testing.assert_close(of_loss, -gradient, **EXACT)  # a loss goes down where J goes up
        assert gradient.abs().max() > 0.01


@each_kind
def test_the_objective_is_the_trajectories_mean_return_of_regularised_rewards(columns):
    worlds, h, f = random_worlds()
    logits, (states, actions) = columns(h, f), TRAJECTORIES
    mean = torch.zeros(())
    for task in range(TASKS):
        logs = taken(h[states], actions), taken(logits[task][states], actions)
        regularised = regularised_rewards(worlds.rewards[task][states, actions], *logs, **COSTS)
        mean = mean + probabilities(worlds, task, logits[task]) @ (DISCOUNTS * regularised).sum(-1)
    torch.testing.assert_close(objective(worlds, columns, h, f), mean, **EXACT)


def test_returns_move_pi_0_with_two_columns_and_not_with_one():
    worlds, h, f = random_worlds()
    with_one, _ = expected_losses(worlds, one_column, h, f)
    assert torch.autograd.grad(with_one, h, allow_unused=True) == (None,)
    with_two, _ = expected_losses(worlds, two_columns, h, f)
    (through_pi_i,) = torch.autograd.grad(with_two, h)
    assert through_pi_i.abs().max() > 0.01


@each_kind
def test_distillation_moves_pi_0_and_no_task(columns):
    worlds, h, f = random_worlds()
    _, distillation = expected_losses(worlds, columns, h, f)
    of_h, of_f = torch.autograd.grad(distillation, (h, f), allow_unused=True)
    assert of_h.abs().max() > 0.01 and of_f is None


def test_pi_0_is_best_as_the_tasks_mean_weighed_by_discounted_visits():
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
