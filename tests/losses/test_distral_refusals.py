"""What Distral's losses refuse: coefficients out of their ranges, shapes that do not fit."""

from math import inf, nan

import pytest
import torch

from rllib_distill.errors import DistillError
from rllib_distill.losses import (
    distilled_policy_loss,
    regularised_rewards,
    soft_q_targets,
    soft_value,
    two_column_logits,
)

TABLE, ROWS = torch.zeros(4, 2, 3), torch.zeros(4, 2)


def each_function(**coefficients):
    yield lambda: two_column_logits(TABLE, TABLE, **coefficients)
    yield lambda: soft_value(TABLE, TABLE, **coefficients)
    yield lambda: regularised_rewards(ROWS, ROWS, ROWS, **coefficients)
    yield lambda: distilled_policy_loss(TABLE, TABLE, **coefficients)


@pytest.mark.parametrize("alpha", [-0.1, 1.1, nan])
def test_that_alpha_outside_0_to_1_is_refused(alpha):
    for function in each_function(alpha=alpha, beta=1.0):
        with pytest.raises(DistillError, match=f"alpha is {alpha}.* from 0 .* to 1"):
            function()


@pytest.mark.parametrize("beta", [0.0, -5.0, nan, inf])
def test_that_beta_that_is_not_positive_is_refused(beta):
    for function in each_function(alpha=0.5, beta=beta):
        with pytest.raises(DistillError, match=f"beta is {beta}.*above 0"):
            function()


@pytest.mark.parametrize("shape", [(3,), (4, 1, 1), (1, 4, 2), (5, 2)])
def test_that_coefficients_that_fit_no_rows_are_refused(shape):
    message = rf"shape {torch.zeros(shape).shape}".replace("torch.Size([", r"\(").replace("])", r",?\)")
    for function in each_function(alpha=torch.full(shape, 0.5), beta=1.0):
        with pytest.raises(DistillError, match=rf"alpha has {message} but the rows have shape \(4, 2\)"):
            function()
    for function in each_function(alpha=0.5, beta=torch.ones(shape)):
        with pytest.raises(DistillError, match=rf"beta has {message} but the rows have shape \(4, 2\)"):
            function()


def test_that_shapes_that_disagree_are_both_named():
    one = {"alpha": 0.5, "beta": 1.0}
    with pytest.raises(
        DistillError, match=r"task_logits has shape \(4, 3\) but distilled_logits.*\(4, 2, 3\)"
    ):
        two_column_logits(TABLE, TABLE[:, 0], **one)
    with pytest.raises(DistillError, match=r"q has shape \(4, 2, 2\) but distilled_logits.*\(4, 2, 3\)"):
        soft_value(TABLE, TABLE[..., :2], **one)
    with pytest.raises(DistillError, match=r"distilled_log_probs has shape \(2,\) but rewards.*\(4, 2\)"):
        regularised_rewards(ROWS, ROWS[0], ROWS, **one)
    with pytest.raises(DistillError, match=r"task_log_probs has shape \(4, 1\) but rewards.*\(4, 2\)"):
        regularised_rewards(ROWS, ROWS, ROWS[:, :1], **one)
    with pytest.raises(
        DistillError, match=r"task_logits has shape \(1, 2, 3\) but distilled_logits.*\(4, 2, 3\)"
    ):
        distilled_policy_loss(TABLE[:1], TABLE, **one)
    with pytest.raises(DistillError, match=r"discounts has shape \(4, 1\) but distilled_logits.*\(4, 2, 3\)"):
        distilled_policy_loss(TABLE, TABLE, **one, discounts=ROWS[:, :1])
    with pytest.raises(DistillError, match=r"continues has shape \(3, 2\) but rewards has shape \(4, 2\)"):
        soft_q_targets(ROWS, ROWS, ROWS, ROWS, continues=ROWS[1:] > 0, n_step=1)
    with pytest.raises(DistillError, match=r"next_values has shape \(4, 1\) but rewards has shape \(4, 2\)"):
        soft_q_targets(ROWS, ROWS, ROWS[:, :1], ROWS, continues=ROWS > 0, n_step=1)
