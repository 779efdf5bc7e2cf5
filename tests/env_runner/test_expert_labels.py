"""Labels that experts tell while they act, and those that are asked for afterwards."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rllib_distill.algorithms.policy_distillation import PolicyDistillationConfig
from rllib_distill.env_runner import MultiTaskEnvRunner
from rllib_distill.env_runner.actors import ExpertLabels
from rllib_distill.experts import ExpertBank
from rllib_distill.experts.expert import Label
from rllib_distill.replay import Fragment
from rllib_distill.tasks import TaskSet
from tests.env_runner.conftest import NETWORK, greedy_by_hand
from tests.env_runner.counting_env import NAMED_TASKS, check_fragment, save_random_experts

T, B = 5, 2
BOTH = ("expert_outputs", "expert_features")


def say(observations):
    """Three outputs and one feature that tell which row they are of."""
    return {
        "expert_outputs": (observations[..., :1] + np.arange(3)).astype(np.float32),
        "expert_features": observations[..., :1].astype(np.float32),
    }


class Bank:
    """Experts without a state, who note how many rows they are asked about."""

    def __init__(self):
        self.asked = []

    def __getitem__(self, task):
        return SimpleNamespace(network=SimpleNamespace(state_size=0))

    def label(self, task, observations, state, is_first):
        assert observations.shape[:2] == is_first.shape
        self.asked.append(is_first.size)
        said = say(observations)
        return Label(said["expert_outputs"], said["expert_features"], torch.zeros(B, 0))


def fragment_of(task="task", offset=0.0):
    fragment = Fragment.empty(task, 0, 0, T, np.zeros((B, 4), np.float32))
    fragment.frames[:] = offset + 10.0 * np.arange((T + 1) * B).reshape(T + 1, B, 1)
    fragment.actions[:] = np.arange(T * B).reshape(T, B) % 3
    fragment.rewards[:] = 7.0
    return fragment


@pytest.mark.parametrize("columns", [("expert_outputs",), BOTH], ids=str)
@pytest.mark.parametrize("acted", [None, (), (0, 3), (1, 2, 4), range(T)], ids=str)
def test_that_only_rows_in_which_no_expert_acted_are_asked_about_again(acted, columns):
    bank = Bank()
    labels = ExpertLabels(bank, columns)
    for offset in (0.0, 1000.0):  # and what one fragment was told is not the next one's
        fragment = fragment_of(offset=offset)
        for t in range(T) if acted is not None else ():
            fragment.write(t, "by_expert", np.array([False, t in acted]))
            for name in columns if t in acted else ():
                fragment.write(t, name, say(fragment.observations[t])[name])
        labels.complete(fragment)
        missing = T - len(acted or ())
        assert [bank.asked.pop() for _ in range(len(bank.asked))] == ([B * missing] if missing else [])
        assert fragment.columns.keys() - {"by_expert"} == set(columns)
        for name in columns:
            np.testing.assert_array_equal(fragment.columns[name], say(fragment.observations[:-1])[name])
            assert fragment.columns[name].dtype == np.float32
        assert (fragment.rewards == 7.0).all()


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


# -- in a runner -------------------------------------------------------------------------------------------


@pytest.fixture
def make_runner_on_trajectories(paths):
    """Returns a function that makes a runner of a student that draws its actions."""

    def make(evaluating=False):
        config = PolicyDistillationConfig().multi_task(tasks=NAMED_TASKS, num_envs_per_task=3)
        config.experts(paths, behaviour="student").training(
            objective="expected_entropy_regularised", tau=50.0, epsilon=0.0, network=NETWORK, heads="shared"
        )
        config.evaluation(evaluation_epsilon=0.0).debugging(seed=0)
        config.env_runners(rollout_fragment_length=10, num_env_runners=0)
        config.in_evaluation = evaluating
        return MultiTaskEnvRunner(config=config, worker_index=0)

    return make


def test_that_trajectories_have_labels_and_log_probabilities_and_their_tasks_own_rewards(
    make_runner_on_trajectories, paths
):
    runner = make_runner_on_trajectories()
    bank = ExpertBank.load(paths, TaskSet.from_config(NAMED_TASKS))
    for fragment in runner.sample():
        check_fragment(
            fragment, next_step=True
        )  # where experts' log-likelihoods are rewards, learners add them
        assert fragment.columns.keys() == {"expert_outputs", "behaviour_log_probs"}
        label = bank.label(fragment.task, fragment.observations[:-1])
        np.testing.assert_allclose(fragment.columns["expert_outputs"], label.outputs, rtol=1e-5)
    for mean in runner.get_metrics()["agent_episode_returns_mean"].values():
        assert mean.peek() > 100  # the first step of the first episode is worth 101


def test_that_the_student_draws_its_actions_in_training_only(make_runner_on_trajectories):
    runner = make_runner_on_trajectories()
    with torch.no_grad():
        for parameter in runner.module["student"].parameters():
            parameter *= 0.1  # observations are large, and a policy that is sure draws what is greedy
    long = runner.sample(num_timesteps=600)[1]
    assert (long.actions != greedy_by_hand(runner, long)).mean() > 0.05
    evaluating = make_runner_on_trajectories(evaluating=True)
    for fragment in evaluating.sample():
        np.testing.assert_array_equal(fragment.actions, greedy_by_hand(evaluating, fragment))
        check_fragment(fragment, next_step=True)
        assert not fragment.columns
