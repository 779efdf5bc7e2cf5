"""Real runners whose tasks are played by networks with a state, which learners find again in fragments."""

from collections import Counter

import numpy as np
import pytest
import torch
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModule

from rllib_distill.algorithms.multi_task_dqn import MultiTaskDQNConfig
from rllib_distill.algorithms.policy_distillation import PolicyDistillationConfig
from rllib_distill.core.rl_module import acting_forward
from rllib_distill.env_runner import MultiTaskEnvRunner
from rllib_distill.env_runner.task_envs import DISTILLED, POLICY
from rllib_distill.experts import ExpertBank
from rllib_distill.replay import Batch, Minibatches, ReplayBuffer, Sequences
from rllib_distill.tasks import TaskSet
from tests.env_runner.conftest import NETWORK, RECURRENT
from tests.env_runner.counting_env import NAMED_TASKS, check_fragment
from tests.env_runner.toy_policies import SPACES, STATE_SIZE, TASKS, ToyPolicies, make_actor


class ToyModules(MultiRLModule):
    """Acts for all tasks at once, as Distral's modules do."""

    def setup(self):
        super().setup()
        self.of_tasks, self.of_distilled = ToyPolicies(seed=0), ToyPolicies(seed=1)

    def _forward_inference(self, batch):
        ask = self.of_distilled if batch["who"] == DISTILLED else self.of_tasks
        logits, state = ask(batch["obs"], batch["tasks"], batch["state_in"], batch["is_first"])
        return {"action_dist_inputs": logits, "state_out": state}


class ToyConfig(MultiTaskDQNConfig):
    """Of a runner only."""

    def get_multi_rl_module_spec(self, **kwargs):
        spec = super().get_multi_rl_module_spec(**kwargs)
        spec.multi_rl_module_class = ToyModules
        return spec

    def make_behaviour(self, modules, experts, **_):
        return make_actor(acting_forward(modules, who=POLICY), draws=self.explore)

    def make_evaluated_policies(self, modules, device):
        return {
            who: make_actor(acting_forward(modules, who=who), draws=self.explore)
            for who in (POLICY, DISTILLED)
        }


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
    batch = Batch.of_fragments(fragments, SPACES)
    expected = ToyPolicies(seed=0).log_probs(batch)
    torch.testing.assert_close(batch.columns["behaviour_log_probs"], expected, rtol=1e-4, atol=1e-5)


def test_that_its_fragments_are_all_that_a_learner_needs(make_policy_runner):
    runner = make_policy_runner()
    for i in range(6):
        fragments = runner.sample()
        for fragment in fragments:
            check_fragment(fragment, next_step=True)
            assert fragment.columns.keys() == {"behaviour_log_probs"}
            assert fragment.columns["behaviour_log_probs"].shape == (10, 3)
            assert fragment.state.shape == (3, STATE_SIZE) and fragment.state.dtype == np.float32
            assert (fragment.state != 0).any() == (i != 0)
            assert fragment.is_first[0].all() == (i in (0, 3))  # where a learner forgets the state, too
        check_log_probs(fragments)
        if i == 2:
            runner.sample(num_episodes=5)  # all environments begin anew


def test_that_one_forward_is_for_all_tasks(make_policy_runner):
    runner = make_policy_runner()
    runner.sample()
    assert runner.module.of_tasks.asked == [(TASKS, (2, 1, 3, 5))] * 10
    assert runner.module.of_distilled.asked == []


def test_that_random_play_has_no_log_probabilities(make_policy_runner):
    runner = make_policy_runner()
    for fragment in runner.sample(random_actions=True):
        assert not fragment.columns and fragment.state.shape == (3, 0)
    check_log_probs(runner.sample(force_reset=True))


def test_that_seeds_decide_everything(make_policy_runner):
    first, same, other = (make_policy_runner(seed=seed, epsilon=0.3).sample() for seed in (3, 3, 4))
    for a, b, c in zip(first, same, other, strict=True):
        np.testing.assert_array_equal(a.actions, b.actions)
        np.testing.assert_array_equal(a.columns["behaviour_log_probs"], b.columns["behaviour_log_probs"])
        assert (a.actions != c.actions).any()


@pytest.mark.parametrize("explore", [True, False])
def test_that_evaluation_draws_as_training_does_unless_it_is_told_not_to(make_policy_runner, explore):
    runner = make_policy_runner(explore=explore, evaluating=True)
    runner.config.evaluation_duration = "auto"  # so that it makes fragments
    for fragment in runner.sample(num_timesteps=600):
        assert ("behaviour_log_probs" in fragment.columns) == explore


@pytest.mark.parametrize("amount", [{"num_episodes": 4}, {"num_timesteps": 600}])
def test_that_the_distilled_policy_is_evaluated_beside_the_tasks_own(make_policy_runner, amount):
    runner = make_policy_runner(evaluating="num_timesteps" in amount)
    samples = {sample.task: sample for sample in runner.sample(**amount)}
    assert runner.module.of_tasks.asked and runner.module.of_distilled.asked
    metrics = runner.get_metrics()
    for task, sample in samples.items():
        assert list(metrics["agent_episode_returns"][task].peek()) == list(sample.returns)
        of_distilled = list(metrics["distilled_episode_returns"][task].peek())
        assert len(of_distilled) >= 4 and of_distilled != list(sample.returns)
        mean_of_distilled = metrics["distilled_episode_returns_mean"][task].peek()
        assert mean_of_distilled == pytest.approx(np.mean(of_distilled))
        mean = metrics["module_episode_returns_mean"][task].peek()
        assert mean == pytest.approx(np.mean(sample.returns))
    steps = sum(sample.env_steps() for sample in samples.values())
    assert metrics["num_env_steps_sampled"].peek() == steps
    assert "distilled_episode_returns_mean" not in make_policy_runner().get_metrics()


def test_that_nobody_is_evaluated_beside_random_play(make_policy_runner):
    runner = make_policy_runner()
    runner.sample(num_episodes=2, random_actions=True)
    assert not runner.module.of_tasks.asked and not runner.module.of_distilled.asked
    runner.sample(num_episodes=0)
    assert "distilled_episode_returns_mean" not in runner.get_metrics()


# -- an LSTM -----------------------------------------------------------------------------------------------


@pytest.fixture
def make_student_runner(recurrent_paths, paths):
    """Returns a function that makes a local runner of a student with an LSTM."""

    def make(*, behaviour="student", recurrent_experts=True, objective="distillation"):
        config = PolicyDistillationConfig().multi_task(tasks=NAMED_TASKS, num_envs_per_task=3)
        config.experts(recurrent_paths if recurrent_experts else paths, behaviour=behaviour)
        config.training(network=RECURRENT, epsilon=0.0, heads="shared", objective=objective)
        config.env_runners(rollout_fragment_length=7, num_env_runners=0).debugging(seed=0)
        runner = MultiTaskEnvRunner(config=config, worker_index=0)
        with (
            torch.no_grad()
        ):  # observations are large, and a state is to matter: no gate may be shut for good
            for parameter in runner.module["student"].network.torso.parameters():
                parameter *= 0.01
        return runner

    return make


def spaces_of(runner):
    return runner.config.module_spaces("student")


def learners_module(runner):
    """The student as a learner has it, with the runner's weights."""
    modules = runner.config.get_multi_rl_module_spec(inference_only=False).build()
    modules.set_state(runner.module.get_state())
    return modules["student"]


class Listening:
    """Keeps what a runner's student says of every row: task -> `(steps, B, A)`."""

    def __init__(self, runner):
        self.said = {task: [] for task in TASKS}
        runner.module["student"].network.register_forward_hook(self.hear)

    def hear(self, network, inputs, outputs):
        for task, of_task in zip(inputs[1], outputs.outputs[:, 0].unbind(), strict=True):
            self.said[task].append(of_task)

    def pop(self):
        said = torch.stack([torch.stack(self.said[task]) for task in TASKS])
        self.said = {task: [] for task in TASKS}
        return said


@pytest.mark.parametrize("behaviour", ["student", 0.5], ids=["student", "by turns"])
@pytest.mark.parametrize("recurrent_experts", [False, True])
def test_that_a_learners_forward_over_a_fragment_gives_what_the_acting_network_said(
    make_student_runner, behaviour, recurrent_experts
):
    runner = make_student_runner(behaviour=behaviour, recurrent_experts=recurrent_experts)
    listening, module = Listening(runner), learners_module(runner)
    borders = Counter()
    for i in range(8):
        fragments = runner.sample(force_reset=i == 5)
        batch = Batch.of_fragments(fragments, spaces_of(runner))
        assert batch.state.shape == (2, 3, module.network.state_size)
        said = module.forward_train(batch).outputs
        torch.testing.assert_close(said[:, :-1], listening.pop(), rtol=1e-4, atol=1e-5)
        borders.update(batch.is_first[:, 0].flatten().tolist())
        forgotten = module.network(batch.observations, TASKS, None, batch.is_first).outputs
        borders["matters"] += int(((forgotten[:, 0] - said[:, 0]).abs() > 1e-3).any(-1).sum())
    assert borders[True] > 6 and borders[False] > 6 and borders["matters"] > 6


def test_that_so_does_a_forward_over_replayed_sequences_that_go_on_over_fragments(make_student_runner):
    """The log-probabilities, which were written when they were drawn, are a witness in the same row."""
    runner = make_student_runner(objective="kickstarting")
    replay = ReplayBuffer(TASKS, capacity=400, seed=0)
    for i in range(10):
        for fragment in runner.sample(force_reset=i == 5):
            replay.add(fragment)
    columns = ("observations", "behaviour_log_probs", "expert_outputs")
    minibatches = Minibatches(
        replay, spaces_of(runner), TASKS, 12, columns, "cpu", sequences=Sequences(17, burn_in=2)
    )
    in_mid_episode, module = 0, learners_module(runner)
    for _ in range(4):
        batch = minibatches.draw()
        logits = module.forward_train(batch).outputs[:, :-1]
        logits = logits.masked_fill(~batch.legal_of(logits), -torch.inf)
        actions = batch.columns["actions"][..., None]
        log_probs = logits.log_softmax(-1).gather(-1, actions)[..., 0]
        valid = batch.columns["valid"]
        expected = batch.columns["behaviour_log_probs"]
        torch.testing.assert_close(log_probs[valid], expected[valid], rtol=1e-4, atol=1e-5)
        in_mid_episode += int((~batch.is_first[:, 0]).sum())
        assert (batch.counts.sum() < valid.sum()) and not batch.counts[:, :2].any()
    assert in_mid_episode > 20


@pytest.mark.parametrize("behaviour", ["student", "expert", 0.5])
def test_that_recurrent_experts_label_every_row_as_if_they_had_watched_it_all(
    make_student_runner, recurrent_paths, behaviour
):
    bank = ExpertBank.load(recurrent_paths, TaskSet.from_config(NAMED_TASKS))
    runner = make_student_runner(behaviour=behaviour)
    states = dict.fromkeys(TASKS)
    for i in range(6):
        for fragment in runner.sample(force_reset=i == 3):
            task = fragment.task
            assert fragment.columns.keys() == {"expert_outputs"}
            label = bank.label(task, fragment.observations[:-1], states[task], fragment.is_first[:-1])
            states[task] = label.state
            np.testing.assert_allclose(
                fragment.columns["expert_outputs"], label.outputs, rtol=1e-4, atol=1e-5
            )
            if behaviour == "expert":
                best = fragment.columns["expert_outputs"].argmax(-1)
                np.testing.assert_array_equal(fragment.actions, best)
