"""Multi-task reinforcement learning by distillation, as a plugin to Ray RLlib."""

from typing import TYPE_CHECKING, Any

from rllib_distill.registry import PUBLIC_NAMES, public_object

if TYPE_CHECKING:  # `X as X` tells type checkers that X is public
    from rllib_distill.algorithms.actor_mimic import ActorMimic as ActorMimic
    from rllib_distill.algorithms.actor_mimic import ActorMimicConfig as ActorMimicConfig
    from rllib_distill.algorithms.distral import Distral as Distral
    from rllib_distill.algorithms.distral import DistralConfig as DistralConfig
    from rllib_distill.algorithms.multi_task_dqn import MultiTaskDQN as MultiTaskDQN
    from rllib_distill.algorithms.multi_task_dqn import MultiTaskDQNConfig as MultiTaskDQNConfig
    from rllib_distill.algorithms.policy_distillation import PolicyDistillation as PolicyDistillation
    from rllib_distill.algorithms.policy_distillation import (
        PolicyDistillationConfig as PolicyDistillationConfig,
    )
    from rllib_distill.algorithms.soft_q_distral import SoftQDistral as SoftQDistral
    from rllib_distill.algorithms.soft_q_distral import SoftQDistralConfig as SoftQDistralConfig
    from rllib_distill.registry import register as register

__version__ = "0.1.0"
__all__ = ["__version__", *PUBLIC_NAMES]


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used; `import rllib_distill` loads neither torch nor Ray."""
    if name not in PUBLIC_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return public_object(name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
