"""What must hold of a multi-task config before anything starts; each raises DistillError."""

from collections.abc import Iterable
from typing import Any

import torch

from rllib_distill.algorithms.common.optimizers import check_optimizer
from rllib_distill.algorithms.common.schedules import check_schedule
from rllib_distill.algorithms.common.settings import check_bool, check_choice, check_number

_COUNTS = ("num_envs_per_task", "rollout_fragment_length")


def check_values(config: Any) -> None:
    """Numbers and schedules are within their bounds."""
    check_number("gamma", config.gamma, least=0, most=1)
    check_schedule("lr", config.lr, least=0)
    check_schedule("epsilon", config.epsilon, least=0, most=1)
    check_number("evaluation_epsilon", config.evaluation_epsilon, least=0, most=1)
    check_optimizer(config.optimizer)
    check_choice("heads", config.heads, ("shared", "per_task"))
    check_bool("mixed_precision", config.mixed_precision)


def check_networks(config: Any) -> None:
    """The tasks of every module can share a network, and it can take what they observe."""
    for module_id in config.policies:
        with torch.device("meta"):
            config.build_network_of(module_id)


def check_sizes(config: Any) -> None:
    """Counts are whole numbers."""
    check_counts(config, _COUNTS)
    for name in ("num_env_runners", "num_learners"):
        check_number(name, getattr(config, name), least=0, integer=True)


def check_counts(config: Any, names: Iterable[str]) -> None:
    """The config's values of these names are whole numbers above 0."""
    for name in names:
        check_number(name, getattr(config, name), least=1, integer=True)
