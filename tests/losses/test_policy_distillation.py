from math import log

import pytest
import torch

from rllib_distill.losses import (
    DISTILLATION_LOSSES,
    distillation_kl_loss,
    distillation_mse_loss,
    distillation_nll_loss,
)

# softmax([log 3, 0]) = [3/4, 1/4] and softmax([0, 0]) = [1/2, 1/2]
EXPERT_Q = torch.tensor([[log(3.0), 0.0]])


def test_the_nll_is_that_of_the_experts_best_action():
    logits = torch.tensor([[0.0, log(3.0)]], requires_grad=True)
    loss = distillation_nll_loss(EXPERT_Q, logits)
    loss.sum().backward()
    torch.testing.assert_close(loss, torch.tensor([log(4.0)]))
    torch.testing.assert_close(logits.grad, torch.tensor([[0.25 - 1.0, 0.75]]))


def test_the_nll_looks_for_the_best_among_the_legal_actions():
    expert_q = torch.tensor([[9.0, 1.0, 2.0]])
    legal = torch.tensor([[False, True, True]])
    loss = distillation_nll_loss(expert_q, torch.tensor([[5.0, log(3.0), 0.0]]), legal_actions=legal)
    torch.testing.assert_close(loss, torch.tensor([log(4.0)]))


def test_the_mse_sums_over_actions():
    student_q = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    loss = distillation_mse_loss(torch.tensor([[0.0, 4.0, 0.0]]), student_q)
    loss.sum().backward()
    torch.testing.assert_close(loss, torch.tensor([14.0]))
    torch.testing.assert_close(student_q.grad, torch.tensor([[2.0, -4.0, 6.0]]))


def test_the_kl_runs_from_expert_to_student():
    logits = torch.zeros(1, 2, requires_grad=True)
    loss = distillation_kl_loss(EXPERT_Q, logits, tau=1.0)
    loss.sum().backward()
    torch.testing.assert_close(loss, torch.tensor([0.75 * log(1.5) + 0.25 * log(0.5)]))
    torch.testing.assert_close(logits.grad, torch.tensor([[0.5 - 0.75, 0.5 - 0.25]]))


def test_the_kl_is_zero_for_equal_policies():
    logits = torch.randn(8, 5)
    torch.testing.assert_close(distillation_kl_loss(logits - 3.0, logits, tau=1.0), torch.zeros(8))


@pytest.mark.parametrize("masked", [True, False])
def test_the_kl_becomes_the_nll_as_tau_goes_to_zero(masked):
    expert_q = torch.tensor([[0.3, 0.1, 0.2], [1.0, 3.0, 2.0]])
    logits = torch.tensor([[0.5, -1.0, 2.0], [0.0, 1.0, -2.0]])
    legal = torch.tensor([[False, True, True], [True, True, True]]) if masked else None
    nll = distillation_nll_loss(expert_q, logits, legal_actions=legal)
    gaps = [
        (distillation_kl_loss(expert_q, logits, tau=tau, legal_actions=legal) - nll).abs().max()
        for tau in (0.1, 0.03, 0.001)
    ]
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 1e-6


def test_the_table_tells_which_losses_take_a_temperature_and_which_compare_q_values():
    assert {name: loss.function for name, loss in DISTILLATION_LOSSES.items()} == {
        "kl": distillation_kl_loss,
        "nll": distillation_nll_loss,
        "mse": distillation_mse_loss,
    }
    assert [name for name, loss in DISTILLATION_LOSSES.items() if loss.takes_tau] == ["kl"]
    assert [name for name, loss in DISTILLATION_LOSSES.items() if loss.of_q_values] == ["mse"]
