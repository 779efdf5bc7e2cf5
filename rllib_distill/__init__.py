"""Multi-task reinforcement learning by distillation, as a plugin to Ray RLlib."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rllib_distill.algorithms.actor_mimic import ActorMimic, ActorMimicConfig
    from rllib_distill.algorithms.distral import Distral, DistralConfig
    from rllib_distill.algorithms.multi_task_dqn import MultiTaskDQN, MultiTaskDQNConfig
    from rllib_distill.algorithms.policy_distillation import PolicyDistillation, PolicyDistillationConfig
    from rllib_distill.algorithms.soft_q_distral.soft_q_distral import SoftQDistral, SoftQDistralConfig
    from rllib_distill.registry import register

__version__ = "0.1.0"
__all__ = [
    "ActorMimic",
    "ActorMimicConfig",
    "Distral",
    "DistralConfig",
    "MultiTaskDQN",
    "MultiTaskDQNConfig",
    "PolicyDistillation",
    "PolicyDistillationConfig",
    "SoftQDistral",
    "SoftQDistralConfig",
    "__version__",
    "register",
]

_HOME = {
    "ActorMimic": "rllib_distill.algorithms.actor_mimic",
    "ActorMimicConfig": "rllib_distill.algorithms.actor_mimic",
    "Distral": "rllib_distill.algorithms.distral",
    "DistralConfig": "rllib_distill.algorithms.distral",
    "MultiTaskDQN": "rllib_distill.algorithms.multi_task_dqn",
    "MultiTaskDQNConfig": "rllib_distill.algorithms.multi_task_dqn",
    "PolicyDistillation": "rllib_distill.algorithms.policy_distillation",
    "PolicyDistillationConfig": "rllib_distill.algorithms.policy_distillation",
    "SoftQDistral": "rllib_distill.algorithms.soft_q_distral",
    "SoftQDistralConfig": "rllib_distill.algorithms.soft_q_distral",
    "register": "rllib_distill.registry",
}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used; `import rllib_distill` loads neither torch nor Ray."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
