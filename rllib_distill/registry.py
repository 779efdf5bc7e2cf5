"""Names of algorithms and environments, for Python, Tune, YAML files and the command line."""

from importlib import import_module
from typing import Any

from rllib_distill.errors import DistillError, nearest
from rllib_distill.imports import import_object

ALGORITHMS = {
    "ActorMimic": "rllib_distill.algorithms.actor_mimic",
    "Distral": "rllib_distill.algorithms.distral",
    "MultiTaskDQN": "rllib_distill.algorithms.multi_task_dqn",
    "PolicyDistillation": "rllib_distill.algorithms.policy_distillation",
    "SoftQDistral": "rllib_distill.algorithms.soft_q_distral",
}
"""Name -> the module, imported when it is needed, that has this class and the one of its config."""

PUBLIC_NAMES = {name + of: module for name, module in ALGORITHMS.items() for of in ("", "Config")} | {
    "register": __name__
}
"""Name of the package -> the module that has it."""

MULTI_TASK_ENV = "multi_task"


def public_object(name: str) -> Any:
    """Imports one of the package's public names."""
    return getattr(import_module(PUBLIC_NAMES[name]), name)


def algorithm_class(name: Any) -> type[Any]:
    """What a name of `run:` or `--run` stands for.

    Args:
        name: One of ours or of RLlib's own algorithms, "my_package.my_module:MyAlgorithm", or a name that was
            given to Tune's `register_trainable`, which may be one of RLlib's.

    Raises:
        DistillError: The name is unknown, or what it names is not a trainable of Tune's.
    """
    from ray.rllib.algorithms.registry import ALGORITHMS as STOCK_ALGORITHMS
    from ray.tune import Trainable
    from ray.tune.registry import TRAINABLE_CLASS, _global_registry

    if not isinstance(name, str):
        raise DistillError(f"run is {name!r}; it must be an algorithm's name, e.g. ActorMimic.")
    found: type[Any]
    if name in ALGORITHMS:
        found = public_object(name)
    elif name in STOCK_ALGORITHMS:
        found = STOCK_ALGORITHMS[name]()[0]
    elif ":" in name:
        found = import_object(name, "run", is_class=True)
    elif _global_registry.contains(TRAINABLE_CLASS, name):  # `get_trainable_cls` would load all of RLlib
        found = _global_registry.get(TRAINABLE_CLASS, name)
    else:
        raise DistillError(
            f"Unknown algorithm {name!r}. {nearest(name, [*ALGORITHMS, *STOCK_ALGORITHMS])} "
            "Or a class of your own, such as my_package.my_module:MyAlgorithm."
        )
    if not issubclass(found, Trainable):
        raise DistillError(
            f"run is {name!r}, which is not an RLlib Algorithm (or another Trainable of Tune's)."
        )
    return found


def register() -> None:
    """Makes our names usable as strings in Tune, YAML and RLlib's `environment(env=...)`; may be repeated."""
    from ray.tune.registry import register_env, register_trainable

    from rllib_distill.tasks.multi_task_env import MultiTaskEnv

    for name in ALGORITHMS:
        register_trainable(name, public_object(name))
    register_env(MULTI_TASK_ENV, MultiTaskEnv)


def stock_algorithms() -> list[str]:
    """Names of RLlib's own algorithms."""
    from ray.rllib.algorithms.registry import ALGORITHMS as STOCK_ALGORITHMS

    return sorted(STOCK_ALGORITHMS)
