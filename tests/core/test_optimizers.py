"""Optimizers that keep no denormal number."""

import pytest
import torch

from rllib_distill.core.optimizers import make_optimizer, zero_tiny_moments

SMALLEST_NORMAL = torch.finfo(torch.float32).tiny


@pytest.mark.parametrize("kind", ["adam", "rmsprop"])
def test_that_the_moments_of_a_dead_unit_become_zero_and_others_stay(kind):
    alive, dead = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    optimizer = make_optimizer({"type": kind}, [alive, dead], lr=1e-3)
    for step in range(1_600):
        alive.grad, dead.grad = torch.full((3,), 0.5), torch.full((3,), 0.5 if step == 0 else 0.0)
        optimizer.step()
        if step % 100 == 0:
            zero_tiny_moments(optimizer)
        for state in optimizer.state.values():
            for moment in state.values():
                assert not ((moment != 0) & (moment.abs() < SMALLEST_NORMAL)).any()
    first_moment = {"adam": "exp_avg", "rmsprop": "grad_avg"}[kind]
    assert (optimizer.state[dead][first_moment] == 0).all()
    torch.testing.assert_close(optimizer.state[alive][first_moment], torch.full((3,), 0.5))
