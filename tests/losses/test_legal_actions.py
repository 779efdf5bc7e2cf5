"""What holds for each loss of two `(B, A)` tables: masks, gradients, large values, shapes."""

from functools import partial, update_wrapper

import pytest
import torch
from torch import Tensor

from rllib_distill.losses import (
    distillation_kl_loss,
    distillation_mse_loss,
    distillation_nll_loss,
    expected_cross_entropy_loss,
    policy_regression_loss,
)

# This one's temperature has no default.
expected_loss = update_wrapper(partial(expected_cross_entropy_loss, tau=1.0), expected_cross_entropy_loss)
TEMPERED = [policy_regression_loss, distillation_kl_loss, expected_loss]
LOSSES = [*TEMPERED, distillation_nll_loss, distillation_mse_loss]
each_loss = pytest.mark.parametrize("loss_fn", LOSSES, ids=lambda loss_fn: loss_fn.__name__)
each_tempered_loss = pytest.mark.parametrize("loss_fn", TEMPERED, ids=lambda loss_fn: loss_fn.__name__)

LEGAL = torch.tensor([True, False, True, True, False]).expand(7, 5)


def tables(scale: float = 1.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return scale * torch.randn(7, 5, generator=generator), torch.randn(7, 5, generator=generator)


@each_loss
def test_that_a_masked_result_equals_the_result_on_the_subset(loss_fn):
    expert, student = tables()
    student.requires_grad_()
    masked = loss_fn(expert, student, legal_actions=LEGAL)
    (masked_gradient,) = torch.autograd.grad(masked.sum(), student)
    subset = loss_fn(expert[:, LEGAL[0]], student[:, LEGAL[0]])
    (subset_gradient,) = torch.autograd.grad(subset.sum(), student)
    torch.testing.assert_close(masked, subset)
    torch.testing.assert_close(masked_gradient, subset_gradient)


@each_loss
def test_that_a_mask_of_all_actions_changes_nothing(loss_fn):
    expert, student = tables()
    everything = torch.ones(7, 5, dtype=torch.bool)
    assert torch.equal(loss_fn(expert, student, legal_actions=everything), loss_fn(expert, student))


@each_loss
@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_that_illegal_actions_get_exactly_no_gradient(loss_fn, scale):
    expert, student = tables(scale)
    student = (scale * student).requires_grad_()
    loss_fn(expert, student, legal_actions=LEGAL).sum().backward()
    assert torch.equal(student.grad[~LEGAL], torch.zeros(14))
    # A student as sure as that has no other action left in its expectations.
    assert student.grad[LEGAL].any() or (loss_fn is expected_loss and scale == 1e6)


@each_loss
@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_that_values_at_illegal_actions_do_not_leak(loss_fn, garbage):
    expert, student = tables()
    clean = loss_fn(expert, student, legal_actions=LEGAL)
    expert, student = expert.masked_fill(~LEGAL, garbage), student.masked_fill(~LEGAL, garbage)
    student.requires_grad_()
    loss = loss_fn(expert, student, legal_actions=LEGAL)
    loss.sum().backward()
    assert torch.equal(loss, clean)
    assert torch.equal(student.grad[~LEGAL], torch.zeros(14))
    assert student.grad.isfinite().all()


@each_loss
def test_that_one_legal_action_leaves_nothing_to_learn_but_its_value(loss_fn):
    expert, student = tables()
    student.requires_grad_()
    only_first = torch.zeros(7, 5, dtype=torch.bool)
    only_first[:, 0] = True
    loss = loss_fn(expert, student, legal_actions=only_first)
    loss.sum().backward()
    difference = student[:, 0] - expert[:, 0]
    is_mse = loss_fn is distillation_mse_loss
    torch.testing.assert_close(loss, difference.square() if is_mse else torch.zeros(7))
    torch.testing.assert_close(student.grad[:, 0], 2 * difference if is_mse else torch.zeros(7))


@each_loss
def test_that_no_gradient_reaches_the_expert(loss_fn):
    expert, student = tables()
    expert.requires_grad_()
    student.requires_grad_()
    loss_fn(expert, student, legal_actions=LEGAL).sum().backward()
    assert expert.grad is None
    assert student.grad is not None


@each_loss
@pytest.mark.parametrize("legal", [None, LEGAL], ids=["all legal", "masked"])
@pytest.mark.parametrize("signs", [(1, 1), (1, -1), (-1, 1), (-1, -1)])
def test_that_outputs_of_a_million_stay_finite_at_a_tiny_temperature(loss_fn, legal, signs):
    expert, student = tables()
    expert = 1e6 * signs[0] * expert.sign()
    student = (1e6 * signs[1] * student.sign()).requires_grad_()
    tau = {"tau": 1e-3} if loss_fn in TEMPERED else {}
    loss = loss_fn(expert, student, legal_actions=legal, **tau)
    loss.sum().backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite().all()
    assert student.grad.isfinite().all()


@each_tempered_loss
def test_that_a_large_offset_of_q_does_not_blur_a_small_temperature(loss_fn):
    # 4096 + k / 1024 is exact in float32; divided by tau it is 1.4 million, where float32 knows eighths only.
    steps = torch.arange(5).repeat(7, 1) / 1024
    _, student = tables()
    torch.testing.assert_close(loss_fn(4096 + steps, student, tau=3e-3), loss_fn(steps, student, tau=3e-3))


@each_loss
@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((4, 6), (4, 5), None), r"student_\w+ has shape \(4, 5\) but expert_q has shape \(4, 6\)"),
        (((4, 6), (4, 6), (4, 3)), r"legal_actions has shape \(4, 3\) but expert_q has shape \(4, 6\)"),
        (((4, 6), (4, 6), (6,)), r"legal_actions has shape \(6,\) but expert_q has shape \(4, 6\)"),
        (((4, 6), (1, 6), None), r"student_\w+ has shape \(1, 6\) but expert_q has shape \(4, 6\)"),
    ],
)
def test_that_shapes_that_disagree_are_both_named(loss_fn, shapes, message):
    expert, student, legal = shapes
    mask = None if legal is None else torch.ones(legal, dtype=torch.bool)
    with pytest.raises(ValueError, match=message):
        loss_fn(torch.zeros(expert), torch.zeros(student), legal_actions=mask)


@each_loss
def test_that_derivatives_equal_finite_differences(loss_fn):
    expert, student = tables()
    assert torch.autograd.gradcheck(
        lambda z: loss_fn(expert.double(), z, legal_actions=LEGAL), student.double().requires_grad_()
    )
