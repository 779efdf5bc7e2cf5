"""Names of algorithms and environments, for Tune, YAML files and the command line."""

from importlib import import_module
from typing import Any

from rllib_distill.errors import DistillError, nearest

ALGORITHMS = {
    "ActorMimic": "rllib_distill.algorithms.actor_mimic",
    "Distral": "rllib_distill.algorithms.distral",
    "MultiTaskDQN": "rllib_distill.algorithms.multi_task_dqn",
    "PolicyDistillation": "rllib_distill.algorithms.policy_distillation",
    "SoftQDistral": "rllib_distill.algorithms.soft_q_distral",
}
"""Name -> the module that has a class of this name, imported when it is needed."""

MULTI_TASK_ENV = "multi_task"


def algorithm_class(name: Any) -> type[Any]:
    """The algorithm of a name: one of ours, or of RLlib's own.

    Raises:
        DistillError: Neither knows it.
    """
    from ray.rllib.algorithms.registry import ALGORITHMS as STOCK_ALGORITHMS

    if isinstance(name, str) and name in ALGORITHMS:
        algorithm: type[Any] = getattr(import_module(ALGORITHMS[name]), name)
        return algorithm
    if isinstance(name, str) and name in STOCK_ALGORITHMS:
        stock: type[Any] = STOCK_ALGORITHMS[name]()[0]
        return stock
    raise DistillError(f"Unknown algorithm {name!r}. {nearest(str(name), [*ALGORITHMS, *STOCK_ALGORITHMS])}")


def register() -> None:
    """Makes our names usable as strings in Tune, YAML and RLlib's `environment(env=...)`; may be repeated."""
    from ray.tune.registry import register_env, register_trainable

    from rllib_distill.tasks.multi_task_env import MultiTaskEnv

    for name in ALGORITHMS:
        register_trainable(name, algorithm_class(name))
    register_env(MULTI_TASK_ENV, MultiTaskEnv)


def stock_algorithms() -> list[str]:
    """Names of RLlib's own algorithms."""
    from ray.rllib.algorithms.registry import ALGORITHMS as STOCK_ALGORITHMS

    return sorted(STOCK_ALGORITHMS)
