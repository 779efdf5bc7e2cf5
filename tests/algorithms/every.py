"""A small config of every algorithm of the registry, and all that a training's state consists of, as hashes.

As a program it restores checkpoints and prints their hashes: `python -m tests.algorithms.every PATH ...`.
"""

import hashlib
import json
import sys

import numpy as np
import torch

from rllib_distill.registry import algorithm_class
from tests.algorithms.tabular_envs import Corridor, Walk
from tests.learners import from_learners, optimizers_of
from tests.learners import num_updates as num_updates_of

TASKS = {
    "corridor": {"env": Corridor, "max_episode_steps": 20},
    "walk": {"env": Walk, "env_config": {"num_actions": 2}, "max_episode_steps": 20},
}
NETWORK = {"type": "mlp", "hiddens": [8]}
REPLAY = {"replay_capacity": 400, "num_steps_sampled_before_learning_starts": 40, "training_intensity": 1.0}
OWN = {
    "ActorMimic": REPLAY | {"train_batch_size_per_learner": 12},
    "Distral": {},
    "MultiTaskDQN": REPLAY | {"train_batch_size_per_learner": 12, "target_network_update_freq": 2},
    "PolicyDistillation": REPLAY | {"train_batch_size_per_learner": 12},
    "SoftQDistral": REPLAY | {"train_batch_size_per_learner": 16, "n_step": 4},
}


def config_of(name, paths, **settings):
    """A config of the algorithm; `paths` are those of experts."""
    config = (
        algorithm_class(name)
        .get_default_config()
        .multi_task(tasks=TASKS, num_envs_per_task=3)
        .env_runners(num_env_runners=0, rollout_fragment_length=8)
        .training(network=NETWORK, **{**OWN[name], **settings})
        .evaluation(evaluation_duration=4)
        .reporting(min_time_s_per_iteration=0)
        .debugging(seed=0, log_level="ERROR")
    )
    return config.experts(paths) if hasattr(config, "experts") else config


def train(algo, num_updates):
    """Trains until the learners have made so many updates; returns the last result."""
    result = algo.train()
    while min(from_learners(algo, num_updates_of)) < num_updates:
        result = algo.train()
    return result


def digest_of(value):
    """A hash of nested containers of tensors, arrays and plain values, and of batches."""
    found = hashlib.sha256()
    _feed(found, value)
    return found.hexdigest()


def _feed(found, value):
    if isinstance(value, dict):
        for key in sorted(value, key=str):
            found.update(str(key).encode())
            _feed(found, value[key])
    elif isinstance(value, list | tuple):
        for item in value:
            _feed(found, item)
    elif isinstance(value, torch.Tensor | np.ndarray):
        array = np.ascontiguousarray(
            value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value
        )
        found.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    elif hasattr(value, "observations"):
        _feed(found, [value.observations, dict(value.columns), value.is_first, value.state])
    else:
        found.update(repr(value).encode())


def weights(learner):
    return digest_of({mid: module.state_dict() for mid, module in learner.module.items()})


def optimizers(learner):
    return digest_of([optimizer.state_dict()["state"] for optimizer in optimizers_of(learner)])


def minibatches(learner):
    """The next 20; of learners that replay nothing, none."""
    if not hasattr(learner, "minibatches"):
        return None
    return digest_of([learner.draw_minibatch() for _ in range(20)])


def state_of(algo):
    """Everything that a checkpoint has to bring back."""
    return {
        "weights": from_learners(algo, weights),
        "optimizers": from_learners(algo, optimizers),
        "updates": from_learners(algo, num_updates_of),
        "env_steps": algo.elapsed().env_steps,
        "minibatches": from_learners(algo, minibatches),
    }


if __name__ == "__main__":
    import ray

    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    states = {}
    for path in sys.argv[1:]:
        restored = algorithm_class(path.rsplit("/", 1)[1]).from_checkpoint(path)
        states[path] = state_of(restored)
        restored.stop()
    print(json.dumps(states))
