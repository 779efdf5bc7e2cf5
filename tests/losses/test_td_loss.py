import pytest
import torch

from rllib_distill.errors import DistillError
from rllib_distill.losses import double_q_target, q_learning_target, td_loss

REWARDS = torch.tensor([1.0, -2.0])
DISCOUNTS = torch.tensor([0.5, 0.0])  # The second sample's next state is terminal.
NEXT_Q_TARGET = torch.tensor([[10.0, 20.0, 30.0], [7.0, 8.0, 9.0]])
NEXT_Q_ONLINE = torch.tensor([[3.0, 2.0, 1.0], [0.0, 1.0, 0.0]])
LEGAL = torch.tensor([[True, True, False], [True, True, True]])


def test_q_learning_takes_the_best_next_value_and_nothing_after_the_end():
    target = q_learning_target(REWARDS, DISCOUNTS, NEXT_Q_TARGET)
    assert torch.equal(target, torch.tensor([1.0 + 0.5 * 30.0, -2.0]))


def test_q_learning_takes_the_best_legal_value():
    target = q_learning_target(REWARDS, DISCOUNTS, NEXT_Q_TARGET, legal_actions=LEGAL)
    assert torch.equal(target, torch.tensor([1.0 + 0.5 * 20.0, -2.0]))


def test_double_q_values_the_online_networks_choice_by_the_target_network():
    target = double_q_target(REWARDS, DISCOUNTS, NEXT_Q_TARGET, NEXT_Q_ONLINE)
    assert torch.equal(target, torch.tensor([1.0 + 0.5 * 10.0, -2.0]))


def test_double_q_chooses_among_legal_actions():
    legal = torch.tensor([[False, True, True], [True, True, True]])
    target = double_q_target(REWARDS, DISCOUNTS, NEXT_Q_TARGET, NEXT_Q_ONLINE, legal_actions=legal)
    assert torch.equal(target, torch.tensor([1.0 + 0.5 * 20.0, -2.0]))


@pytest.mark.parametrize("target_fn", [q_learning_target, double_q_target])
def test_illegal_actions_never_win_however_low_the_legal_ones(target_fn):
    low = torch.full((2, 3), -1e6)
    low[~LEGAL] = 1e6
    networks = (low,) if target_fn is q_learning_target else (low, low)
    target = target_fn(REWARDS, DISCOUNTS, *networks, legal_actions=LEGAL)
    assert torch.equal(target, torch.tensor([1.0 - 0.5e6, -2.0]))


@pytest.mark.parametrize("target_fn", [q_learning_target, double_q_target])
def test_targets_carry_no_gradient(target_fn):
    next_q = NEXT_Q_TARGET.clone().requires_grad_()
    networks = (next_q,) if target_fn is q_learning_target else (next_q, next_q)
    assert not target_fn(REWARDS, DISCOUNTS, *networks).requires_grad


Q = torch.tensor([[5.0, 1.0], [2.0, 3.0], [0.0, 4.0]])
ACTIONS = torch.tensor([1, 0, 1])
TARGETS = torch.tensor([1.5, 2.0, 1.0])  # Errors of the actions taken: -0.5, 0, 3.


@pytest.mark.parametrize(
    ("huber_delta", "losses", "errors"),
    [
        (None, [0.125, 0.0, 4.5], [-0.5, 0.0, 3.0]),
        (1.0, [0.125, 0.0, 2.5], [-0.5, 0.0, 1.0]),
        (2.0, [0.125, 0.0, 4.0], [-0.5, 0.0, 2.0]),
    ],
)
def test_td_loss_and_its_gradient_at_the_actions_taken(huber_delta, losses, errors):
    q = Q.clone().requires_grad_()
    loss = td_loss(q, ACTIONS, TARGETS, huber_delta=huber_delta)
    loss.sum().backward()
    torch.testing.assert_close(loss, torch.tensor(losses))
    expected = torch.zeros(3, 2)
    expected[torch.arange(3), ACTIONS] = torch.tensor(errors)
    torch.testing.assert_close(q.grad, expected)


@pytest.mark.parametrize("huber_delta", [None, 1.0])
def test_no_gradient_reaches_the_targets(huber_delta):
    q, targets = Q.clone().requires_grad_(), TARGETS.clone().requires_grad_()
    td_loss(q, ACTIONS, targets, huber_delta=huber_delta).sum().backward()
    assert targets.grad is None


@pytest.mark.parametrize("huber_delta", [None, 1.0])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_actions_may_be_of_any_integer_type_and_values_large(huber_delta, dtype):
    q = (1e6 * Q.sign()).requires_grad_()
    loss = td_loss(q, ACTIONS.to(dtype), -q.detach()[:, 0], huber_delta=huber_delta)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert q.grad.isfinite().all()


def test_shapes_that_disagree_are_both_named():
    with pytest.raises(DistillError, match=r"targets has shape \(3, 1\) but q has shape \(3, 2\)"):
        td_loss(Q, ACTIONS, TARGETS.unsqueeze(-1), huber_delta=None)
    with pytest.raises(DistillError, match=r"rewards has shape \(3,\) but next_q_target has shape \(2, 3\)"):
        q_learning_target(TARGETS, DISCOUNTS, NEXT_Q_TARGET)
    with pytest.raises(DistillError, match=r"next_q_online has shape \(2, 2\).*\(2, 3\)"):
        double_q_target(REWARDS, DISCOUNTS, NEXT_Q_TARGET, NEXT_Q_ONLINE[:, :2])
    with pytest.raises(DistillError, match=r"legal_actions has shape \(1, 3\).*\(2, 3\)"):
        q_learning_target(REWARDS, DISCOUNTS, NEXT_Q_TARGET, legal_actions=LEGAL[:1])
