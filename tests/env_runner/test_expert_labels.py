"""Labels that experts tell while they act, and those that are asked for afterwards."""

import numpy as np
import pytest
import torch

from rllib_distill.env_runner.actors import ExpertLabels
from rllib_distill.experts import ExpertBank
from rllib_distill.replay import Fragment
from rllib_distill.tasks import TaskSet
from tests.env_runner.conftest import greedy_by_hand
from tests.env_runner.counting_env import NAMED_TASKS, check_fragment, save_random_experts

T, B = 5, 2
BOTH = ("expert_outputs", "expert_features")


@pytest.fixture(scope="module")
def recurrent_bank(tmp_path_factory):
    network = {"type": "mlp", "hiddens": [4], "lstm": 3}
    paths = save_random_experts(tmp_path_factory.mktemp("experts"), NAMED_TASKS, network=network)
    return ExpertBank.load(paths, TaskSet.from_config(NAMED_TASKS))


def test_that_a_recurrent_expert_goes_on_from_fragment_to_fragment_and_forgets_with_each_episode(
    recurrent_bank,
):
    rng, labels = np.random.default_rng(0), ExpertLabels(recurrent_bank, BOTH)
    for task, size in (("short", 3), ("long", 5)):  # in turn, as runners do
        state = torch.zeros(B, recurrent_bank[task].network.state_size)
        for i in range(6):
            fragment = Fragment.empty(task, 0, T * i, T, np.zeros((B, size), np.float32))
            fragment.frames[:] = rng.normal(size=fragment.frames.shape)
            fragment.is_first[:] = rng.random((T + 1, B)) < 0.2
            labels.complete(fragment)
            other = Fragment.empty("short", 0, 0, 1, np.ones((B, 3), np.float32))
            if task == "long":
                labels.complete(other)  # other tasks' states are others
            for t in range(T):  # row by row
                first = fragment.is_first[t]
                state[torch.from_numpy(first)] = 0.0
                label = recurrent_bank.label(task, fragment.observations[t][None], state)
                state = label.state.clone()
                for name, said in (("expert_outputs", label.outputs), ("expert_features", label.features)):
                    np.testing.assert_allclose(fragment.columns[name][t], said[0], rtol=1e-4, atol=1e-6)


def test_that_a_recurrent_expert_which_has_seen_every_row_is_not_asked_again(recurrent_bank):
    fragment = Fragment.empty("short", 0, 0, T, np.zeros((B, 3), np.float32))
    for t in range(T):
        fragment.write(t, "by_expert", np.zeros(B, np.bool_))
        fragment.write(t, "expert_outputs", np.full((B, 2), t, np.float32))
    ExpertLabels(recurrent_bank, ("expert_outputs",)).complete(fragment)
    assert (fragment.columns["expert_outputs"] == np.arange(T)[:, None, None]).all()


def test_that_the_student_draws_its_actions_in_training_only(make_runner):
    settings = {"heads": "shared", "evaluation_epsilon": 0.0}
    runner = make_runner("on_policy", **settings)
    with torch.no_grad():
        for parameter in runner.module["student"].parameters():
            parameter *= 0.1  # observations are large, and a policy that is sure draws what is greedy
    long = runner.sample(num_timesteps=600)[1]
    assert (long.actions != greedy_by_hand(runner, long)).mean() > 0.05
    evaluating = make_runner("on_policy", evaluating=True, **settings)
    for fragment in evaluating.sample():
        np.testing.assert_array_equal(fragment.actions, greedy_by_hand(evaluating, fragment))
        check_fragment(fragment, next_step=True)
        assert not fragment.columns
