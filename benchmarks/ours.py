"""Our sides, through the package's public parts and with its defaults where the others have them too."""

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME
from side_process import PlainSide, own_peak_mb
from workload import (
    BETA,
    DQN,
    ENVS_PER_GAME,
    EPSILON,
    GAMES,
    LEARNING_STARTS,
    LR,
    NETWORK,
    REPLAY_CAPACITY,
    STEPS,
    TAU,
    TRAINING_INTENSITY,
    seeded_network,
    task_ids,
)

from rllib_distill import ActorMimicConfig, MultiTaskDQNConfig
from rllib_distill.algorithms.actor_mimic.actor_mimic_learner import ActorMimicLearner
from rllib_distill.core.learner import FragmentData
from rllib_distill.env_runner.multi_task_env_runner import MultiTaskEnvRunner
from rllib_distill.experts import Expert, ExpertInfo
from rllib_distill.tasks import TaskSet


def write_experts(folder: str, games: tuple[str, ...]) -> dict[str, str]:
    """Experts with random weights: labels cost the same. Returns task -> path."""
    return write_experts_of(task_ids(games), folder, NETWORK)


def write_experts_of(tasks: dict[str, Any], folder: str, network: dict[str, Any]) -> dict[str, str]:
    """As `write_experts`, for any tasks."""
    paths = {}
    for seed, (name, task) in enumerate(TaskSet.from_config(tasks).items(), start=1):
        info = ExpertInfo.for_task(task, kind="q_values", network=network, made_by={"seed": seed})
        state = seeded_network(seed, info.observation_shape, info.num_actions, network).state_dict()
        paths[name] = str(Path(folder) / f"{name}.safetensors")
        Expert(info, state).save(paths[name])
    return paths


def actor_mimic_config(paths: dict[str, str], batch: int, num_env_runners: int = 0) -> ActorMimicConfig:
    """The main job's algorithm on the games that have experts."""
    return (
        ActorMimicConfig()
        .multi_task(tasks=task_ids(tuple(paths)), num_envs_per_task=ENVS_PER_GAME)
        .experts(paths)
        .training(
            tau=TAU,
            beta=BETA,
            lr=LR,
            network=NETWORK,
            epsilon=EPSILON,
            train_batch_size_per_learner=batch,
            replay_capacity=REPLAY_CAPACITY,
            training_intensity=TRAINING_INTENSITY,
            num_steps_sampled_before_learning_starts=LEARNING_STARTS,
        )
        .env_runners(num_env_runners=num_env_runners, rollout_fragment_length=STEPS)
        .debugging(seed=0)
    )


class RunnerSide(PlainSide):
    """(a) `MultiTaskEnvRunner.sample`, no labels."""

    def __init__(self) -> None:
        """Gives the student the weights that the other sides have."""
        config = (
            MultiTaskDQNConfig()  # labels nothing
            .multi_task(tasks=task_ids(GAMES), num_envs_per_task=ENVS_PER_GAME)
            .training(network=NETWORK, epsilon=EPSILON, heads="shared")
            .env_runners(rollout_fragment_length=STEPS)
            .multi_agent(policies={"student"}, policy_mapping_fn=lambda task, episode: "student")
            .debugging(seed=0)
        )
        self.runner = MultiTaskEnvRunner(config=config)
        module: Any = self.runner.module["student"]
        shape, num_actions = module.observation_space.shape, int(module.action_space.n)
        module.network.load_state_dict(seeded_network(0, shape, num_actions).state_dict())

    def run(self) -> float:
        """One fragment per game."""
        return sum(fragment.env_steps() for fragment in self.runner.sample())

    def close(self) -> None:
        """Closes the environments."""
        self.runner.stop()


class LearnerSide(PlainSide):
    """(b) `MultiTaskLearner.update` without new fragments."""

    def __init__(self, games: tuple[str, ...], batch: int, steps: int, fragments: int):
        """Fills the replay buffer with `fragments` fragments; `run` makes `steps` gradient steps."""
        self.steps = steps
        with TemporaryDirectory() as folder:
            config = actor_mimic_config(write_experts(folder, games), batch)
            runner = MultiTaskEnvRunner(config=config)
            self.learner: ActorMimicLearner = config.build_learner()
            for _ in range(fragments):
                self.learner.update(training_data=FragmentData([(0, runner.sample())]))
            runner.stop()

    def run(self) -> float:
        """One update call: as many gradient steps as one fragment pays for."""
        self.learner.update(num_minibatches=self.steps)
        return self.steps


class AlgorithmSide:
    """Base of sides that call `Algorithm.train()`; counts env steps."""

    def __init__(self, config: Any, cleanup: ExitStack, num_cpus: int = 1):
        """Starts Ray and trains until the learner learns."""
        self._cleanup = cleanup
        if not ray.is_initialized():  # else whoever started it ends it
            ray.init(address="local", num_cpus=num_cpus, include_dashboard=False, log_to_driver=False)
            cleanup.callback(ray.shutdown)
        self.algo = config.build_algo()
        cleanup.callback(self.algo.stop)
        self._env_steps = 0.0
        for _ in range(2):
            self.run()

    def run(self) -> float:
        """One iteration, of one second by default."""
        before = self._env_steps
        results = self.algo.train()[ENV_RUNNER_RESULTS]
        self._env_steps = results.get(NUM_ENV_STEPS_SAMPLED_LIFETIME, 0.0)
        return self._env_steps - before

    def peak_mb_of_helpers(self) -> float:
        """Peak memory of the remote runners; Ray's own daemons don't count."""
        runners = self.algo.env_runner_group.foreach_env_runner(_peak_mb, local_env_runner=False)
        return sum(runners)

    def close(self) -> None:
        """Stops the algorithm, then Ray where it was started here."""
        self._cleanup.close()


class ActorMimicSide(AlgorithmSide):
    """(c) ActorMimic as a user runs it."""

    def __init__(self, batch: int, num_env_runners: int):
        """Five games."""
        cleanup = ExitStack()
        paths = write_experts(cleanup.enter_context(TemporaryDirectory()), GAMES)
        config = actor_mimic_config(paths, batch, num_env_runners)
        super().__init__(config, cleanup, num_cpus=1 + num_env_runners)


class DQNSide(AlgorithmSide):
    """(d) MultiTaskDQN on one game."""

    def __init__(self) -> None:
        """Single Q-learning, as the others have no double Q."""
        config = (
            MultiTaskDQNConfig()
            .multi_task(tasks={"game": DQN.env}, num_envs_per_task=DQN.envs)
            .training(
                network=NETWORK,
                double_q=False,
                lr=DQN.lr,
                gamma=DQN.gamma,
                epsilon=DQN.epsilon,
                train_batch_size_per_learner=DQN.batch,
                training_intensity=DQN.training_intensity,
                replay_capacity=DQN.capacity,
                target_network_update_freq=DQN.target_update,
                num_steps_sampled_before_learning_starts=DQN.learning_starts,
            )
            .debugging(seed=0)
        )
        super().__init__(config, ExitStack())


def _peak_mb(runner: Any) -> float:
    return own_peak_mb()
