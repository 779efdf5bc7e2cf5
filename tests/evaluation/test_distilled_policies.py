"""Checkpoints of task policies around a distilled one: who acts in them, and their reports."""

import json

import numpy as np
import pytest
import torch
from ray import cloudpickle

from rllib_distill.core.config import MultiTaskConfig
from rllib_distill.env_runner.actors import PolicyRunnerActors
from rllib_distill.env_runner.task_envs import EpisodeReturns
from rllib_distill.evaluation import make_report, play
from rllib_distill.evaluation.policies import TrainedPolicies, checkpoint_actor, random_actor

POLES = {"left": "CartPole-v1", "right": "CartPole-v1"}


class ForkConfig(MultiTaskConfig):
    """As Distral's, in what a report asks of it."""

    variant_name = "fork"
    runner_actors_class = PolicyRunnerActors
    evaluates_distilled = True

    def __init__(self, algo_class=None):
        super().__init__(algo_class=algo_class or Fork)


class Fork:
    """An algorithm whose policies go to the side that their task is called after."""

    @classmethod
    def get_default_config(cls):
        return ForkConfig()


class ForkModules:
    """Its modules: in the first step of an episode, which they are told of, they go to the other side."""

    state_size = 1

    def __init__(self, path):
        self.path, self.in_evaluation = path, False

    def foreach_module(self, tell):
        tell("left", self)

    def eval(self):
        self.in_evaluation = True

    def task_forward(self, observations, tasks, state, begins):
        assert self.in_evaluation and observations.shape[:3] == (len(tasks), 1, state.shape[1])
        goes_right = torch.tensor([[task == "right"] for task in tasks]) ^ begins[:, 0]
        return torch.stack([~goes_right, goes_right], dim=-1) * 1e3, state + 1.0

    def distilled_forward(self, observations, tasks, state, begins):
        return torch.tensor([np.log(0.3), np.log(0.7)]).expand(len(tasks), state.shape[1], 2), state


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """Returns a function that makes a checkpoint of such a config."""
    monkeypatch.setattr(
        "rllib_distill.evaluation.policies.MultiRLModule.from_checkpoint", staticmethod(ForkModules)
    )

    def checkpoint(**options):
        config = ForkConfig().multi_task(tasks=POLES).env_runners(**options)
        made_by = {"class": Fork, "ctor_args_and_kwargs": ((config,), {})}
        folder = tmp_path / "trial" / "checkpoint"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "class_and_ctor_args.pkl").write_bytes(cloudpickle.dumps(made_by))
        return folder

    return checkpoint


def actions_of(actor, num_envs, begins):
    observations = {task: np.zeros((num_envs, 4), np.float32) for task in POLES}
    actor.see_begins({task: np.full(num_envs, begins) for task in POLES})
    return actor(observations, 0.0, np.random.default_rng(0))


def test_that_all_modules_act_together_and_are_told_where_episodes_begin(checkpoint):
    actor = TrainedPolicies(checkpoint()).actor(["left"], 3)
    for begins, left in ((True, 1), (False, 0)):
        actions = actions_of(actor, 3, begins)
        assert actions["left"].tolist() == [left] * 3 and actions["right"].tolist() == [1 - left] * 3


@pytest.mark.parametrize(("explore", "share"), [(True, 0.7), (False, 1.0)])
def test_that_the_distilled_policy_plays_every_task_and_draws_where_training_did(explore, share, checkpoint):
    actor = TrainedPolicies(checkpoint(explore=explore)).actor(POLES, 2_000, "distilled")
    for actions in actions_of(actor, 2_000, False).values():
        assert actions.mean() == pytest.approx(share, abs=0.05)  # 5 standard deviations


def test_that_policies_with_a_memory_play_whole_games(checkpoint):
    """A pole that is pushed to one side falls in about ten steps."""
    tasks = TrainedPolicies(checkpoint()).config.task_set
    actor = checkpoint_actor(str(checkpoint()), "policies", tasks, 2)
    scores = play(tasks, actor, num_envs=2, num_episodes=5, epsilon=0.0, seed=0)
    assert all(8 <= episode <= 13 for played in scores.values() for episode in played.returns)


def test_that_a_report_has_the_distilled_policy_and_the_variant(checkpoint, monkeypatch):
    def play_nothing(policies, tasks, **_):
        returns = {task: EpisodeReturns(task, (1.0,), (1,)) for task in tasks}
        assert policies.pop("random") is random_actor
        assert {name: make_actor.args for name, make_actor in policies.items()} == {
            "policy": (str(folder), "policies"),
            "distilled": (str(folder), "distilled"),
        }
        return dict.fromkeys(["random", *policies], returns)

    monkeypatch.setattr("rllib_distill.evaluation.report.play_in_parallel", play_nothing)
    folder = checkpoint().resolve()
    scores = json.loads(make_report(folder).to_json())
    assert list(scores["tasks"]["left"]) == ["random", "policy", "distilled"]
    assert scores["config"]["variant"] == "fork" and scores["training_curve"] == []
