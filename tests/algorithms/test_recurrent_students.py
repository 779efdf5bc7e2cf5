"""A task that needs memory: what was seen in the first step tells what is right in the last one."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from rllib_distill.algorithms.actor_mimic import ActorMimicConfig
from rllib_distill.algorithms.policy_distillation import PolicyDistillationConfig
from rllib_distill.experts import Expert, ExpertInfo
from rllib_distill.tasks import TaskSet

pytestmark = pytest.mark.usefixtures("ray_session")


class TMaze(gym.Env):
    """Observes (cue 0, cue 1, corridor, junction); the cue is there in the first step only."""

    observation_space, action_space = Box(0.0, 1.0, (4,), np.float32), Discrete(2)

    def __init__(self, length):
        self.length = length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.goal = 0, int(self.np_random.integers(2))
        return self.observe(), {}

    def step(self, action):
        at_junction = self.at == self.length
        self.at += 1
        return self.observe(), float(at_junction and action == self.goal), at_junction, False, {}

    def observe(self):
        cue = [self.at == 0 and self.goal == way for way in (0, 1)]
        return np.array([*cue, 0 < self.at < self.length, self.at == self.length], np.float32)


TASKS = {f"length_{n}": {"env": TMaze, "env_config": {"length": n}} for n in (2, 4)}


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Recurrent experts whose one LSTM unit, set by hand, keeps the cue: they always choose right."""
    folder, paths = tmp_path_factory.mktemp("experts"), {}
    for name, task in TaskSet.from_config(TASKS).items():
        info = ExpertInfo.for_task(task, kind="logits", network={"type": "linear", "lstm": 1}, made_by={})
        take, keep, new, show = [20.0, 20.0, 0.0, 0.0], [0.0] * 4, [5.0, -5.0, 0.0, 0.0], [0.0] * 4
        weights = {
            "core.weight_ih": torch.tensor([take, keep, new, show]),
            "core.weight_hh": torch.zeros(4, 1),
            "core.bias_ih": torch.tensor([-10.0, 20.0, 0.0, 20.0]),
            "core.bias_hh": torch.zeros(4),
            "head.weight": torch.tensor([[3.0], [-3.0]]),
            "head.bias": torch.zeros(2),
        }
        paths[name] = str(folder / f"{name}.safetensors")
        Expert(info, weights).save(paths[name])
    return paths


def returns_of(config, paths, network):
    config = (
        config.multi_task(tasks=TASKS, num_envs_per_task=16)
        .experts(paths, behaviour="student")
        .training(network={"type": "mlp", "hiddens": [16], **network}, tau=1.0, lr=0.01)
        .training(training_intensity=4.0, num_steps_sampled_before_learning_starts=300)
        .training(train_batch_size_per_learner=512, replay_capacity=4000)
        .env_runners(num_env_runners=0, rollout_fragment_length=16)
        .evaluation(evaluation_duration=200, evaluation_epsilon=0.0)
        .reporting(min_time_s_per_iteration=0)
        .debugging(seed=0)
    )
    algo = config.build_algo()
    while algo.elapsed().env_steps < 16_000:
        algo.train()
    means = algo.evaluate()["env_runners"]["agent_episode_returns_mean"]
    algo.stop()
    return min(map(float, means.values())), max(map(float, means.values()))


@pytest.mark.parametrize("config", [ActorMimicConfig, PolicyDistillationConfig])
@pytest.mark.parametrize("burn_in_len", [0, 5])
def test_that_a_recurrent_student_remembers_as_its_expert_does(paths, config, burn_in_len):
    made = config().training(burn_in_len=burn_in_len)
    worst, _ = returns_of(
        made.training(beta=0.0) if config is ActorMimicConfig else made, paths, {"lstm": 16}
    )
    assert worst >= 0.95


def test_that_a_student_without_memory_does_not(paths):
    _, best = returns_of(ActorMimicConfig().training(beta=0.0), paths, {})
    assert best < 0.65  # it can but guess
