from math import log

import pytest
import torch

from rllib_distill.errors import DistillError
from rllib_distill.losses import feature_regression_loss, policy_regression_loss

# softmax([log 3, 0]) = [3/4, 1/4] and softmax([0, 0]) = [1/2, 1/2]
EXPERT_Q = torch.tensor([[log(3.0), 0.0]])
LOGITS = torch.zeros(1, 2)


def test_the_policy_loss_is_a_cross_entropy_with_its_minus_sign():
    logits = LOGITS.clone().requires_grad_()
    loss = policy_regression_loss(EXPERT_Q, logits)
    loss.sum().backward()
    torch.testing.assert_close(loss, torch.tensor([log(2.0)]))
    torch.testing.assert_close(logits.grad, torch.tensor([[0.5 - 0.75, 0.5 - 0.25]]))


def test_tau_divides_the_experts_q_alone():
    logits = torch.tensor([[log(3.0), 0.0]], requires_grad=True)
    policy_regression_loss(EXPERT_Q, logits, tau=0.5).sum().backward()
    # The expert's policy is [9, 1] / 10; the student's stays at [3, 1] / 4.
    torch.testing.assert_close(logits.grad, torch.tensor([[0.75 - 0.9, 0.25 - 0.1]]))


def test_a_student_equal_to_its_expert_has_no_gradient_left():
    logits = EXPERT_Q.clone().requires_grad_()
    policy_regression_loss(EXPERT_Q, logits).sum().backward()
    torch.testing.assert_close(logits.grad, torch.zeros(1, 2))


def test_the_feature_loss_is_the_papers_squared_norm_without_a_half():
    predicted = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    loss = feature_regression_loss(predicted, torch.tensor([[0.0, 4.0, 0.0]]))
    loss.sum().backward()
    torch.testing.assert_close(loss, torch.tensor([1.0 + 4.0 + 9.0]))
    torch.testing.assert_close(predicted.grad, torch.tensor([[2.0, -4.0, 6.0]]))


def test_features_of_two_sizes_are_refused():
    with pytest.raises(DistillError, match=r"expert_features has shape \(2, 5\).*\(2, 4\)"):
        feature_regression_loss(torch.zeros(2, 4), torch.zeros(2, 5))


def test_no_gradient_reaches_the_experts_features():
    predicted = torch.ones(2, 3, requires_grad=True)
    expert = torch.zeros(2, 3, requires_grad=True)
    feature_regression_loss(predicted, expert).sum().backward()
    assert expert.grad is None
    assert predicted.grad is not None
