"""Learners on a GPU: they learn as on a processor, and checkpoints move between the two."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from ray.rllib.core import COMPONENT_RL_MODULE

from rllib_distill.core.learner import FragmentData
from rllib_distill.env_runner import MultiTaskEnvRunner
from tests.algorithms.every import CASES, TASKS, config_of, state_of, train
from tests.configs import RETURN
from tests.env_runner.counting_env import save_random_experts
from tests.learners import from_learners, learner_of, optimizers_of, weights_of

GPUS = 1  # with 0 all of it runs on a processor
pytestmark = [
    pytest.mark.skipif(GPUS > 0 and not torch.cuda.is_available(), reason="needs a GPU"),
    pytest.mark.usefixtures("ray_session"),
]
ALGORITHMS = pytest.mark.parametrize("name", [n for n in CASES if not n.endswith(("separate", "shared"))])
TWO_ALGORITHMS = pytest.mark.parametrize("name", ["ActorMimic", "Distral"])


@pytest.fixture
def make(tmp_path):
    """Returns a function that makes a config of a case."""
    paths = save_random_experts(tmp_path, TASKS, expected_return=RETURN)
    return lambda name, **settings: config_of(name, paths, **settings)


def on_gpu(config):
    return config.learners(num_gpus_per_learner=GPUS)


def device_type():
    return "cuda" if GPUS else "cpu"


@pytest.mark.parametrize("mixed_precision", [False, True])
@ALGORITHMS
def test_that_it_learns_on_the_gpu_and_acts_on_the_processor(make, name, mixed_precision):
    algo = on_gpu(make(name, mixed_precision=mixed_precision)).build_algo()
    try:
        results = train(algo, 5)
        learner = learner_of(algo)
        assert {p.device.type for m in learner.module.values() for p in m.parameters()} == {device_type()}
        assert {p.dtype for m in learner.module.values() for p in m.parameters()} == {torch.float32}
        losses = [module["total_loss"] for module in results["learners"].values() if "total_loss" in module]
        assert losses and np.isfinite(losses).all()
        learned = learner.get_state(components=COMPONENT_RL_MODULE, inference_only=True)
        for module_id in algo.env_runner.module.keys():
            for key, value in algo.env_runner.module[module_id].state_dict().items():
                assert value.device.type == "cpu"
                assert np.array_equal(value.numpy(), learned[COMPONENT_RL_MODULE][module_id][key])
        assert algo.evaluate()["env_runners"]["agent_episode_returns_mean"]
    finally:
        algo.stop()


@ALGORITHMS
def test_that_steps_are_those_of_a_processor(make, name):
    """GIVEN the same samples and weights THEN ten gradient steps end at nearly the same weights."""
    # Adam would turn a rounding error in a gradient near 0 into a whole step.
    settings = {"lr": 0.1, "optimizer": {"type": "sgd"}}
    configs = [make(name, **settings), on_gpu(make(name, **settings))]
    runner = MultiTaskEnvRunner(config=configs[0])
    samples = [(0, runner.sample()) for _ in range(12)]
    runner.stop()
    learners = [config.build_learner() for config in configs]
    learners[1].module.set_state(learners[0].module.get_state())
    before = {name: value.copy() for name, value in weights_of(learners[0]).items()}
    for learner in learners:
        for module in learner.module.values():
            if hasattr(module, "get_target_network_pairs"):
                for network, target in module.get_target_network_pairs():
                    target.load_state_dict(network.state_dict())
        learner.update(training_data=FragmentData(samples), num_minibatches=10)
    weights = [weights_of(learner) for learner in learners]
    assert any((weights[0][key] != before[key]).any() for key in before)
    for key, value in weights[0].items():
        np.testing.assert_allclose(weights[1][key], value, rtol=1e-3, atol=1e-4, err_msg=key)


@ALGORITHMS
@pytest.mark.parametrize("to_gpu", [False, True])
def test_that_a_checkpoint_moves_between_gpu_and_processor(make, name, to_gpu, tmp_path):
    configs = [make(name), on_gpu(make(name))]
    first, second = configs if to_gpu else reversed(configs)
    algo = first.build_algo()
    train(algo, 5)
    algo.save_to_path(tmp_path / "checkpoint")
    before = state_of(algo)
    algo.stop()

    again = second.build_algo()
    try:
        again.restore_from_path(tmp_path / "checkpoint")
        assert state_of(again) == before
        for optimizer in optimizers_of(learner_of(again)):
            for parameter, state in optimizer.state.items():
                assert state["exp_avg"].device == parameter.device
        train(again, learner_of(again).num_updates + 3)
    finally:
        again.stop()


@TWO_ALGORITHMS
def test_that_a_policy_trained_on_a_gpu_plays_where_there_is_none(make, name, tmp_path):
    algo = on_gpu(make(name)).build_algo()
    train(algo, 3)
    algo.save_to_path(tmp_path / "checkpoint")
    algo.stop()
    command = [sys.executable, "-c", "from rllib_distill.cli import main; main()", "evaluate"]
    command += [str(tmp_path / "checkpoint"), "--episodes", "2", "--out", str(tmp_path / "scores.json")]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("RAY_ADDRESS", None)
    played = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert played.returncode == 0, played.stdout + played.stderr
    assert (tmp_path / "scores.json").exists()


@TWO_ALGORITHMS
def test_that_a_remote_learner_on_a_gpu_learns_from_remote_runners(make, name):
    config = on_gpu(make(name)).learners(num_learners=1).env_runners(num_env_runners=2)
    algo = config.build_algo()
    try:
        train(algo, 5)
        (devices,) = from_learners(
            algo,
            lambda learner: {p.device.type for m in learner.module.values() for p in m.parameters()},
        )
        assert devices == {device_type()}
    finally:
        algo.stop()
