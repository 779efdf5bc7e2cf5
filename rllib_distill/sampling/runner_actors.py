"""Everyone who may act for an env runner, made from its config and its modules."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rllib_distill.sampling.actors import (
    Actor,
    ExpertActor,
    JointActor,
    ModuleActor,
    RandomActor,
    module_forward,
)
from rllib_distill.sampling.behaviour import Behaviour
from rllib_distill.sampling.episodes import DISTILLED, EXPERT
from rllib_distill.sampling.policy_actor import PolicyActor, PolicyForward


class RunnerActors:
    """Who acts, in training and in evaluation.

    Attributes:
        random: The yardstick.
        student: The modules that act for the tasks, greedily but for epsilon.
        behaviour: Expert and student in training; the latter draws its actions where the config says so.
            Experts are modules that learn where the config has such, else those from files.
        beside: Who is evaluated beside the student: under `EXPERT`, experts that learn.
    """

    def __init__(
        self,
        config: Any,
        modules: Any,
        device: torch.device | str,
        *,
        expert_outputs: Callable[[str, NDArray[Any]], NDArray[np.float32]],
        expert_share: Callable[[], float],
        rng: np.random.Generator,
    ):
        """Makes them.

        Args:
            config: The runner's.
            modules: Module id -> RLModule.
            device: Where the modules are.
            expert_outputs: What experts from files say, see `ExpertActor`.
            expert_share: Share of the training episodes that experts act at the moment; 0 in evaluation.
            rng: Where the draws of who acts an episode come from.
        """
        self._config, self._modules, self._device = config, modules, device
        students = dict.fromkeys(config.policy_mapping_fn(task, None) for task in config.task_set)
        experts = dict.fromkeys(config.expert_modules.values())
        draws = config.samples_actions and config.explore and not config.in_evaluation
        self.random = RandomActor({name: task.num_actions for name, task in config.task_set.items()})
        self.student: Actor = self._of_modules(students)
        expert: Actor = self._of_modules(experts) if experts else ExpertActor(expert_outputs)
        exploring = self._of_modules(students, draws=True) if draws else self.student
        self.behaviour = Behaviour(exploring, expert, expert_share, rng)
        self.beside: Mapping[str, Actor] = {EXPERT: expert} if experts else {}

    def _of_modules(self, module_ids: Iterable[str], *, draws: bool = False) -> JointActor:
        return JointActor(
            {
                self._config.tasks_of_module(module_id): ModuleActor(
                    module_forward(self._modules[module_id]),
                    self._config.module_spaces(module_id),
                    self._config.num_envs_per_task,
                    self._device,
                    draws=draws,
                )
                for module_id in module_ids
            }
        )


class PolicyRunnerActors:
    """Who acts where the tasks' policies are stochastic, perhaps recurrent, and have parts in common.

    They are asked all at once, so `modules` is a MultiRLModule that has, for all tasks,

        task_forward: See `PolicyForward`.
        distilled_forward: As well, where a distilled policy is evaluated.
        state_size: Of a recurrent state.

    Attributes:
        random: The yardstick.
        student: The tasks' policies, drawn from where the config's `explore` says so, in evaluation too.
        behaviour: The same.
        beside: Who is evaluated beside them: under `DISTILLED`, the distilled policy on every task.
    """

    def __init__(self, config: Any, modules: Any, device: torch.device | str, **_: Any):
        """Makes them. Arguments as of `RunnerActors`; there are no experts."""
        spaces, num_envs, draws = config.task_set.shared(), config.num_envs_per_task, bool(config.explore)

        def actor(forward: PolicyForward) -> PolicyActor:
            return PolicyActor(forward, spaces, num_envs, modules.state_size, device, draws=draws)

        self.random = RandomActor({name: task.num_actions for name, task in config.task_set.items()})
        self.student = self.behaviour = actor(modules.task_forward)
        self.beside: Mapping[str, Actor] = (
            {DISTILLED: actor(modules.distilled_forward)} if config.evaluates_distilled else {}
        )
