"""A real runner whose tasks are played by stochastic policies with a memory."""

import numpy as np
import pytest
import torch
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModule

from rllib_distill.algorithms.multi_task_dqn import MultiTaskDQNConfig
from rllib_distill.env_runner.actors import PolicyRunnerActors
from rllib_distill.env_runner.multi_task_env_runner import MultiTaskEnvRunner
from rllib_distill.replay.batch import Trajectories
from tests.env_runner.conftest import NETWORK
from tests.env_runner.counting_env import NAMED_TASKS, check_fragment
from tests.env_runner.toy_policies import SPACES, STATE_SIZE, TASKS, ToyPolicies


class ToyModules(MultiRLModule):
    """What `PolicyRunnerActors` asks of modules."""

    state_size = STATE_SIZE

    def setup(self):
        super().setup()
        self.task_forward, self.distilled_forward = ToyPolicies(seed=0), ToyPolicies(seed=1)


class ToyConfig(MultiTaskDQNConfig):
    """Of a runner only."""

    evaluates_distilled = True
    runner_actors_class = PolicyRunnerActors

    def get_multi_rl_module_spec(self, **kwargs):
        spec = super().get_multi_rl_module_spec(**kwargs)
        spec.multi_rl_module_class = ToyModules
        return spec


@pytest.fixture
def make_policy_runner():
    """Returns a function that makes a local runner."""

    def make(*, seed=0, epsilon=0.0, explore=True, evaluating=False):
        config = ToyConfig().multi_task(tasks=NAMED_TASKS, num_envs_per_task=3)
        config.training(network=NETWORK, epsilon=epsilon).debugging(seed=seed)
        config.env_runners(rollout_fragment_length=10, num_env_runners=0, explore=explore)
        config.evaluation(evaluation_epsilon=0.0)
        config.in_evaluation = evaluating
        return MultiTaskEnvRunner(config=config, worker_index=0)

    return make


def check_log_probs(fragments):
    trajectories = Trajectories.of(fragments, SPACES)
    expected = ToyPolicies(seed=0).log_probs(trajectories)
    torch.testing.assert_close(trajectories.behaviour_log_probs, expected, rtol=1e-4, atol=1e-5)


def test_that_its_fragments_are_all_that_a_learner_needs(make_policy_runner):
    runner = make_policy_runner()
    for i in range(6):
        fragments = runner.sample()
        for fragment in fragments:
            check_fragment(fragment, next_step=True)
            assert fragment.labels["behaviour_log_probs"].shape == (10, 3)
            assert fragment.state.shape == (3, STATE_SIZE) and fragment.state.dtype == np.float32
            assert (fragment.state != 0).any() == (i not in (0, 3))
        check_log_probs(fragments)
        if i == 2:
            runner.sample(num_episodes=5)  # all environments begin anew


def test_that_one_forward_is_for_all_tasks(make_policy_runner):
    runner = make_policy_runner()
    runner.sample()
    assert runner.module.task_forward.asked == [(TASKS, (2, 1, 3, 5))] * 10
    assert runner.module.distilled_forward.asked == []


def test_that_random_play_has_no_log_probabilities(make_policy_runner):
    runner = make_policy_runner()
    for fragment in runner.sample(random_actions=True):
        assert not fragment.labels and fragment.state is None
    check_log_probs(runner.sample())


def test_that_seeds_decide_everything(make_policy_runner):
    first, same, other = (make_policy_runner(seed=seed, epsilon=0.3).sample() for seed in (3, 3, 4))
    for a, b, c in zip(first, same, other, strict=True):
        np.testing.assert_array_equal(a.actions, b.actions)
        np.testing.assert_array_equal(a.labels["behaviour_log_probs"], b.labels["behaviour_log_probs"])
        assert (a.actions != c.actions).any()


@pytest.mark.parametrize("explore", [True, False])
def test_that_evaluation_draws_as_training_does_unless_it_is_told_not_to(make_policy_runner, explore):
    runner = make_policy_runner(explore=explore, evaluating=True)
    runner.config.evaluation_duration = "auto"  # so that it makes fragments
    for fragment in runner.sample(num_timesteps=600):
        assert (fragment.labels["behaviour_log_probs"] == 0).all() == (not explore)


@pytest.mark.parametrize("amount", [{"num_episodes": 4}, {"num_timesteps": 600}])
def test_that_the_distilled_policy_is_evaluated_beside_the_tasks_own(make_policy_runner, amount):
    runner = make_policy_runner(evaluating="num_timesteps" in amount)
    samples = {sample.task: sample for sample in runner.sample(**amount)}
    assert runner.module.task_forward.asked and runner.module.distilled_forward.asked
    runner._episodes.log()
    peek = runner.metrics.peek
    for task, sample in samples.items():
        assert list(peek(("agent_episode_returns", task))) == list(sample.returns)
        of_distilled = list(peek(("distilled_episode_returns", task)))
        assert len(of_distilled) >= 4 and of_distilled != list(sample.returns)
        assert peek(("distilled_episode_returns_mean", task)) == pytest.approx(np.mean(of_distilled))
        assert peek(("module_episode_returns_mean", task)) == pytest.approx(np.mean(sample.returns))
    assert peek("num_env_steps_sampled") == sum(sample.env_steps() for sample in samples.values())
    assert "distilled_episode_returns_mean" not in make_policy_runner().get_metrics()


def test_that_nobody_is_evaluated_beside_random_play(make_policy_runner):
    runner = make_policy_runner()
    runner.sample(num_episodes=2, random_actions=True)
    assert not runner.module.task_forward.asked and not runner.module.distilled_forward.asked
    runner.sample(num_episodes=0)
    assert "distilled_episode_returns_mean" not in runner.get_metrics()
