"""Checkpoints of task policies around a distilled one: who acts in them, and their reports."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ray import cloudpickle
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModule

from rllib_distill import Distral, DistralConfig
from rllib_distill.env_runner.task_envs import EpisodeReturns
from rllib_distill.evaluation import make_report, play
from rllib_distill.evaluation.play import TrainedPolicies, checkpoint_actor, random_actor
from tests.evaluation.examples import rows_of

POLES = {"left": "CartPole-v1", "right": "CartPole-v1"}


class ForkModules:
    """Modules that count, in their recurrent state, the steps of an episode.

    The tasks' policies go to the side that their task is called after, and in every second step of an
    episode, the first included, to the other one. The distilled policy goes to the right 7 times in 10.
    """

    def __init__(self, path):
        self.path, self.in_evaluation = path, False
        self.policies = SimpleNamespace(state_size=1)

    def foreach_module(self, tell):
        tell("left", self)

    def eval(self):
        self.in_evaluation = True

    def forward_inference(self, batch):
        observations, tasks, state = batch["obs"], batch["tasks"], batch["state_in"]
        assert self.in_evaluation and observations.shape[:3] == (len(tasks), 1, state.shape[1])
        if batch.get("who") == "distilled":
            logits = torch.tensor([np.log(0.3), np.log(0.7)]).expand(len(tasks), state.shape[1], 2)
            return {"action_dist_inputs": logits, "state_out": state}
        count = state.masked_fill(batch["is_first"][:, 0, :, None], 0.0)
        goes_right = torch.tensor([[task == "right"] for task in tasks]) ^ (count[..., 0] % 2 == 0)
        logits = torch.stack([~goes_right, goes_right], dim=-1) * 1e3
        return {"action_dist_inputs": logits, "state_out": count + 1.0}


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """Returns a function that makes a checkpoint with such modules."""
    monkeypatch.setattr(MultiRLModule, "from_checkpoint", staticmethod(ForkModules))

    def checkpoint(**options):
        config = DistralConfig().multi_task(tasks=POLES).env_runners(**options)
        made_by = {"class": Distral, "ctor_args_and_kwargs": ((config,), {})}
        folder = tmp_path / "trial" / "checkpoint"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "class_and_ctor_args.pkl").write_bytes(cloudpickle.dumps(made_by))
        return folder

    return checkpoint


def poles(num_envs, is_first):
    return rows_of({task: np.zeros((num_envs, 4), np.float32) for task in POLES}, is_first)


@pytest.mark.parametrize(
    ("count", "is_first", "left"), [(0.0, True, 1), (5.0, False, 0), (6.0, False, 1), (5.0, True, 1)]
)
def test_that_all_modules_act_together_with_their_states_and_are_told_where_episodes_begin(
    count, is_first, left, checkpoint
):
    actor = TrainedPolicies(checkpoint()).actor()
    state = {task: actor.first_state(task, 3) + count for task in POLES}
    acted = actor(poles(3, is_first), state, 0.0, np.random.default_rng(0))
    assert acted.actions["left"].tolist() == [left] * 3 and acted.actions["right"].tolist() == [1 - left] * 3
    assert acted.state["left"].tolist() == [[1.0 if is_first else count + 1.0]] * 3


@pytest.mark.parametrize(("explore", "share"), [(True, 0.7), (False, 1.0)])
def test_that_the_distilled_policy_plays_every_task_and_draws_where_training_did(explore, share, checkpoint):
    actor = TrainedPolicies(checkpoint(explore=explore)).actor("distilled")
    state = {task: actor.first_state(task, 2_000) for task in POLES}
    acted = actor(poles(2_000, False), state, 0.0, np.random.default_rng(0))
    assert list(acted.actions) == list(POLES)
    for actions in acted.actions.values():
        assert actions.mean() == pytest.approx(share, abs=0.05)  # 5 standard deviations


def test_that_policies_with_a_recurrent_state_play_whole_games(checkpoint):
    """A pole that is pushed to one side falls in ten steps; one that is pushed by turns lasts longer."""
    tasks = TrainedPolicies(checkpoint()).config.task_set
    actor = checkpoint_actor(str(checkpoint()), "policy", tasks)
    scores = play(tasks, actor, num_envs=2, num_episodes=5, epsilon=0.0, seed=0)
    assert all(len(played.returns) == 5 and min(played.returns) > 13 for played in scores.values())


def test_that_a_report_has_the_distilled_policy_and_the_variant(checkpoint, monkeypatch):
    def play_nothing(policies, tasks, **_):
        returns = {task: EpisodeReturns(task, (1.0,), (1,)) for task in tasks}
        assert policies.pop("random") is random_actor
        assert {name: make_actor.args for name, make_actor in policies.items()} == {
            "policy": (str(folder), "policy"),
            "distilled": (str(folder), "distilled"),
        }
        return dict.fromkeys(["random", *policies], returns)

    monkeypatch.setattr("rllib_distill.evaluation.report.play_in_parallel", play_nothing)
    folder = checkpoint().resolve()
    scores = json.loads(make_report(folder).to_json())
    assert list(scores["tasks"]["left"]) == ["random", "policy", "distilled"]
    assert scores["config"]["variant"] == "kl_ent_2col" and scores["training_curve"] == []
