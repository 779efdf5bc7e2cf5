"""What every learner does with its minibatches: steps, clipping, learning rates, metrics, state."""

import pytest
import torch

from tests.learners import STEP, filled_learner, optimizers_of


def test_that_optimizers_hold_the_trainable_parameters_once_and_nothing_else(actor_mimic, dqn):
    for config in (actor_mimic(beta=0.1), dqn()):
        learner, _ = filled_learner(config)
        held = [
            parameter
            for optimizer in optimizers_of(learner)
            for group in optimizer.param_groups
            for parameter in group["params"]
        ]
        wanted = [
            parameter
            for module in learner.module.values()
            for name, parameter in module.named_parameters()
            if not name.startswith("target_network")
        ]
        assert len(held) == len(wanted)
        assert {id(p) for p in held} == {id(p) for p in wanted}


def test_that_a_loss_that_is_no_number_stops_the_run(actor_mimic):
    learner, _ = filled_learner(actor_mimic())
    with torch.no_grad():
        learner.module["student"].network.head.bias[0] = float("nan")
    with pytest.raises(RuntimeError, match="nan after 1 updates"):
        learner.update(**STEP)


def test_that_gradients_are_clipped_where_the_config_says_so(actor_mimic):
    step = {}
    for clip in (None, 1e-4):
        learner, _ = filled_learner(
            actor_mimic(grad_clip=clip, lr=0.1, optimizer={"type": "adam", "eps": 1.0})
        )
        before = learner.module["student"].network.head.weight.detach().clone()
        learner.update(**STEP)
        step[clip] = (learner.module["student"].network.head.weight - before).abs().max()
    assert 0 < step[1e-4] <= 1.01e-5 < step[None]
