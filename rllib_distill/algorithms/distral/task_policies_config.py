"""The settings that Distral and SoftQDistral share."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModule
from ray.rllib.utils.from_config import NotProvided
from typing_extensions import override

from rllib_distill.core.algorithm import MODULES_FOLDER
from rllib_distill.core.config import MultiTaskConfig, default_network
from rllib_distill.core.rl_module import acting_forward, check_same_network
from rllib_distill.core.schedules import Coefficient, check_coefficient, coefficient_of
from rllib_distill.env_runner.actors import Actor, NetworkActor
from rllib_distill.env_runner.task_envs import DISTILLED, POLICY
from rllib_distill.errors import DistillError, check_number
from rllib_distill.files import absolute_path, newest_checkpoint
from rllib_distill.networks import Parameterization, scale_outputs
from rllib_distill.tasks import SharedSpaces

_NETWORK, _VALUES = "network.", "value_head"
"""How names of a module's weights begin, and how those of value heads go on."""


class TaskPoliciesConfig(MultiTaskConfig):
    """One policy per task (module id = task name) around a distilled policy (module id `distilled`).

    All have the same network and the same actions, so that pi_0 is a policy for every task.
    """

    per_task_settings = ("alpha", "beta")

    def __init__(self, algo_class: type | None = None):
        """Sets the defaults."""
        super().__init__(algo_class=algo_class)
        self.alpha: Coefficient = 0.5
        self.beta: Coefficient = 100.0
        self.init_from: str | Path | None = None
        self._has_started = False  # True in checkpoints, which do not need `init_from` any more
        self.epsilon = 0.0  # policies are stochastic
        self.evaluation_epsilon = 0.0

    @override
    def training(
        self,
        *,
        alpha: Coefficient = NotProvided,
        beta: Coefficient = NotProvided,
        init_from: str | Path | None = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets the training related configuration.

        Args:
            alpha: c_KL / (c_KL + c_Ent), in [0, 1]: 0 rewards entropy only, 1 closeness to the distilled
                policy only. A number, or task -> number. Default 0.5; 1 for `SoftQDistral`.
            beta: 1 / (c_KL + c_Ent), above 0, per unit of reward: the larger, the less rewards are
                regularised. A number, or task -> number where scales of rewards differ. Default 100; 5, the
                paper's for gridworlds, for `SoftQDistral`.
            init_from: Checkpoint whose distilled policy the distilled policy and all task policies start
                from (default None): a head start on new tasks. Networks and spaces must be the same. It is
                read once, before the first step; what is restored from a later checkpoint needs it no more.
            kwargs: See `MultiTaskConfig.training`. The network has the option `lstm`: units of an LSTM
                between features and outputs.

        Returns:
            This config.
        """
        super().training(**kwargs)
        self._set_given({"alpha": alpha, "beta": beta, "init_from": init_from})
        if init_from is not NotProvided:
            self._has_started = False
        if alpha is not NotProvided:
            self._map_tasks()
        return self

    # -- what subclasses say -------------------------------------------------------------------------------

    @property
    def has_distilled(self) -> bool:
        """Whether there is a distilled policy."""
        raise NotImplementedError

    @property
    def policies_parameterization(self) -> Parameterization:
        """What a task policy's logits are made of."""
        raise NotImplementedError

    def column_weights(self, task: str) -> tuple[float, float]:
        """The weights of the distilled policy's and the task network's outputs in the task's logits."""
        raise NotImplementedError

    def initial_head_scale(self, module_id: str) -> float:
        """A module's first logits, as a multiple of those of the distilled policy in `init_from`."""
        raise NotImplementedError

    def num_values(self, module_id: str) -> int:
        """How many value heads a module has."""
        raise NotImplementedError

    def starts_at_zero(self, module_id: str) -> bool:
        """Whether a module's outputs are 0 at first, so that pi_i starts as pi_0^alpha."""
        return module_id != DISTILLED and self.policies_parameterization == "two_column"

    # -- what learners and checkpoints ask -----------------------------------------------------------------

    def alpha_of(self, task: str) -> float:
        """Alpha of a task."""
        return coefficient_of(self.alpha, task)

    def beta_of(self, task: str) -> float:
        """Beta of a task."""
        return coefficient_of(self.beta, task)

    @property
    def starts_from_another(self) -> bool:
        """Whether `init_from` has still to be read."""
        return self.init_from is not None and not self._has_started

    @override
    def checkpoint_state(self) -> dict[str, Any]:
        """Adds that training has started: `init_from` may be gone when a checkpoint is restored."""
        return {**super().checkpoint_state(), "_has_started": True}

    # -- who plays -----------------------------------------------------------------------------------------

    @override
    def make_behaviour(self, modules: Any, experts: Any, *, device: torch.device, **_: Any) -> Actor:
        """Makes the actor of all tasks' policies together; it draws actions if `explore` is set."""
        return self._policies_actor(modules, device)

    @override
    def make_evaluated_policies(self, modules: Any, device: torch.device) -> dict[str, Actor]:
        """Evaluates the tasks' policies and, on every task, the distilled policy; both draw actions."""
        policies = {POLICY: self._policies_actor(modules, device)}
        if self.evaluates_distilled:
            policies[DISTILLED] = self._policies_actor(modules, device, who=DISTILLED)
        return policies

    @property
    @override
    def evaluates_distilled(self) -> bool:
        """Whether there is a distilled policy that is not the tasks' policy itself."""
        return self.has_distilled and self.policies_parameterization != "shared"

    def _policies_actor(self, modules: Any, device: torch.device, **others: Any) -> Actor:
        return NetworkActor(
            acting_forward(modules, **others),
            self.shared_spaces,
            state_size=modules.policies.state_size,
            device=device,
            draws=bool(self.explore),
        )

    # -- modules -------------------------------------------------------------------------------------------

    @property
    @override
    def other_modules(self) -> tuple[str, ...]:
        """The distilled policy's module, if there is one."""
        return (DISTILLED,) if self.has_distilled else ()

    @override
    def tasks_of_module(self, module_id: str) -> tuple[str, ...]:
        """The distilled policy's tasks are all tasks."""
        return tuple(self.tasks) if module_id == DISTILLED else super().tasks_of_module(module_id)

    @override
    def module_spaces(self, module_id: str) -> SharedSpaces:
        """Every module has the common spaces of all tasks."""
        return self.shared_spaces

    @override
    def get_multi_rl_module_spec(self, **kwargs: Any) -> MultiRLModuleSpec:
        """Makes a spec per module, and of the MultiRLModule in which they act together."""
        from rllib_distill.algorithms.distral.distral_rl_module import DistralMultiRLModule

        spec = super().get_multi_rl_module_spec(**kwargs)
        spec.multi_rl_module_class = DistralMultiRLModule
        spec.model_config = {
            "tasks": tuple(self.tasks),
            "parameterization": self.policies_parameterization,
            "column_weights": {task: self.column_weights(task) for task in self.tasks},
        }
        return spec

    @override
    def model_config_of_module(self, module_id: str) -> dict[str, Any]:
        shape = self.shared_spaces.observation_space.shape
        return {
            "network": default_network(shape) if self.network is None else self.network,
            "heads": None,
            "mixed_precision": self.mixed_precision,
            "num_values": self.num_values(module_id),
            "starts_at_zero": self.starts_at_zero(module_id),
        }

    # -- checks --------------------------------------------------------------------------------------------

    @override
    def validate(self) -> None:
        tasks = self.task_set  # raises what is wrong with the tasks first
        check_coefficient("alpha", self.alpha, tasks, least=0, most=1)
        check_coefficient("beta", self.beta, tasks, above=0)
        self._check_tasks()
        check_number("epsilon", self.epsilon, least=0, most=0)
        self.check_draws()
        if self.torch_compile_learner or self.torch_compile_worker:
            raise DistillError(
                "torch_compile_learner and torch_compile_worker are not for Distral: remove them."
            )
        super().validate()
        if self.starts_from_another:
            self.init_from = absolute_path(self.init_from)
            _check_initial_policy(self)

    def _check_tasks(self) -> None:
        """Raises DistillError unless all tasks have the same actions, for which pi_0 is a policy."""
        if DISTILLED in self.tasks:
            raise DistillError(
                f"a task is called {DISTILLED!r}, which is the distilled policy's name: rename it."
            )
        if self.heads != "shared":
            raise DistillError(
                f"heads is {self.heads!r}; here it must be 'shared': the distilled policy and the task "
                "policies choose among the same actions."
            )
        (first, first_task), *others = self.task_set.items()
        for name, task in others:
            if (task.num_actions, task.action_meanings) != (
                first_task.num_actions,
                first_task.action_meanings,
            ):
                raise DistillError(
                    f"tasks {first!r} and {name!r} have different actions: {_actions(first_task)} and "
                    f"{_actions(task)}. The distilled policy needs one set for all: take the environments' "
                    "full action sets (for MinAtar the ids that end in -v0, for Atari env_config: "
                    "{full_action_space: true}), or leave one task out."
                )


def read_distilled_policy(checkpoint: str | Path) -> dict[str, torch.Tensor]:
    """Weights of a checkpoint's distilled policy, without value heads.

    Raises:
        DistillError: There is no such checkpoint, or it has no distilled policy.
    """
    folder = Path(checkpoint) / MODULES_FOLDER / DISTILLED
    if not folder.is_dir():
        raise DistillError(f"init_from is {str(checkpoint)!r}, which {_what_is_wrong(Path(checkpoint))}")
    weights = RLModule.from_checkpoint(folder.resolve()).state_dict()
    return {
        name.removeprefix(_NETWORK): weight
        for name, weight in weights.items()
        if name.startswith(_NETWORK) and not _is_value(name.removeprefix(_NETWORK))
    }


def start_from(weights: Mapping[str, torch.Tensor], module: Any, head_scale: float) -> None:
    """Gives a module the distilled policy's weights.

    Args:
        weights: The result of `read_distilled_policy`.
        module: The RLModule.
        head_scale: The module's first logits, as a multiple of the distilled policy's.
    """
    module.network.load_state_dict(weights, strict=False)  # the weights lack value heads
    scale_outputs(module.network, head_scale)


def _check_initial_policy(config: Any) -> None:
    """Raises DistillError unless `init_from` has a distilled policy that fits the config's networks."""
    with torch.device("meta"):
        own = config.build_network_of(next(iter(config.policies)))
    check_same_network(
        {_NETWORK + name: weights for name, weights in read_distilled_policy(config.init_from).items()},
        {_NETWORK + name: weights for name, weights in own.state_dict().items() if not _is_value(name)},
        "Give init_from a checkpoint of the same network, whose tasks (others, maybe) have observations and "
        "actions of the same shapes; or remove init_from.",
    )


def _what_is_wrong(checkpoint: Path) -> str:
    if (checkpoint / MODULES_FOLDER).is_dir():
        return (
            "is a checkpoint without a distilled policy: take one of Distral with another variant than a3c, "
            "or of SoftQDistral."
        )
    inside = newest_checkpoint(checkpoint)
    if inside is not None:
        return f"is the folder of a trial; its checkpoint is {str(inside)!r}."
    what = "is no checkpoint" if checkpoint.exists() else "does not exist"
    return (
        f"{what}: give the folder of a checkpoint that Distral wrote, such as "
        "results/<experiment>/<trial>/checkpoint_000000."
    )


def _is_value(name: str) -> bool:
    return name.startswith(_VALUES)


def _actions(task: Any) -> str:
    names = f" ({', '.join(task.action_meanings)})" if task.action_meanings else ""
    return f"{task.num_actions}{names}"
