"""A small config of every algorithm in its forms, and all that a training's state consists of, as hashes.

As a program it restores checkpoints, prints hashes, trains on: `python -m tests.algorithms.every PATH ...`.
"""

import hashlib
import json
import sys
from dataclasses import dataclass
from typing import Any

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
LSTM = {"type": "mlp", "hiddens": [8], "lstm": 4}
REPLAY = {"replay_capacity": 400, "num_steps_sampled_before_learning_starts": 40, "training_intensity": 1.0}
ROWS, SEQUENCES = REPLAY | {"train_batch_size_per_learner": 12}, REPLAY | {"train_batch_size_per_learner": 16}
ACTOR_CRITIC = {"policy_loss", "vf_loss", "entropy"}
ON_TRAJECTORIES = {"behaviour": "student", "epsilon": 0.0}


@dataclass(frozen=True)
class Case:
    """An algorithm in one of its forms.

    Attributes:
        settings: What differs from `config_of`'s other settings.
        metrics: Some that its learners report of each task.
    """

    algorithm: str
    settings: dict[str, Any]
    metrics: set[str]


CASES = {  # the first of each algorithm has its name
    "ActorMimic": Case("ActorMimic", ROWS, {"policy_regression_loss", "greedy_agreement"}),
    "ActorMimic, recurrent": Case(
        "ActorMimic",
        SEQUENCES
        | {"network": LSTM, "heads": "per_task", "one_task_per_minibatch": True, "burn_in_len": 2}
        | {"behaviour": [[0, 1.0], [200, 0.0]], "beta": 0.1},
        {"policy_regression_loss", "feature_regression_loss"},
    ),
    "Distral": Case("Distral", {}, ACTOR_CRITIC | {"kl_to_distilled"}),
    "Distral, recurrent": Case("Distral", {"network": LSTM}, ACTOR_CRITIC),
    "Distral, separate": Case("Distral", {"variant": "a3c"}, ACTOR_CRITIC),
    "Distral, shared": Case("Distral", {"variant": "a3c_multitask", "network": LSTM}, ACTOR_CRITIC),
    "MultiTaskDQN": Case("MultiTaskDQN", ROWS | {"target_network_update_freq": 2}, {"td_loss"}),
    "MultiTaskDQN, shared": Case("MultiTaskDQN", ROWS | {"shared": True, "n_step": 2}, {"td_loss"}),
    "PolicyDistillation": Case("PolicyDistillation", ROWS, {"imitation_loss", "greedy_agreement"}),
    "PolicyDistillation, recurrent": Case(
        "PolicyDistillation", SEQUENCES | {"network": LSTM, "behaviour": 0.5}, {"imitation_loss"}
    ),
    "PolicyDistillation, online": Case(
        "PolicyDistillation", ROWS | {"experts": "online", "epsilon": 0.3}, {"imitation_loss", "td_loss"}
    ),
    "PolicyDistillation, with rewards": Case(
        "PolicyDistillation",
        ROWS | {"rl_coeff": 1.0, "imitation_coeff": "qdagger", "behaviour": "student"},
        {"imitation_loss", "td_loss"},
    ),
    "PolicyDistillation, kickstarting": Case(
        "PolicyDistillation",
        ON_TRAJECTORIES | {"objective": "kickstarting", "rl_coeff": 1.0},
        ACTOR_CRITIC | {"imitation_loss", "greedy_agreement"},
    ),
    "PolicyDistillation, expected entropy": Case(
        "PolicyDistillation",
        ON_TRAJECTORIES | {"objective": "expected_entropy_regularised", "network": LSTM},
        ACTOR_CRITIC | {"imitation_loss"},
    ),
    "SoftQDistral": Case("SoftQDistral", SEQUENCES | {"n_step": 4}, {"td_loss"}),
}


def config_of(name, paths, **settings):
    """The config of a case; `paths` are those of experts."""
    case = CASES[name]
    config = (
        algorithm_class(case.algorithm)
        .get_default_config()
        .multi_task(tasks=TASKS, num_envs_per_task=3)
        .env_runners(num_env_runners=0, rollout_fragment_length=8)
        .training(network=NETWORK)
        .evaluation(evaluation_duration=4)
        .reporting(min_time_s_per_iteration=0)
        .debugging(seed=0, log_level="ERROR")
    )
    if hasattr(config, "experts"):
        config.experts(paths)
    return config.update_from_dict({**case.settings, **settings})


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


def weights(holder):
    """Of a learner's modules, or of an env runner's."""
    return digest_of({mid: holder.module[mid].state_dict() for mid in holder.module.keys()})


def optimizers(learner):
    """With their learning rates."""
    states = [optimizer.state_dict() for optimizer in optimizers_of(learner)]
    return digest_of([[state["state"], [group["lr"] for group in state["param_groups"]]] for state in states])


def minibatches(learner):
    """The next 20; of learners that replay nothing, none."""
    if not hasattr(learner, "minibatches"):
        return None
    return digest_of([learner.draw_minibatch() for _ in range(20)])


def state_of(algo, *, draws=True):
    """Everything that a checkpoint has to bring back; if it `draws`, the next minibatches, too."""
    state = {"minibatches": from_learners(algo, minibatches)} if draws else {}
    return state | {
        "weights": from_learners(algo, weights),
        "acting": weights(algo.env_runner),
        "optimizers": from_learners(algo, optimizers),
        "updates": from_learners(algo, num_updates_of),
        "elapsed": repr(algo.elapsed()),
        "iteration": algo.iteration,
        "inputs": algo.learner_inputs(),
        "owed": algo.get_state()["minibatches_owed"],
        "acted": algo.env_runner.num_env_steps_sampled_lifetime,
    }


if __name__ == "__main__":
    import ray

    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    states = {}
    for path in sys.argv[1:]:
        algorithm = CASES[path.rsplit("/", 1)[1]].algorithm
        restored = algorithm_class(algorithm).from_checkpoint(path)
        states[path] = state_of(restored)
        train(restored, min(states[path]["updates"]) + 1)
        restored.stop()
    print(json.dumps(states))
