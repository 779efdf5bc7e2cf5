"""Distral on eight mazes, beside RLlib's own asynchronous actor-critic on the same tasks."""

from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
from gymnasium.wrappers import DtypeObservation, FlattenObservation
from ours import AlgorithmSide
from ray.rllib.algorithms.impala import IMPALAConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

from rllib_distill import DistralConfig
from rllib_distill.tasks.multi_task_env import MultiTaskEnv

NUM_MAZES = 8
ENVS_PER_MAZE = 16
ROWS = 20  # of a fragment
HIDDENS = [64, 64]


def mazes(wrappers: tuple[Any, ...] = ()) -> dict[str, Any]:
    """Eight tasks."""
    return {
        f"maze_{i}": {"env": "rllib_distill/Maze-v0", "env_config": {"task": i}, "wrappers": wrappers}
        for i in range(NUM_MAZES)
    }


class DistralSide(AlgorithmSide):
    """Two columns of an MLP, an LSTM in neither; remote runners play while the main process learns."""

    def __init__(self, variant: str, num_env_runners: int):
        """Trains all eight."""
        config = (
            DistralConfig()
            .multi_task(tasks=mazes(), num_envs_per_task=ENVS_PER_MAZE)
            .variant(variant)
            .training(network={"type": "mlp", "hiddens": HIDDENS})
            .env_runners(num_env_runners=num_env_runners, rollout_fragment_length=ROWS)
            .debugging(seed=0)
        )
        super().__init__(config, ExitStack(), num_cpus=1 + num_env_runners)


class StockIMPALASide(AlgorithmSide):
    """Stock IMPALA on `MultiTaskEnv`: the same mazes, number of environments, MLP and rows per update.

    RLlib's default encoder for images is a CNN, so observations come flat, as float32.
    """

    def __init__(self, shared: bool, num_env_runners: int):
        """One module for all mazes, or one of each."""
        tasks = mazes((FlattenObservation, partial(DtypeObservation, dtype=np.float32)))
        policies = ["shared"] if shared else list(tasks)
        config = (
            IMPALAConfig()
            .environment(MultiTaskEnv, env_config={"tasks": tasks}, disable_env_checking=True)
            .multi_agent(
                policies=set(policies),
                policy_mapping_fn=lambda task, episode: "shared" if shared else task,
            )
            .env_runners(
                num_env_runners=num_env_runners,
                num_envs_per_env_runner=ENVS_PER_MAZE * NUM_MAZES,
                rollout_fragment_length=ROWS,
            )
            .training(train_batch_size_per_learner=ROWS * ENVS_PER_MAZE * NUM_MAZES)
            .rl_module(
                model_config=DefaultModelConfig(
                    fcnet_hiddens=HIDDENS, fcnet_activation="relu", vf_share_layers=True
                )
            )
            .reporting(min_time_s_per_iteration=1)
            .debugging(seed=0)
        )
        super().__init__(config, ExitStack(), num_cpus=2 + num_env_runners)  # its aggregator has one, too

    def run(self) -> float:
        """Iterations until a fragment has come: the first takes seconds, the later ones come now and then."""
        steps = 0.0
        while not steps:
            steps = super().run()
        return steps
