"""The losses descend Distral's objective: their gradient is that of equation (1), worked out exactly.

Two tasks are so small that the objective is worked out by dynamic programming, and what the losses expect by
a sum over all trajectories: neither knows of the other.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class ActorCritic:
    """The two losses of one task's trajectories, put together as an actor-critic does; parts can be changed.

    All tables are `(729, 3, ...)`; h and the logits are those of the states visited.
    """

    rewards: Callable[..., Tensor] = regularised_rewards
    distilled_actions: Callable[[Tensor, Tensor], Tensor] = lambda actions, h: actions
    score_function: Callable[..., Tensor] = score_function_loss
    distillation: Callable[..., Tensor] = distilled_policy_loss
    distillation_discounts: Tensor = DISCOUNTS
    tasks_distilled: tuple[int, ...] = (0, 1)

    def returns_part(self, rewards: Tensor, actions: Tensor, logits: Tensor, h: Tensor) -> Tensor:
        """-log pi_i times the return from its step on, discounted from the episode's start: (9)."""
        distilled = taken(h, self.distilled_actions(actions, h))
        regularised = self.rewards(rewards, distilled, taken(logits, actions), **COSTS)
        returns = (DISCOUNTS * regularised).flip(-1).cumsum(-1).flip(-1)
        return self.score_function(logits, actions, returns).sum(-1)

    def distillation_part(self, logits: Tensor, h: Tensor) -> Tensor:
        return self.distillation(logits, h, **COSTS, discounts=self.distillation_discounts).sum(-1)


RIGHT = ActorCritic()


def expected_losses(
    worlds: Worlds,
    columns: Callable[[Tensor, Tensor], Tensor],
    h: Tensor,
    f: Tensor,
    actor_critic: ActorCritic = RIGHT,
) -> tuple[Tensor, Tensor]:
    """Both parts' expectations under the tasks' policies, summed over tasks."""
    logits = columns(h, f)
    states, actions = TRAJECTORIES
    returns, distillation = torch.zeros(2, dtype=torch.float64)
    for task in range(TASKS):
        weights = probabilities(worlds, task, logits[task]).detach()
        assert weights.sum().item() == pytest.approx(1.0)  # all trajectories are there
        rewards = worlds.rewards[task][states, actions]
        rows = logits[task][states], h[states]
        returns = returns + weights @ actor_critic.returns_part(rewards, actions, *rows)
        if task in actor_critic.tasks_distilled:
            distillation = distillation + weights @ actor_critic.distillation_part(*rows)
    return returns, distillation


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
def test_the_objectives_gradient_catches(mistake, columns):
    worlds, h, f = random_worlds()
    truth = gradients(objective(worlds, columns, h, f), h, f)
    of_losses = gradients(sum(expected_losses(worlds, columns, h, f, MISTAKES[mistake])), h, f)
    errors = [(gradient + loss).abs().max() for gradient, loss in zip(truth, of_losses, strict=True)]
    assert max(errors) > 1e-3
