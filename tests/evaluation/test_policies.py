"""Checkpoints that act: the policies, or the experts that learned beside a student."""

import json

import numpy as np
import pytest
import torch
from ray.rllib.core.columns import Columns

from rllib_distill import PolicyDistillationConfig
from rllib_distill.core.rl_module import TASKS
from rllib_distill.env_runner.actors import Acting
from rllib_distill.errors import DistillError
from rllib_distill.evaluation import make_report
from rllib_distill.evaluation.play import TrainedPolicies
from rllib_distill.evaluation.report import note_expected_returns
from rllib_distill.experts import Expert, ExpertInfo
from rllib_distill.networks import build_network
from tests.evaluation.examples import rows_of

GAMES = {"breakout": "MinAtar/Breakout-v1", "asterix": "MinAtar/Asterix-v1"}  # 3 and 5 actions
NETWORK = {"type": "minatar_cnn", "filters": 2, "hidden": 8}


@pytest.fixture(scope="module")
def algo_and_checkpoint(tmp_path_factory, ray_session):
    """A student and two experts that learn, after one iteration."""
    config = (
        PolicyDistillationConfig()
        .multi_task(tasks=GAMES, num_envs_per_task=2)
        .experts("online")
        .env_runners(num_env_runners=0, rollout_fragment_length=8)
        .training(
            network={"type": "mlp", "hiddens": [8]},
            replay_capacity=200,
            num_steps_sampled_before_learning_starts=20,
        )
        .reporting(min_time_s_per_iteration=0)
        .debugging(seed=0, log_level="ERROR")
    )
    folder = tmp_path_factory.mktemp("trial") / "checkpoint"
    algo = config.build_algo()
    algo.train()
    algo.save_to_path(folder)
    yield algo, folder
    algo.stop()


def greedy(module, tasks, observations):
    with torch.no_grad():
        batch = {Columns.OBS: torch.from_numpy(observations), TASKS: tasks}
        outputs = module.forward_inference(batch)[Columns.ACTION_DIST_INPUTS]
    return outputs.argmax(dim=1).tolist()


@pytest.mark.parametrize("who", ["policy", "expert"])
def test_that_the_student_acts_or_the_experts_that_learned(who, algo_and_checkpoint):
    algo, checkpoint = algo_and_checkpoint
    rng = np.random.default_rng(0)
    observations = {task: rng.random((64, 10, 10, 4)) < 0.3 for task in GAMES}
    modules = {
        task: algo.get_module(algo.config.expert_modules[task] if who == "expert" else "student")
        for task in observations
    }
    expected = {task: greedy(modules[task], (task,), o) for task, o in observations.items()}
    rows = rows_of(observations)
    acting = Acting(TrainedPolicies(checkpoint).actor(who), rows)
    actions = acting(rows, 0.0, rng).actions
    assert {task: a.tolist() for task, a in actions.items()} == expected
    alone = acting({"breakout": rows["breakout"]}, 0.0, rng).actions
    assert {task: a.tolist() for task, a in alone.items()} == {"breakout": expected["breakout"]}


def test_that_a_report_compares_a_student_with_the_experts_that_learned(algo_and_checkpoint, tmp_path):
    """And their files, which know no return yet, are told it; here is one of the right shape."""
    _, checkpoint = algo_and_checkpoint
    report = make_report(checkpoint, episodes=2, epsilon=0.0)
    assert report.board.policies == ("random", "expert", "student")
    assert json.loads(report.to_json())["evaluations"] == []

    task = TrainedPolicies(checkpoint).config.task_set["breakout"]
    info = ExpertInfo.for_task(task, kind="q_values", network=NETWORK, made_by={})
    weights = build_network(NETWORK, info.observation_shape, info.num_actions).state_dict()
    Expert(info, weights).save(tmp_path / "breakout.safetensors")
    note_expected_returns(tmp_path, report)
    known = Expert.load(tmp_path / "breakout.safetensors").info.expected_return
    assert known["mean"] == report.board.mean("expert", "breakout") and known["episodes"] == 2


def test_that_a_folder_that_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(DistillError, match="Cannot read the checkpoint"):
        TrainedPolicies(tmp_path)
    (tmp_path / "class_and_ctor_args.pkl").write_bytes(b"\x80\x04garbage")
    with pytest.raises(DistillError, match="not a whole checkpoint"):
        TrainedPolicies(tmp_path)
