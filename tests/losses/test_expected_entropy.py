"""Expected entropy regularised distillation: by hand, and as the gradient that it claims to be."""

from itertools import product
from math import log

import pytest
import torch
from torch import Tensor

from rllib_distill.errors import DistillError
from rllib_distill.losses import (
    expected_cross_entropy_loss,
    expert_log_likelihood,
    score_function_loss,
)

# softmax([log 3, 0]) = [3/4, 1/4] and softmax([0, 0]) = [1/2, 1/2]
EXPERT_Q = torch.tensor([[log(3.0), 0.0]])


def test_the_likelihood_is_the_experts_of_the_action_taken():
    expert_q = EXPERT_Q.expand(2, 2).clone().requires_grad_()
    likelihood = expert_log_likelihood(expert_q, torch.tensor([0, 1]), tau=1.0)
    torch.testing.assert_close(likelihood, torch.tensor([log(0.75), log(0.25)]))
    assert not likelihood.requires_grad
    # At half the temperature the expert's policy is [9, 1] / 10.
    sharper = expert_log_likelihood(expert_q, torch.tensor([0, 1], dtype=torch.uint8), tau=0.5)
    torch.testing.assert_close(sharper, torch.tensor([log(0.9), log(0.1)]))


def test_only_legal_actions_share_the_experts_likelihood():
    expert_q, legal = torch.tensor([[log(3.0), 9.0, 0.0]]), torch.tensor([[True, False, True]])
    likelihood = expert_log_likelihood(expert_q, torch.tensor([2]), tau=1.0, legal_actions=legal)
    torch.testing.assert_close(likelihood, torch.tensor([log(0.25)]))


@pytest.mark.parametrize("tau", [1e-3, 0.01, 1.0, 1e3])
@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), -1e30, 0.0])
def test_the_likelihood_of_the_worst_action_is_finite(tau, garbage):
    expert_q = torch.tensor([[1e6, -1e6, garbage], [0.0, 5.0, garbage]])
    legal = torch.tensor([True, True, False]).expand(2, 3)
    likelihood = expert_log_likelihood(expert_q, torch.tensor([1, 0]), tau=tau, legal_actions=legal)
    assert likelihood.isfinite().all() and (likelihood <= 0).all()
    torch.testing.assert_close(likelihood[0], torch.tensor(-2e6 / tau))


def test_the_cross_entropy_runs_from_student_to_expert():
    logits = torch.zeros(1, 2, requires_grad=True)
    loss = expected_cross_entropy_loss(EXPERT_Q, logits, tau=1.0)
    loss.sum().backward()
    costs = -log(0.75), -log(0.25)
    torch.testing.assert_close(loss, torch.tensor([0.5 * costs[0] + 0.5 * costs[1]]))
    # pi_S(a) (cost(a) - loss), with both probabilities a half: a quarter of the costs' difference, log 3.
    torch.testing.assert_close(logits.grad, torch.tensor([[-0.25 * log(3.0), 0.25 * log(3.0)]]))


def test_the_score_function_pushes_the_action_taken_by_its_advantage():
    logits = torch.tensor([[log(3.0), 0.0], [log(3.0), 0.0]], requires_grad=True)
    advantages = torch.tensor([2.0, -1.0], requires_grad=True)
    loss = score_function_loss(logits, torch.tensor([1, 0]), advantages)
    loss.sum().backward()
    torch.testing.assert_close(loss, torch.tensor([2 * log(4.0), log(0.75)]))
    expected = torch.tensor([[2 * 0.75, 2 * (0.25 - 1.0)], [-(0.75 - 1.0), -0.25]])
    torch.testing.assert_close(logits.grad, expected)
    assert advantages.grad is None


@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), 1e30])
def test_illegal_actions_have_no_part_in_the_score_function(garbage):
    legal = torch.tensor([[True, False, True]])
    logits = torch.tensor([[log(3.0), garbage, 0.0]], requires_grad=True)
    loss = score_function_loss(logits, torch.tensor([2]), torch.tensor([1.0]), legal_actions=legal)
    loss.sum().backward()
    torch.testing.assert_close(loss, torch.tensor([log(4.0)]))
    torch.testing.assert_close(logits.grad, torch.tensor([[0.75, 0.0, 0.25 - 1.0]]))
    assert logits.grad[0, 1] == 0.0


# A decision process small enough to write out: 3 states, 3 actions (state 1 has 2), 3 steps.
STATES, ACTIONS, STEPS, TAU = 3, 3, 3, 0.5
LEGAL = torch.tensor([[True, True, True], [True, False, True], [True, True, True]])


def random_process() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Start (S,), transitions (S, A, S), the expert's Q (S, A) and the student's logits (S, A), float64."""
    generator = torch.Generator().manual_seed(5)
    start, transitions, expert_q, logits = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((STATES,), (STATES, ACTIONS, STATES), (STATES, ACTIONS), (STATES, ACTIONS))
    )
    return start.softmax(0), transitions.softmax(-1), expert_q, logits.requires_grad_()


def probabilities(scores: Tensor) -> Tensor:
    """A softmax over the legal actions, written out."""
    weights = scores.exp() * LEGAL
    return weights / weights.sum(-1, keepdim=True)


def trajectories(start, transitions, logits):
    """Probability, differentiable, with the states and the actions of each that can happen."""
    policy = probabilities(logits)
    for states in product(range(STATES), repeat=STEPS):
        for actions in product(range(ACTIONS), repeat=STEPS):
            if all(LEGAL[s, a] for s, a in zip(states, actions, strict=True)):
                probability = start[states[0]]
                for t, (state, action) in enumerate(zip(states, actions, strict=True)):
                    probability = probability * policy[state, action]
                    if t + 1 < STEPS:
                        probability = probability * transitions[state, action, states[t + 1]]
                yield probability, torch.tensor(states), torch.tensor(actions)


def test_the_losses_expected_gradient_is_that_of_the_experts_likelihood():
    start, transitions, expert_q, logits = random_process()
    expert_logs = probabilities(expert_q / TAU).log()
    objective, expected_loss, total = 0.0, 0.0, 0.0
    for probability, states, actions in trajectories(start, transitions, logits):
        objective = objective - probability * expert_logs[states, actions].sum()
        legal = LEGAL[states]
        rewards = expert_log_likelihood(expert_q[states], actions, tau=TAU, legal_actions=legal)
        later = torch.stack([rewards[t + 1 :].sum() for t in range(STEPS)])
        now = expected_cross_entropy_loss(expert_q[states], logits[states], tau=TAU, legal_actions=legal)
        future = score_function_loss(logits[states], actions, later, legal_actions=legal)
        expected_loss = expected_loss + probability.detach() * (now + future).sum()
        total += probability.item()
    assert total == pytest.approx(1.0)  # all trajectories are there
    (gradient,) = torch.autograd.grad(objective, logits)
    (of_losses,) = torch.autograd.grad(expected_loss, logits)
    torch.testing.assert_close(of_losses, gradient, rtol=1e-12, atol=1e-12)
    assert gradient[LEGAL].abs().min() > 1e-3 and of_losses[~LEGAL].eq(0.0).all()


def test_shapes_that_disagree_are_both_named():
    table, row, legal = torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64), torch.ones(4, 2) > 0
    with pytest.raises(DistillError, match=r"actions has shape \(4, 1\) but expert_q has shape \(4, 3\)"):
        expert_log_likelihood(table, row[:, None], tau=1.0)
    with pytest.raises(DistillError, match=r"legal_actions has shape \(4, 2\).*expert_q.*\(4, 3\)"):
        expert_log_likelihood(table, row, tau=1.0, legal_actions=legal)
    with pytest.raises(DistillError, match=r"advantages has shape \(3,\) but student_logits.*\(4, 3\)"):
        score_function_loss(table, row, torch.zeros(3))
    with pytest.raises(DistillError, match=r"legal_actions has shape \(4, 2\).*student_logits.*\(4, 3\)"):
        score_function_loss(table, row, torch.zeros(4), legal_actions=legal)
