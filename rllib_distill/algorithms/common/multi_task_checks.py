"""What must hold of a multi-task config before anything starts; each raises DistillError."""

from typing import Any

import torch

from rllib_distill.algorithms.common.optimizers import check_optimizer
from rllib_distill.algorithms.common.settings import check_bool, check_choice, check_number, check_schedule
from rllib_distill.errors import DistillError
from rllib_distill.networks import build_network

_COUNTS = (
    "num_envs_per_task",
    "rollout_fragment_length",
    "train_batch_size_per_learner",
    "replay_capacity",
    "num_steps_per_task_before_learning",
)


def check_values(config: Any) -> None:
    """Numbers and schedules are within their bounds."""
    check_number("replay_ratio", config.replay_ratio, above=0)
    check_number("gamma", config.gamma, least=0, most=1)
    check_schedule("lr", config.lr, least=0)
    check_schedule("epsilon", config.epsilon, least=0, most=1)
    check_number("evaluation_epsilon", config.evaluation_epsilon, least=0, most=1)
    check_optimizer(config.optimizer)
    check_choice("heads", config.heads, ("shared", "per_task"))
    check_bool("mixed_precision", config.mixed_precision)
    check_bool("one_task_per_minibatch", config.one_task_per_minibatch)


def check_networks(config: Any) -> None:
    """The tasks of every module can share a network, and it can take what they observe."""
    for module_id in config.policies:
        shared = config.module_spaces(module_id)
        with torch.device("meta"):
            model = config.model_config_of_module(module_id)
            outputs = model["heads"] or shared.num_actions
            build_network(model["network"], shared.observation_space.shape, outputs)


def check_sizes(config: Any) -> None:
    """Counts are whole numbers that fit each other."""
    for name in _COUNTS:
        check_number(name, getattr(config, name), least=1, integer=True)
    for name in ("num_env_runners", "num_learners"):
        check_number(name, getattr(config, name), least=0, integer=True)
    batch_size, num_tasks = int(config.train_batch_size_per_learner or 0), len(config.tasks)
    if batch_size % num_tasks and not config.minibatch_is_of_one_task:
        raise DistillError(
            f"train_batch_size_per_learner is {batch_size}; every task gets an equal share, so with "
            f"{num_tasks} tasks it must be a multiple of {num_tasks}, "
            f"e.g. {max(1, round(batch_size / num_tasks)) * num_tasks}."
        )
    rows_needed = 2 * config.num_envs_per_task * max(1, config.num_env_runners) * max(1, config.num_learners)
    if config.replay_capacity < max(rows_needed, config.num_steps_per_task_before_learning):
        raise DistillError(
            f"replay_capacity is {config.replay_capacity}; it must hold num_steps_per_task_before_learning "
            f"({config.num_steps_per_task_before_learning}) and two steps of every environment "
            f"({rows_needed})."
        )
