"""The same work with what others ship: RLlib's own runner and DQN, Stable-Baselines3's DQN."""

from contextlib import ExitStack
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.wrappers import DtypeObservation, TransformObservation
from minatar.gym import register_envs
from ours import AlgorithmSide
from ray.rllib.algorithms.dqn import DQNConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from ray.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner
from ray.tune.registry import register_env
from side_process import PlainSide
from stable_baselines3 import DQN as StableBaselinesDQN
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv
from workload import DQN, ENVS_PER_GAME, EPSILON, GAMES, NETWORK, STEPS, env_id, seeded_network

from rllib_distill.networks import build_network
from rllib_distill.tasks.multi_task_env import MultiTaskEnv

CHANNELS = 10


def pad_channels(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    """What a user of the stock runner needs for one module: the same observation space for all games."""
    height, width, channels = env.observation_space.shape
    space = Box(0, 1, (height, width, CHANNELS), np.bool_)

    def pad(observation: Any) -> Any:
        padded = np.zeros(space.shape, np.bool_)
        padded[..., :channels] = observation
        return padded

    return TransformObservation(env, pad, space)


class EpsilonGreedyModule(TorchRLModule):
    """The student's network, choosing actions itself: cheaper for the runner than a distribution."""

    def setup(self) -> None:
        """Builds the network with the weights that the other sides have."""
        self.network = seeded_network(0, self.observation_space.shape, int(self.action_space.n))

    def _forward_exploration(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        values = self.network.of_rows(batch[Columns.OBS])[0]
        random = torch.randint(values.shape[1], values.shape[:1])
        is_random = torch.rand(values.shape[0]) < EPSILON
        return {Columns.ACTIONS: torch.where(is_random, random, values.argmax(1))}


class RunnerSide(PlainSide):
    """(a) Stock `MultiAgentEnvRunner` on `MultiTaskEnv`: one agent per episode, 40 environments, one module.

    All six actions (-v0), as one module's action space asks for; the games cost the same.
    """

    def __init__(self) -> None:
        """Builds the runner."""
        tasks = {game: {"env": env_id(game, "v0"), "wrappers": [pad_channels]} for game in GAMES}
        student = RLModuleSpec(
            module_class=EpsilonGreedyModule,
            observation_space=Box(0, 1, (10, 10, CHANNELS), np.bool_),
            action_space=Discrete(6),
        )
        config = (
            PPOConfig()  # any with multi-agent runners; nothing is trained
            .environment(MultiTaskEnv, env_config={"tasks": tasks}, disable_env_checking=True)
            .multi_agent(policies={"student"}, policy_mapping_fn=lambda task, episode: "student")
            .rl_module(rl_module_spec=MultiRLModuleSpec(rl_module_specs={"student": student}))
            .env_runners(num_envs_per_env_runner=ENVS_PER_GAME * len(GAMES), rollout_fragment_length=STEPS)
            .debugging(seed=0)
        )
        self.runner = MultiAgentEnvRunner(config=config)

    def run(self) -> float:
        """As many env steps as a fragment of ours has."""
        episodes = self.runner.sample(num_timesteps=STEPS * ENVS_PER_GAME * len(GAMES))
        return sum(episode.env_steps() for episode in episodes)

    def close(self) -> None:
        """Closes the environments."""
        self.runner.stop()


class RLlibDQNSide(AlgorithmSide):
    """(d) Stock DQN: same network, training intensity and uniform replay; observations as float32.

    It clips gradients at 40, as it does by default.
    """

    def __init__(self, batch: int, envs: int, fragment: int):
        """One gradient step of `batch` rows per sample of `envs * fragment` env steps."""
        register_env("game", lambda _: DtypeObservation(make_game(), np.float32))
        config = (
            DQNConfig()
            .environment("game")
            .env_runners(num_env_runners=0, num_envs_per_env_runner=envs, rollout_fragment_length=fragment)
            .training(
                double_q=False,
                dueling=False,
                lr=DQN.lr,
                gamma=DQN.gamma,
                epsilon=DQN.epsilon,
                train_batch_size=batch,
                training_intensity=DQN.training_intensity,
                target_network_update_freq=round(DQN.target_update * batch / DQN.training_intensity),
                num_steps_sampled_before_learning_starts=DQN.learning_starts,
                replay_buffer_config={"type": "EpisodeReplayBuffer", "capacity": DQN.capacity},
            )
            .rl_module(
                model_config=DefaultModelConfig(
                    conv_filters=[[16, 3, 1, "valid"]],
                    conv_activation="relu",
                    head_fcnet_hiddens=[128],
                    head_fcnet_activation="relu",
                )
            )
            .reporting(min_sample_timesteps_per_iteration=200, min_time_s_per_iteration=0)  # about a second
            .debugging(seed=0)
        )
        super().__init__(config, ExitStack())
        while self._env_steps <= DQN.learning_starts:
            self.run()


class Torso(BaseFeaturesExtractor):
    """Our MinAtar network's hidden layers, for Stable-Baselines3."""

    def __init__(self, observation_space: gym.Space[Any]):
        """Builds them; Stable-Baselines3 adds the linear head."""
        torso = build_network(NETWORK, observation_space.shape, 1).torso
        super().__init__(observation_space, torso.feature_size)
        self.torso = torso

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Features `(B, F)` of float observations."""
        return self.torso(observations)


class StableBaselinesSide(PlainSide):
    """(d) Stable-Baselines3's DQN; it clips gradients at 10, as it always does."""

    def __init__(self) -> None:
        """One gradient step per step of the vector env: the training intensity is batch / envs."""
        self.model = StableBaselinesDQN(
            "MlpPolicy",
            DummyVecEnv([make_game] * DQN.envs),
            policy_kwargs={"features_extractor_class": Torso, "net_arch": []},
            learning_rate=DQN.lr,
            gamma=DQN.gamma,
            buffer_size=DQN.capacity,
            learning_starts=DQN.learning_starts,
            batch_size=DQN.batch,
            train_freq=1,
            gradient_steps=round(DQN.training_intensity * DQN.envs / DQN.batch),
            target_update_interval=round(
                DQN.target_update * DQN.batch / DQN.training_intensity
            ),  # in env steps
            exploration_initial_eps=DQN.epsilon,
            exploration_final_eps=DQN.epsilon,
            device="cpu",
            seed=0,
        )
        self._learn(DQN.learning_starts + 1_000)

    def run(self) -> float:
        """Some thousand env steps."""
        return self._learn(2_000)

    def _learn(self, env_steps: int) -> int:
        before = self.model.num_timesteps
        self.model.learn(env_steps, reset_num_timesteps=False, log_interval=None)
        return self.model.num_timesteps - before


def make_game() -> gym.Env[Any, Any]:
    """One environment of (d)."""
    if DQN.env not in gym.registry:
        register_envs()
    return gym.make(DQN.env)
