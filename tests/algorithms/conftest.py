"""The fixtures of `tests.configs`, under their names."""

from tests.configs import actor_mimic, bank, distillation, dqn, on_policy, online, paths

__all__ = ["actor_mimic", "bank", "distillation", "dqn", "on_policy", "online", "paths"]
