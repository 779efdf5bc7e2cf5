"""Every distillation loss: the oracle's values and gradients, masks, several axes, large values, shapes."""

from functools import partial, update_wrapper

import pytest
import torch
from torch import Tensor

from rllib_distill.errors import DistillError
from rllib_distill.losses import (
    distillation_kl_loss,
    distillation_mse_loss,
    distillation_nll_loss,
    double_q_target,
    expected_cross_entropy_loss,
    expert_log_likelihood,
    feature_regression_loss,
    policy_regression_loss,
    q_learning_target,
    score_function_loss,
    td_loss,
)
from tests.losses import oracle

# This one's temperature has no default.
expected_loss = update_wrapper(partial(expected_cross_entropy_loss, tau=1.0), expected_cross_entropy_loss)
ORACLES = {
    policy_regression_loss: oracle.policy_regression,
    distillation_kl_loss: oracle.kl,
    expected_loss: oracle.expected_cross_entropy,
    distillation_nll_loss: oracle.nll,
    distillation_mse_loss: oracle.squared_distance,
}
TEMPERED = [policy_regression_loss, distillation_kl_loss, expected_loss]
each_loss = pytest.mark.parametrize("loss_fn", ORACLES, ids=lambda loss_fn: loss_fn.__name__)
each_tempered_loss = pytest.mark.parametrize("loss_fn", TEMPERED, ids=lambda loss_fn: loss_fn.__name__)

LEGAL = torch.tensor([True, False, True, True, False]).expand(7, 5)


def tables() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(7, 5, generator=generator), torch.randn(7, 5, generator=generator)


def sample(q_scale: float, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Expert's outputs, student's outputs and legal actions of 64 samples; the first 6 have one legal one."""
    generator = torch.Generator().manual_seed(0)
    expert = q_scale * torch.randn(64, 6, generator=generator, dtype=dtype)
    student = 2 * torch.randn(64, 6, generator=generator, dtype=dtype)
    legal = torch.rand(64, 6, generator=generator) < 0.6
    legal[torch.arange(64), torch.randint(6, (64,), generator=generator)] = True
    legal[:6] = torch.eye(6, dtype=torch.bool)
    return expert, student, legal


def assert_close(actual, expected, factor=1.0):
    """1e-5 relative; the 2e-7 is one rounding of a float32 probability, which its logarithm cannot undo."""
    absolute = factor * (2e-7 if actual.dtype == torch.float32 else 1e-12)
    expected = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=absolute)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("q_scale", [1.0, 50.0])
@pytest.mark.parametrize(
    ("loss_fn", "tau"),
    [(loss_fn, tau) for loss_fn in TEMPERED for tau in (0.01, 0.1, 1.0, 10.0)]
    + [(distillation_nll_loss, None), (distillation_mse_loss, None)],
)
def test_loss_and_gradient_equal_the_oracle(loss_fn, tau, q_scale, masked, dtype):
    expert, student, legal = sample(q_scale, dtype)
    if not masked:
        legal = torch.ones_like(legal)
    temperature = {} if tau is None else {"tau": tau}
    student.requires_grad_()

    loss = loss_fn(expert, student, legal_actions=legal if masked else None, **temperature)
    loss.sum().backward()

    rows = zip(expert.tolist(), student.tolist(), legal.tolist(), strict=True)
    expected = [ORACLES[loss_fn](*row, **temperature) for row in rows]
    assert loss.shape == (64,)
    assert loss.dtype == dtype
    # This loss multiplies the student's probabilities, with their rounding, by the expert's logarithms:
    # at most the distance of Q-values / tau, and log 6 for as many actions.
    spread = (expert.max() - expert.min()).item()
    factor = spread / tau + 2.0 if loss_fn is expected_loss else 1.0
    assert_close(loss, [value for value, _ in expected], factor)
    assert_close(student.grad, [gradient for _, gradient in expected], factor)


def test_the_feature_loss_equals_the_oracle():
    expert, student, _ = sample(3.0, torch.float32)
    student.requires_grad_()
    loss = feature_regression_loss(student, expert)
    loss.sum().backward()
    rows = zip(expert.tolist(), student.tolist(), strict=True)
    expected = [oracle.squared_distance(*row, [True] * 6) for row in rows]
    assert_close(loss, [value for value, _ in expected])
    assert_close(student.grad, [gradient for _, gradient in expected])


@each_tempered_loss
def test_every_row_may_have_a_temperature_of_its_own(loss_fn):
    expert, student, legal = sample(1.0, torch.float64)
    taus = torch.linspace(0.05, 2.0, 64, dtype=torch.float64)
    together = loss_fn(expert, student, tau=taus, legal_actions=legal)
    singly = [
        loss_fn(expert[i : i + 1], student[i : i + 1], tau=float(tau), legal_actions=legal[i : i + 1])
        for i, tau in enumerate(taus)
    ]
    torch.testing.assert_close(together, torch.cat(singly))
    with pytest.raises(DistillError, match=r"\(63,\).*\(64, 6\)"):
        loss_fn(expert, student, tau=taus[1:], legal_actions=legal)


@pytest.mark.parametrize(
    "loss_of",
    [
        lambda q, z, legal, tau, a, x: policy_regression_loss(q, z, tau=tau, legal_actions=legal),
        lambda q, z, legal, tau, a, x: distillation_kl_loss(q, z, tau=tau, legal_actions=legal),
        lambda q, z, legal, tau, a, x: distillation_nll_loss(q, z, legal_actions=legal),
        lambda q, z, legal, tau, a, x: distillation_mse_loss(q, z, legal_actions=legal),
        lambda q, z, legal, tau, a, x: expected_cross_entropy_loss(q, z, tau=tau, legal_actions=legal),
        lambda q, z, legal, tau, a, x: expert_log_likelihood(q, a, tau=tau, legal_actions=legal),
        lambda q, z, legal, tau, a, x: score_function_loss(z, a, x, legal_actions=legal),
        lambda q, z, legal, tau, a, x: feature_regression_loss(q, z),
        lambda q, z, legal, tau, a, x: q_learning_target(x, tau, q, legal_actions=legal),
        lambda q, z, legal, tau, a, x: double_q_target(x, tau, q, z, legal_actions=legal),
        lambda q, z, legal, tau, a, x: td_loss(q, a, x, huber_delta=1.0),
    ],
)
def test_rows_may_have_several_axes_as_in_a_batch_of_tasks_steps_and_environments(loss_of):
    q, z, legal = sample(1.0, torch.float64)
    tau = torch.linspace(0.05, 2.0, 64, dtype=torch.float64)
    rows = q, z, legal, tau, legal.int().argmax(-1), z[:, 0]
    of_rows, of_batch = loss_of(*rows), loss_of(*(table.unflatten(0, (2, 8, 4)) for table in rows))
    assert of_batch.shape == (2, 8, 4)
    torch.testing.assert_close(of_batch.flatten(), of_rows)


@each_tempered_loss
@pytest.mark.parametrize("shape", [(2, 1, 1), (8, 4), (2,), (2, 8, 4, 1)])
def test_temperatures_that_are_not_one_per_row_are_refused(loss_fn, shape):
    table = torch.zeros(2, 8, 4, 5)
    with pytest.raises(DistillError, match=r"tau must have one value per row, shape \(2, 8, 4\)"):
        loss_fn(table, table, tau=torch.ones(shape))


@pytest.mark.parametrize(
    "loss_fn", [*TEMPERED, lambda q, z, tau: expert_log_likelihood(q, z[:, 0].long(), tau=tau)]
)
@pytest.mark.parametrize("tau", [0.0, -1.0, float("nan")])
def test_a_temperature_that_is_not_positive_is_refused(loss_fn, tau):
    with pytest.raises(DistillError, match=f"tau is {tau}.*greater than 0"):
        loss_fn(torch.zeros(2, 3), torch.zeros(2, 3), tau=tau)


@each_loss
@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_values_at_illegal_actions_do_not_leak(loss_fn, garbage):
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
def test_no_gradient_reaches_the_expert(loss_fn):
    expert, student = tables()
    expert.requires_grad_()
    student.requires_grad_()
    loss_fn(expert, student, legal_actions=LEGAL).sum().backward()
    assert expert.grad is None
    assert student.grad is not None


@each_loss
@pytest.mark.parametrize("legal", [None, LEGAL], ids=["all legal", "masked"])
@pytest.mark.parametrize("signs", [(1, 1), (1, -1), (-1, 1), (-1, -1)])
def test_outputs_of_a_million_stay_finite_at_a_tiny_temperature(loss_fn, legal, signs):
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
def test_a_large_offset_of_q_does_not_blur_a_small_temperature(loss_fn):
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
def test_shapes_that_disagree_are_both_named(loss_fn, shapes, message):
    expert, student, legal = shapes
    mask = None if legal is None else torch.ones(legal, dtype=torch.bool)
    with pytest.raises(ValueError, match=message):
        loss_fn(torch.zeros(expert), torch.zeros(student), legal_actions=mask)


@each_loss
def test_derivatives_equal_finite_differences(loss_fn):
    expert, student = tables()
    assert torch.autograd.gradcheck(
        lambda z: loss_fn(expert.double(), z, legal_actions=LEGAL), student.double().requires_grad_()
    )
