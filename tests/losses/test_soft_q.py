"""Soft Q-learning's targets: by hand, against a slow oracle, and as far as soft value iteration."""

import pytest
import torch
from torch import Tensor

from rllib_distill.errors import DistillError
from rllib_distill.losses import regularised_rewards, soft_q_targets, soft_value, two_column_logits
from tests.losses import oracle

EXACT = {"rtol": 1e-12, "atol": 1e-12}


def test_targets_by_hand():
    """Four rows: an episode of three steps whose last terminates, and the first step of another."""
    rewards = torch.tensor([1.0, 2.0, 3.0, 4.0])
    discounts = torch.tensor([0.5, 0.5, 0.0, 0.5])
    next_values, q_taken = torch.tensor([10.0, 20.0, 30.0, 40.0]), torch.tensor([5.0, 6.0, 7.0, 8.0])
    continues = torch.tensor([True, True, False, True])
    # One step: [6, 12, 3, 24]; errors: [1, 6, -4, 16].
    for n_step, expected in {
        1: [6.0, 12.0, 3.0, 24.0],
        2: [6.0 + 0.5 * 6, 12.0 - 0.5 * 4, 3.0, 24.0],
        3: [6.0 + 0.5 * 6 - 0.25 * 4, 12.0 - 0.5 * 4, 3.0, 24.0],
        99: [6.0 + 0.5 * 6 - 0.25 * 4, 12.0 - 0.5 * 4, 3.0, 24.0],
    }.items():
        targets = soft_q_targets(rewards, discounts, next_values, q_taken, continues=continues, n_step=n_step)
        assert targets.tolist() == expected


def random_rows(steps: int = 12) -> tuple[dict[str, Tensor], Tensor]:
    """Rows of 2 tasks with 6 environments each, time first; episodes end often, at times by a time limit."""
    generator = torch.Generator().manual_seed(4)
    shape = (steps, 2, 6)
    names = ("rewards", "discounts", "next_values", "q_taken")
    rows = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name in names}
    ended, terminated = torch.rand(2, *shape, generator=generator) < 0.25
    rows["discounts"] = torch.where(terminated, 0.0, 0.9)
    return rows, ~(ended | terminated)


@pytest.mark.parametrize("n_step", [1, 2, 3, 10, 12, 50])
def test_targets_equal_the_oracle__catches_steps_across_the_end_of_an_episode(n_step):
    rows, continues = random_rows()
    targets = soft_q_targets(**rows, continues=continues, n_step=n_step)
    expected = torch.empty_like(targets)
    for task in range(2):
        for env in range(6):
            one = [table[:, task, env].tolist() for table in (*rows.values(), continues)]
            for t in range(12):
                expected[t, task, env] = oracle.soft_q_target(t, *one, n_step)
    torch.testing.assert_close(targets, expected, **EXACT)


def test_targets_know_nothing_of_what_is_between_episodes():
    rows, continues = random_rows()
    begins = torch.zeros_like(continues)
    begins[1:] = ~continues[:-1]  # take the rows after an end for those of an autoreset
    targets = soft_q_targets(**rows, continues=continues, n_step=5)
    garbage = {name: table.masked_fill(begins, float("nan")) for name, table in rows.items()}
    others = soft_q_targets(**garbage, continues=continues, n_step=5)
    assert torch.equal(others[~begins], targets[~begins])


def test_the_last_rows_continues_is_not_asked_for():
    rows, continues = random_rows()
    assert torch.equal(
        soft_q_targets(**rows, continues=continues, n_step=5),
        soft_q_targets(**rows, continues=continues.index_fill(0, torch.tensor([11]), True), n_step=5),
    )


def test_targets_carry_no_gradient():
    rows, continues = random_rows()
    rows = {name: table.requires_grad_() for name, table in rows.items()}
    assert not soft_q_targets(**rows, continues=continues, n_step=5).requires_grad


def test_no_steps_are_refused_and_no_rows_are_not():
    rows, continues = random_rows()
    with pytest.raises(DistillError, match=r"n_step is 0.*at least 1"):
        soft_q_targets(**rows, continues=continues, n_step=0)
    none = {name: table[:0] for name, table in rows.items()}
    assert soft_q_targets(**none, continues=continues[:0], n_step=3).shape == (0, 2, 6)


@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 5.0), (0.5, 5.0), (1.0, 2.0)])
def test_targets_are_discounted_sums_of_regularised_rewards(alpha, beta):
    """Path consistency: the best policy's log-probabilities are what the later steps add."""
    generator = torch.Generator().manual_seed(5)
    h, q = torch.randn(2, 6, 3, generator=generator, dtype=torch.float64)  # 6 states, one after another
    rewards, actions = torch.randn(5, generator=generator).double(), torch.tensor([0, 2, 1, 1, 0])
    steps, gamma = torch.arange(5), torch.tensor(0.9, dtype=torch.float64)
    values = soft_value(h, q, alpha=alpha, beta=beta)
    q_taken = q[steps, actions]
    targets = soft_q_targets(
        rewards,
        gamma.expand(5),
        values[1:],
        q_taken,
        continues=torch.ones(5, dtype=torch.bool),
        n_step=5,
    )
    log_policies = (h, two_column_logits(h, q, alpha=alpha, beta=beta))
    taken = [torch.log_softmax(logits, -1)[steps, actions] for logits in log_policies]
    regularised = regularised_rewards(rewards, *taken, alpha=alpha, beta=beta)
    later = (gamma ** steps[1:] * regularised[1:]).sum() + gamma**5 * values[5]
    torch.testing.assert_close(targets[0], rewards[0] + later, **EXACT)


# A room of 3 x 4 cells. The goal, in a corner, ends the episode; bumping into a wall costs and moves nobody.
ROWS, COLUMNS, GOAL, GAMMA = 3, 4, 11, 0.95
STATES, ACTIONS, TIME_LIMIT = ROWS * COLUMNS, 4, 9


def room() -> tuple[Tensor, Tensor]:
    """Rewards and next states, `(S, A)`."""
    rewards = torch.full((STATES, ACTIONS), -0.1, dtype=torch.float64)
    next_states = torch.empty(STATES, ACTIONS, dtype=torch.int64)
    for state in range(STATES):
        for action, (down, right) in enumerate([(-1, 0), (0, 1), (1, 0), (0, -1)]):
            row, column = state // COLUMNS + down, state % COLUMNS + right
            bumps = not (0 <= row < ROWS and 0 <= column < COLUMNS)
            next_state = state if bumps else row * COLUMNS + column
            next_states[state, action] = next_state
            rewards[state, action] += (next_state == GOAL) - 0.5 * bumps
    return rewards, next_states


class RandomWalkers:
    """64 environments with a uniform policy, which go on from one call of `walk` to the next."""

    def __init__(self, next_states: Tensor) -> None:
        self.next_states = next_states
        self.generator = torch.Generator().manual_seed(6)
        self.state, self.age = self.start(), torch.zeros(64, dtype=torch.int64)

    def start(self) -> Tensor:
        return torch.randint(GOAL, (64,), generator=self.generator)

    def walk(self, steps: int) -> list[Tensor]:
        """States, actions, next states and `continues`, each `(steps, 64)`."""
        rows = []
        for _ in range(steps):
            action = torch.randint(ACTIONS, (64,), generator=self.generator)
            next_state = self.next_states[self.state, action]
            self.age += 1
            ended = (next_state == GOAL) | (self.age == TIME_LIMIT)
            rows.append((self.state, action, next_state, ~ended))
            self.state = torch.where(ended, self.start(), next_state)
            self.age = torch.where(ended, 0, self.age)
        return [torch.stack(table) for table in zip(*rows, strict=True)]


def learnt_q(h: Tensor, alpha: float, beta: float, n_step: int) -> Tensor:
    """Q after 120 updates, each three tenths of the way to the targets' mean in every state and action."""
    rewards, next_states = room()
    walkers, q = RandomWalkers(next_states), torch.zeros(STATES, ACTIONS, dtype=torch.float64)
    for _ in range(120):
        states, actions, nexts, continues = walkers.walk(20)
        values = soft_value(h, q, alpha=alpha, beta=beta)
        targets = soft_q_targets(
            rewards[states, actions],
            torch.where(nexts == GOAL, 0.0, GAMMA).double(),
            values[nexts],
            q[states, actions],
            continues=continues,
            n_step=n_step,
        )
        pairs = (states * ACTIONS + actions).flatten()
        counts = torch.bincount(pairs, minlength=q.numel()).clamp(min=1)
        errors = torch.bincount(pairs, (targets - q[states, actions]).flatten(), minlength=q.numel())
        q = q + 0.3 * (errors / counts).view_as(q)
    return q


def iterated_q(h: Tensor, alpha: float, beta: float) -> Tensor:
    rewards, next_states = room()
    tables = rewards.tolist(), next_states.tolist()
    q = oracle.soft_value_iteration(*tables, GOAL, h.tolist(), alpha, beta, GAMMA)
    return torch.tensor(q, dtype=torch.float64)


@pytest.mark.parametrize("n_step", [1, 5])
@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 20.0), (0.5, 5.0), (1.0, 5.0)])
def test_a_random_walk_learns_what_soft_value_iteration_finds(alpha, beta, n_step):
    generator = torch.Generator().manual_seed(7)
    h = torch.randn(STATES, ACTIONS, generator=generator, dtype=torch.float64)
    learnt, found = learnt_q(h, alpha, beta, n_step), iterated_q(h, alpha, beta)
    assert found[:GOAL].abs().max() > 0.5  # there is something to learn
    torch.testing.assert_close(learnt[:GOAL], found[:GOAL], rtol=0.0, atol=1e-4)
