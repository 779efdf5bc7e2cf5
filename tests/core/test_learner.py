"""What every learner does with its minibatches: steps, clipping, learning rates, metrics, state."""

import copy

import numpy as np
import pytest
import torch
from ray.rllib.core import COMPONENT_RL_MODULE
from ray.rllib.utils.metrics import WEIGHTS_SEQ_NO

from tests.learners import STEP, STEPS, filled_learner, optimizers_of


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


def test_that_the_learning_rate_follows_its_schedule(actor_mimic):
    learner, _ = filled_learner(actor_mimic(lr=[[0, 0.1], [1000, 0.01]]))
    for steps, lr in ((0, 0.1), (500, 0.055), (2000, 0.01)):
        learner.update(**{**STEP, "timesteps": {"num_env_steps_sampled_lifetime": steps}})
        assert learner.get_optimizer("student").param_groups[0]["lr"] == pytest.approx(lr)


def test_that_state_of_an_older_update_is_taken_over_whole(actor_mimic):
    learner, _ = filled_learner(actor_mimic())
    learner.update(**STEP)
    state = copy.deepcopy(learner.get_state())
    learner.update(**STEP)
    learner.update(**STEP)
    learner.set_state(state)
    assert (learner.num_updates, learner.get_state()[WEIGHTS_SEQ_NO]) == (1, state[WEIGHTS_SEQ_NO])
    restored, saved = (
        learner.get_state()[COMPONENT_RL_MODULE]["student"],
        state[COMPONENT_RL_MODULE]["student"],
    )
    assert all((np.asarray(restored[name]) == np.asarray(saved[name])).all() for name in saved)


def test_that_equal_seeds_learn_equally(actor_mimic):
    weights = []
    for seed in (1, 1, 2):
        learner, _ = filled_learner(actor_mimic().debugging(seed=seed))
        learner.update(**STEPS)
        weights.append(learner.module["student"].network.head.weight.detach())
    assert (weights[0] == weights[1]).all()
    assert (weights[0] != weights[2]).any()
