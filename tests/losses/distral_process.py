"""Two tasks small enough to work out Distral's objective, and what its losses expect of every trajectory.

The objective is worked out by dynamic programming, the expectation by a sum over all trajectories: neither
knows of the other.
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
