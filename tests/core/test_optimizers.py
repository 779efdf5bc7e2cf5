"""Optimizers keep no denormal number, and go on from a checkpoint as they were."""

import copy
import pickle

import pytest
import torch

from rllib_distill.core.learner import FragmentData
from rllib_distill.core.optimizers import lay_out_as_parameters, make_optimizer, zero_tiny_moments
from rllib_distill.env_runner import MultiTaskEnvRunner
from tests.learners import STEPS

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


@pytest.mark.parametrize("config", [{"type": "adam"}, {"type": "rmsprop"}])
def test_that_an_optimizer_goes_on_from_a_checkpoint_as_if_there_was_none(config):
    weight = torch.randn(6, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    gradients = [torch.randn_like(weight) for _ in range(3)]
    results = []
    for is_restored in (False, True):
        parameter = torch.nn.Parameter(weight.clone())
        optimizer = make_optimizer(config, [parameter], lr=0.1)
        for i, gradient in enumerate(gradients):
            if is_restored and i == 2:
                state = copy.deepcopy(optimizer.state_dict())
                # A checkpoint's numpy arrays know no order in memory but their own.
                kept = state["state"][0]
                state["state"][0] = {name: value.contiguous() for name, value in kept.items()}
                optimizer.load_state_dict(state)
                lay_out_as_parameters(optimizer)
            parameter.grad = gradient.clone()
            optimizer.step()
        results.append(parameter.detach())
    torch.testing.assert_close(results[1], results[0])


def test_that_a_restored_learner_has_its_moments_in_the_weights_order(dqn):
    config = dqn(network=None).multi_task(tasks={"breakout": "MinAtar/Breakout-v1"})
    learner, restored = (config.build_learner() for _ in range(2))
    learner.update(
        training_data=FragmentData([(0, MultiTaskEnvRunner(config=config, worker_index=0).sample())])
    )
    learner.update(**STEPS)
    restored.set_state(pickle.loads(pickle.dumps(learner.get_state())))
    mine, its = (each.get_optimizer("breakout") for each in (learner, restored))
    parameters = its.param_groups[0]["params"]
    assert not all(parameter.is_contiguous() for parameter in parameters)
    for parameter, expected in zip(parameters, mine.state.values(), strict=True):
        for name in ("exp_avg", "exp_avg_sq"):
            assert torch.equal(its.state[parameter][name], expected[name])
            assert its.state[parameter][name].stride() == parameter.stride()
