"""Every distillation loss agrees, in value and in gradient, with the slow float64 oracle."""

import pytest
import torch
from torch import Tensor

from rllib_distill.losses import (
    distillation_kl_loss,
    distillation_mse_loss,
    distillation_nll_loss,
    expected_cross_entropy_loss,
    feature_regression_loss,
    policy_regression_loss,
)
from tests.losses import oracle


def sample(q_scale: float, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Expert's outputs, student's outputs and legal actions of 64 samples; some have one legal action."""
    generator = torch.Generator().manual_seed(0)
    expert = q_scale * torch.randn(64, 6, generator=generator, dtype=dtype)
    student = 2 * torch.randn(64, 6, generator=generator, dtype=dtype)
    legal = torch.rand(64, 6, generator=generator) < 0.6
    legal[torch.arange(64), torch.randint(6, (64,), generator=generator)] = True
    return expert, student, legal


LOSSES = {
    "policy_regression": (policy_regression_loss, oracle.policy_regression),
    "kl": (distillation_kl_loss, oracle.kl),
    "expected_cross_entropy": (expected_cross_entropy_loss, oracle.expected_cross_entropy),
    "nll": (distillation_nll_loss, oracle.nll),
    "mse": (distillation_mse_loss, oracle.squared_distance),
}
TEMPERATURES = dict.fromkeys(("policy_regression", "kl", "expected_cross_entropy"), (0.01, 0.1, 1.0, 10.0))
CASES = [(name, tau) for name in LOSSES for tau in TEMPERATURES.get(name, (None,))]


@pytest.mark.parametrize("name", TEMPERATURES)
def test_that_every_row_may_have_a_temperature_of_its_own(name):
    loss_fn, _ = LOSSES[name]
    expert, student, legal = sample(1.0, torch.float64)
    taus = torch.linspace(0.05, 2.0, 64, dtype=torch.float64)
    together = loss_fn(expert, student, tau=taus, legal_actions=legal)
    singly = [
        loss_fn(expert[i : i + 1], student[i : i + 1], tau=float(tau), legal_actions=legal[i : i + 1])
        for i, tau in enumerate(taus)
    ]
    torch.testing.assert_close(together, torch.cat(singly))
    with pytest.raises(ValueError, match=r"\(63,\).*\(64, 6\)"):
        loss_fn(expert, student, tau=taus[1:], legal_actions=legal)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("q_scale", [1.0, 50.0])
@pytest.mark.parametrize(("name", "tau"), CASES)
def test_that_loss_and_gradient_equal_the_oracle(name, tau, q_scale, masked, dtype):
    loss_fn, slow_fn = LOSSES[name]
    expert, student, legal = sample(q_scale, dtype)
    if not masked:
        legal = torch.ones_like(legal)
    temperature = {} if tau is None else {"tau": tau}
    student.requires_grad_()

    loss = loss_fn(expert, student, legal_actions=legal if masked else None, **temperature)
    loss.sum().backward()

    rows = zip(expert.tolist(), student.tolist(), legal.tolist(), strict=True)
    expected = [slow_fn(*row, **temperature) for row in rows]
    assert loss.shape == (64,)
    assert loss.dtype == dtype
    # This loss multiplies the student's probabilities, with their rounding, by the expert's logarithms:
    # at most the distance of Q-values / tau, and log 6 for as many actions.
    spread = (expert.max() - expert.min()).item()
    factor = spread / tau + 2.0 if name == "expected_cross_entropy" else 1.0
    assert_close(loss, [value for value, _ in expected], factor)
    assert_close(student.grad, [gradient for _, gradient in expected], factor)


def test_that_the_feature_loss_equals_the_oracle():
    expert, student, _ = sample(3.0, torch.float32)
    student.requires_grad_()

    loss = feature_regression_loss(student, expert)
    loss.sum().backward()

    everything = [True] * 6
    rows = zip(expert.tolist(), student.tolist(), strict=True)
    expected = [oracle.squared_distance(*row, everything) for row in rows]
    assert_close(loss, [value for value, _ in expected])
    assert_close(student.grad, [gradient for _, gradient in expected])


def assert_close(
    actual: Tensor | None, expected: list[float] | list[list[float]], factor: float = 1.0
) -> None:
    """1e-5 relative; the 2e-7 is one rounding of a float32 probability, which its logarithm cannot undo."""
    assert actual is not None
    absolute = factor * (2e-7 if actual.dtype == torch.float32 else 1e-12)
    torch.testing.assert_close(
        actual.double(), torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=absolute
    )
