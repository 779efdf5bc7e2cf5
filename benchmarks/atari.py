"""Sides for Atari: ours, a bare loop or plain PyTorch, Stable-Baselines3. All play ALE's C++ vector envs."""

from contextlib import ExitStack
from tempfile import TemporaryDirectory
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ours import AlgorithmSide, write_experts_of
from side_process import PlainSide
from stable_baselines3 import DQN as StableBaselinesDQN
from stable_baselines3.common.vec_env import DummyVecEnv

from rllib_distill import ActorMimicConfig, MultiTaskDQNConfig
from rllib_distill.core.learner import FragmentData
from rllib_distill.env_runner.multi_task_env_runner import MultiTaskEnvRunner
from rllib_distill.losses import policy_regression_loss
from rllib_distill.tasks import TaskSpec

CORES = 2
ENVS = 8
STEPS = 16
EPSILON = 0.1
NATURE = {"type": "nature_cnn"}
PLAYED = ("Pong", "Breakout")
STUDIED = (  # Parisotto et al., 2016: the 13 source games
    "Assault",
    "Atlantis",
    "BeamRider",
    "Boxing",
    "CrazyClimber",
    "DemonAttack",
    "Enduro",
    "FishingDerby",
    "Kangaroo",
    "NameThisGame",
    "Pong",
    "Seaquest",
    "SpaceInvaders",
)
ROWS_PER_GAME = 8
DQN = {
    "batch": 32,
    "training_intensity": 8.0,
    "capacity": 20_000,
    "lr": 1e-4,
    "target_update": 250,
    "starts": 1_000,
}


def atari_tasks(games: tuple[str, ...], **options: Any) -> dict[str, Any]:
    """Tasks by the games' names."""
    return {game: {"env": f"ALE/{game}-v5", "env_config": options} for game in games}


class NatureCNN(torch.nn.Sequential):
    """What one would write: the network of Mnih et al. (2015) in torch's own order of axes."""

    def __init__(self, num_actions: int):
        """Builds it."""
        super().__init__(
            *(torch.nn.Conv2d(4, 32, 8, 4), torch.nn.ReLU(), torch.nn.Conv2d(32, 64, 4, 2), torch.nn.ReLU()),
            *(torch.nn.Conv2d(64, 64, 3), torch.nn.ReLU(), torch.nn.Flatten()),
            *(torch.nn.Linear(3136, 512), torch.nn.ReLU(), torch.nn.Linear(512, num_actions)),
        )

    def forward(self, stacks: torch.Tensor) -> torch.Tensor:
        """`(N, 4, 84, 84)` uint8 to `(N, A)`."""
        return super().forward(stacks.float().div_(255.0))


class BareRunnerSide(PlainSide):
    """(f) One network plays both games; actions, rewards, ends and newest frames are written down."""

    def __init__(self) -> None:
        """Makes games, network and arrays."""
        from ale_py.vector_env import AtariVectorEnv

        torch.set_num_threads(CORES)
        self.envs = [
            AtariVectorEnv(
                game.lower(),
                ENVS,
                num_threads=CORES,
                autoreset_mode="SameStep",
                reward_clipping=False,
                use_fire_reset=False,
                life_loss_info=True,
            )
            for game in PLAYED
        ]
        self.stacks = [env.reset(seed=i)[0] for i, env in enumerate(self.envs)]
        self.num_actions = [int(env.single_action_space.n) for env in self.envs]
        torch.manual_seed(0)
        self.network = NatureCNN(max(self.num_actions)).eval()
        self.rng = np.random.default_rng(0)
        self.frames = np.empty((len(PLAYED), STEPS + 1, ENVS, 84, 84), np.uint8)
        self.actions = np.empty((len(PLAYED), STEPS, ENVS), np.int64)
        self.rewards = np.empty((len(PLAYED), STEPS, ENVS), np.float32)
        self.ends = np.empty((len(PLAYED), STEPS, ENVS), np.bool_)

    @torch.inference_mode()
    def run(self) -> float:
        """One fragment of each game."""
        for t in range(STEPS):
            values = self.network(torch.from_numpy(np.concatenate(self.stacks))).numpy()
            for i, (env, num_actions) in enumerate(zip(self.envs, self.num_actions, strict=True)):
                greedy = values[i * ENVS : (i + 1) * ENVS, :num_actions].argmax(1)
                random = self.rng.integers(0, num_actions, ENVS)
                actions = np.where(self.rng.random(ENVS) < EPSILON, random, greedy)
                self.stacks[i], rewards, terminations, truncations, _ = env.step(actions)
                self.frames[i, t + 1] = self.stacks[i][:, -1]
                self.actions[i, t], self.rewards[i, t] = actions, np.sign(rewards)
                self.ends[i, t] = terminations | truncations
        return float(STEPS * ENVS * len(PLAYED))


class RunnerSide(PlainSide):
    """(f) `MultiTaskEnvRunner.sample`, no labels."""

    def __init__(self) -> None:
        """One module for both games."""
        torch.set_num_threads(CORES)
        config = (
            MultiTaskDQNConfig()  # labels nothing
            .multi_task(tasks=atari_tasks(PLAYED), num_envs_per_task=ENVS)
            .training(network=NATURE, epsilon=EPSILON, heads="shared")
            .env_runners(rollout_fragment_length=STEPS)
            .multi_agent(policies={"student"}, policy_mapping_fn=lambda task, episode: "student")
            .debugging(seed=0)
        )
        self.runner = MultiTaskEnvRunner(config=config)

    def run(self) -> float:
        """One fragment of each game."""
        return sum(fragment.env_steps() for fragment in self.runner.sample())

    def close(self) -> None:
        """Closes the environments."""
        self.runner.stop()


class LearnerSide(PlainSide):
    """(g) Actor-Mimic's gradient steps on 13 games, policy regression only, replay included."""

    def __init__(self, device: str, steps: int, fragments: int, mixed_precision: bool = False):
        """Fills the replay buffer with `fragments` fragments; `run` makes `steps` gradient steps."""
        torch.set_num_threads(CORES)
        self.steps = steps
        tasks = atari_tasks(STUDIED, full_action_space=True)
        with TemporaryDirectory() as folder:
            config = (
                ActorMimicConfig()
                .multi_task(tasks=tasks, num_envs_per_task=2)
                .experts(write_experts_of(tasks, folder, NATURE))
                .training(
                    network=NATURE,
                    beta=0.0,
                    train_batch_size_per_learner=ROWS_PER_GAME * len(STUDIED),
                    replay_capacity=10_000,
                    mixed_precision=mixed_precision,
                )
                .env_runners(rollout_fragment_length=STEPS)
                .learners(num_gpus_per_learner=1 if device == "cuda" else 0)
                .debugging(seed=0)
            )
            runner = MultiTaskEnvRunner(config=config)
            self.samples = [runner.sample() for _ in range(fragments)]
            runner.stop()
            self.learner: Any = config.build_learner()
        for sample in self.samples:
            self.learner.update(training_data=FragmentData([(0, sample)]))

    def run(self) -> float:
        """Some gradient steps in one call."""
        self.learner.update(num_minibatches=self.steps)
        return float(self.steps)


class BareLearnerSide(PlainSide):
    """(g) The same in plain PyTorch: stacks are put together from single frames, as one would in numpy."""

    def __init__(self, device: str, steps: int, fragments: int, mixed_precision: bool = False):
        """Takes over the frames and labels of our runner."""
        ours = LearnerSide("cpu", steps, fragments)
        self.device, self.steps, self.mixed_precision = torch.device(device), steps, mixed_precision
        by_game = [[sample[i] for sample in ours.samples] for i in range(len(STUDIED))]
        self.frames = [np.concatenate([f.frames[3:-1] for f in fragments]) for fragments in by_game]
        self.since_reset = [
            np.concatenate([f.steps_since_reset[:-1] for f in fragments]) for fragments in by_game
        ]
        self.labels = [
            np.concatenate([f.columns["expert_outputs"] for f in fragments]) for fragments in by_game
        ]
        torch.manual_seed(0)
        self.network = NatureCNN(18).to(self.device)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=5e-4, fused=True)
        self.rng = np.random.default_rng(0)

    def run(self) -> float:
        """Some gradient steps."""
        for _ in range(self.steps):
            self._step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return float(self.steps)

    def _step(self) -> None:
        stacks, labels = [], []
        for frames, since_reset, outputs in zip(self.frames, self.since_reset, self.labels, strict=True):
            rows = self.rng.integers(3, len(frames), ROWS_PER_GAME)
            envs = self.rng.integers(0, frames.shape[1], ROWS_PER_GAME)
            drawn = frames[rows[:, None] + np.arange(-3, 1), envs[:, None]]
            drawn[np.arange(3, -1, -1) > since_reset[rows, envs][:, None]] = 0
            stacks.append(drawn)
            labels.append(outputs[rows, envs])
        inputs = torch.from_numpy(np.concatenate(stacks)).to(self.device)
        expert_q = torch.from_numpy(np.concatenate(labels)).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed_precision):
            logits = self.network(inputs)
        loss = policy_regression_loss(expert_q, logits.float()).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()


class DQNSide(AlgorithmSide):
    """(h) MultiTaskDQN on Pong."""

    def __init__(self) -> None:
        """Single Q-learning and float32, as Stable-Baselines3 has it."""
        torch.set_num_threads(CORES)
        config = (
            MultiTaskDQNConfig()
            .multi_task(tasks=atari_tasks(("Pong",)), num_envs_per_task=ENVS)
            .training(
                network=NATURE,
                double_q=False,
                lr=DQN["lr"],
                epsilon=EPSILON,
                train_batch_size_per_learner=DQN["batch"],
                training_intensity=DQN["training_intensity"],
                replay_capacity=DQN["capacity"],
                target_network_update_freq=DQN["target_update"],
                num_steps_sampled_before_learning_starts=DQN["starts"],
            )
            .debugging(seed=0)
        )
        super().__init__(config, ExitStack())


class StableBaselinesSide(PlainSide):
    """(h) Stable-Baselines3's DQN with its own Nature CNN on the same games; it clips gradients at 10."""

    def __init__(self) -> None:
        """Two gradient steps per step of the eight games: the same training intensity."""
        torch.set_num_threads(CORES)
        self.model = StableBaselinesDQN(
            "CnnPolicy",
            DummyVecEnv([make_pong] * ENVS),
            learning_rate=DQN["lr"],
            gamma=0.99,
            buffer_size=DQN["capacity"],
            learning_starts=DQN["starts"],
            batch_size=DQN["batch"],
            train_freq=1,
            gradient_steps=round(DQN["training_intensity"] * ENVS / DQN["batch"]),
            target_update_interval=round(DQN["target_update"] * DQN["batch"] / DQN["training_intensity"]),
            exploration_initial_eps=EPSILON,
            exploration_final_eps=EPSILON,
            device="cpu",
            seed=0,
        )
        self._learn(int(DQN["starts"]) + 200)

    def run(self) -> float:
        """Some env steps."""
        return self._learn(200)

    def _learn(self, env_steps: int) -> int:
        before = self.model.num_timesteps
        self.model.learn(env_steps, reset_num_timesteps=False, log_interval=None)
        return self.model.num_timesteps - before


def make_pong() -> gym.Env[Any, Any]:
    """One environment of (h)."""
    return TaskSpec.from_config("pong", "ALE/Pong-v5").make_env()
