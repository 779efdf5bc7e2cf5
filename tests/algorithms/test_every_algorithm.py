"""What must hold of every algorithm of the registry, and some of it of each of its forms."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ray.rllib.callbacks.callbacks import RLlibCallback

from rllib_distill.errors import DistillError
from rllib_distill.registry import ALGORITHMS
from tests.algorithms.every import CASES, TASKS, config_of, state_of, train, weights
from tests.configs import RETURN
from tests.env_runner.counting_env import save_random_experts
from tests.learners import from_learners

pytestmark = pytest.mark.usefixtures("ray_session")
REPOSITORY = Path(__file__).parents[2]
EVERY = pytest.mark.parametrize("name", sorted(ALGORITHMS))
EVERY_FORM = pytest.mark.parametrize("name", CASES)


class Notes(RLlibCallback):
    """A user's callback."""

    def on_sample_end(self, *, env_runner, metrics_logger, samples, **kwargs):
        metrics_logger.log_value("steps_of_user", sum(s.env_steps() for s in samples), reduce="sum")

    def on_train_result(self, *, algorithm, metrics_logger=None, result, **kwargs):
        result["seen_by_user"] = algorithm.iteration


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return {
        task: str(path)
        for task, path in save_random_experts(
            tmp_path_factory.mktemp("experts"), TASKS, expected_return=RETURN
        ).items()
    }


@pytest.fixture(scope="module")
def trained(paths, ray_session):
    """Returns a function: name -> the algorithm after some updates, the last result, the first weights."""
    made = {}

    def of(name):
        if name not in made:
            algo = config_of(name, paths).callbacks(Notes).build_algo()
            first = from_learners(algo, weights)
            made[name] = algo, train(algo, 3), first
        return made[name]

    yield of
    for algo, *_ in made.values():
        algo.stop()


def test_that_every_algorithm_has_a_config_here():
    assert all(CASES[name].algorithm == name for name in ALGORITHMS)


@EVERY_FORM
def test_that_it_trains(trained, name):
    algo, result, first = trained(name)
    assert from_learners(algo, weights) != first
    losses = [of["total_loss"] for of in result["learners"].values() if "total_loss" in of]
    assert losses and np.isfinite(losses).all()
    reported = {key: of[key] for of in result["learners"].values() for key in CASES[name].metrics & of.keys()}
    assert reported.keys() == CASES[name].metrics
    # Of a task of which no minibatch was drawn in the last iteration, RLlib's metrics have no number.
    assert all(np.isfinite(list(of_tasks.values())).any() for of_tasks in reported.values())
    assert result["num_env_steps_sampled_lifetime"] == algo.elapsed().env_steps > 0


@EVERY
def test_that_a_users_callback_is_called(trained, name):
    _, result, _ = trained(name)
    assert result["seen_by_user"] > 0
    assert result["env_runners"]["steps_of_user"] == result["env_runners"]["num_env_steps_sampled"]


@EVERY
def test_that_the_same_seed_gives_the_same_weights(paths, trained, name):
    algo, _, _ = trained(name)
    again = config_of(name, paths).build_algo()
    train(again, 3)
    assert from_learners(again, weights) == from_learners(algo, weights)
    again.stop()
    other = config_of(name, paths).debugging(seed=1).build_algo()
    train(other, 3)
    assert from_learners(other, weights) != from_learners(algo, weights)
    other.stop()


@EVERY_FORM
def test_that_it_evaluates(trained, name):
    algo, _, _ = trained(name)
    results = algo.evaluate()["env_runners"]
    assert results["agent_episode_returns_mean"].keys() == TASKS.keys()
    assert all(len(returns) == 4 for returns in results["agent_episode_returns"].values())
    assert ("distilled_episode_returns_mean" in results) == algo.config.evaluates_distilled
    assert ("student_expert_ratio" in results) == ("student" in algo.config.policies)


def test_that_another_process_goes_on_exactly(trained, tmp_path):
    """Weights, optimizers' state, counters, and what is replayed next, bit for bit; then it trains."""
    expected = {}
    for name in CASES:
        algo, _, _ = trained(name)
        path = algo.save_to_path(tmp_path / name)
        expected[str(path)] = state_of(algo)
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.algorithms.every", *expected],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr[-2000:]
    assert json.loads(process.stdout.splitlines()[-1]) == expected
    for path, state in expected.items():
        assert (state["minibatches"] == [None]) == trained(Path(path).name)[0].config.learns_on_policy


# MultiTaskDQN has a file of its own: tests/core/test_several_processes.py.
@pytest.mark.parametrize("name", sorted(ALGORITHMS.keys() - {"MultiTaskDQN"}))
def test_that_it_trains_with_two_remote_env_runners(paths, name):
    """All but one with two learners, too, whose weights stay the same."""
    num_learners = 0 if name == "ActorMimic" else 2
    config = config_of(name, paths, stop={"learners/__all_modules__/num_updates_lifetime": 40})
    algo = config.env_runners(num_env_runners=2).learners(num_learners=num_learners).build_algo()
    first = from_learners(algo, weights)
    result = train(algo, 20)
    last = from_learners(algo, weights)
    assert len(last) == max(1, num_learners) and len(set(last)) == 1 and last != first
    assert result["num_env_steps_sampled_lifetime"] > 0
    runners = algo.env_runner_group
    assert max(runners.foreach_env_runner(lambda runner: runner.progress, local_env_runner=False)) > 0
    algo.stop()


# Another value that is allowed, for each setting that is this package's own.
OTHER = {
    "alpha": 0.25,
    "behaviour": 0.5,
    "beta": 0.5,
    "burn_in_len": 2,
    "distil": False,
    "double_q": False,
    "entropy_coeff": 0.1,
    "epsilon": 0.3,
    "evaluation_epsilon": 0.3,
    "heads": "per_task",
    "huber_delta": None,
    "imitation_coeff": 0.5,
    "loss": "nll",
    "mixed_precision": True,
    "n_step": 3,
    "network": {"type": "linear"},
    "num_envs_per_task": 2,
    "num_steps_sampled_before_learning_starts": 50,
    "objective": "kickstarting",
    "one_task_per_minibatch": True,
    "online_expert": "current",
    "parameterization": "one_column",
    "replay_capacity": 300,
    "rl_coeff": 0.5,
    "sequence_length": 4,
    "shared": True,
    "stop": {"training_iteration": 100},
    "target_network_tau": 0.5,
    "target_network_update_freq": 3,
    "tau": 0.5,
    "training_intensity": 3.0,
    "tune_process": False,
    "vf_loss_coeff": 0.1,
    "vtrace_clip_pg_rho_threshold": 2.0,
    "vtrace_clip_rho_threshold": 2.0,
}
NOT_TESTED = {"tasks", "expert_paths", "init_from", "optimizer", "env_config"}  # each has tests of its own


def own_keys(config):
    """Settings that RLlib's own config does not have."""
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

    return {
        key for key in config.known_keys() - {"experts", "variant"} if not hasattr(AlgorithmConfig(), key)
    }


@pytest.mark.parametrize("name", [*sorted(ALGORITHMS), "PolicyDistillation, kickstarting"])
def test_that_every_setting_is_read_or_refused(paths, name, monkeypatch):
    """A setting that nobody reads while it trains, evaluates and saves has no effect: it must be refused."""
    config = config_of(name, paths)
    keys = own_keys(config) - NOT_TESTED
    assert keys <= OTHER.keys(), "a new setting: say in OTHER what else it may be"
    read = set()
    cls = type(config)
    ask, check = cls.__getattribute__, cls.validate
    validating = []

    def note(self, key):
        if key in OTHER and not validating:
            read.add(key)
        return ask(self, key)

    def validate(self):
        validating.append(True)
        try:
            check(self)
        finally:
            validating.pop()

    monkeypatch.setattr(cls, "__getattribute__", note)
    monkeypatch.setattr(cls, "validate", validate)
    algo = config.build_algo()
    train(algo, 3)
    algo.evaluate()
    algo.stop()
    monkeypatch.undo()
    accepted = []
    for key in sorted(keys - read):
        changed = config_of(name, paths)
        value = getattr(changed, key)
        setattr(changed, key, not value if isinstance(value, bool) else OTHER[key])
        try:
            changed.validate()
        except DistillError as error:
            assert key in str(error)
        else:
            accepted.append(key)
    assert accepted == []
