"""Distral: task policies and a distilled policy that shape each other (Teh et al., 2017)."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.from_config import NotProvided
from typing_extensions import override

from rllib_distill.algorithms.distral.task_policies_config import TaskPoliciesConfig
from rllib_distill.core.expert_export import ExpertExport
from rllib_distill.core.schedules import Coefficient
from rllib_distill.core.trajectories import TrajectoryMixin
from rllib_distill.env_runner.task_envs import DISTILLED
from rllib_distill.errors import DistillError, check_choice
from rllib_distill.networks import Parameterization

_VARIANT = "variant"
"""Key of dicts and files, which no attribute has the name of."""

_SHARE_WITHOUT_KL = 0.5
"""What h counts in two columns where alpha is 0: see `DistralConfig.column_weights`."""


class Variant(NamedTuple):
    """What is regularised, and what a task policy's logits are."""

    alpha: float
    parameterization: Parameterization


VARIANTS = {
    "a3c": Variant(0.0, "one_column"),
    "a3c_multitask": Variant(0.0, "shared"),
    "a3c_2col": Variant(0.0, "two_column"),
    "kl_1col": Variant(1.0, "one_column"),
    "kl_2col": Variant(1.0, "two_column"),
    "kl_ent_1col": Variant(0.5, "one_column"),
    "kl_ent_2col": Variant(0.5, "two_column"),
}
"""The paper's seven algorithms, by the names of its figures."""


def variant_of(name: str) -> Variant:
    """The variant of a name; raises DistillError where there is none."""
    check_choice("variant", name, tuple(VARIANTS))
    return VARIANTS[name]


def name_of(alphas: set[float], parameterization: str) -> str:
    """The variant with these settings; all alphas strictly between 0 and 1 are the same variant."""
    terms = "a3c" if alphas == {0.0} else "kl" if alphas == {1.0} else "kl_ent"
    one_column = "" if terms == "a3c" else "_1col"
    return terms + {"one_column": one_column, "two_column": "_2col", "shared": "_multitask"}[parameterization]


class DistralConfig(TaskPoliciesConfig, TrajectoryMixin):
    """Configures `Distral`.

    Example:
        config = (
            DistralConfig()
            .multi_task(tasks={f"maze_{i}": {"env": "rllib_distill/Maze-v0", "env_config": {"task": i}}
                               for i in range(8)})
            .variant("kl_ent_2col")
            .training(beta=100.0, lr=1e-3)
        )
        algo = config.build_algo()
        algo.train()
        algo.evaluate()
    """

    def __init__(self, algo_class: type | None = None):
        """Sets the defaults."""
        if algo_class is None:
            algo_class = Distral
        super().__init__(algo_class=algo_class)
        self.parameterization: Parameterization = "two_column"
        self.lr = 0.0005
        self.grad_clip = 40.0
        self.num_envs_per_task = 16
        self.rollout_fragment_length = 20

    def variant(self, name: str) -> Self:
        """Sets alpha and the parameterization to one of the paper's seven algorithms.

        Args:
            name: `a3c` (separate learning), `a3c_multitask` (one policy for all tasks), `a3c_2col`,
                `kl_1col`, `kl_2col`, `kl_ent_1col`, `kl_ent_2col` (default). In files the key is `variant`.

        Returns:
            This config.
        """
        alpha, parameterization = variant_of(name)
        return self.training(alpha=alpha, parameterization=parameterization)

    @override
    def training(
        self,
        *,
        parameterization: Parameterization = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets the training related configuration.

        Args:
            parameterization: What a task policy's logits are: those of the task's network (`one_column`);
                alpha h + beta f, of the distilled network and the task's (`two_column`, default); or those of
                one network for all tasks (`shared`, for alpha 0).
            kwargs: See `TaskPoliciesConfig.training` and `TrajectoryMixin.training`.

        Returns:
            This config.
        """
        super().training(**kwargs)
        self._set_given({"parameterization": parameterization})
        self._map_tasks()
        return self

    @override
    def update_from_dict(self, config_dict: Mapping[str, Any]) -> Self:
        """Takes settings from a dict, which may have `variant` and, beside it, another `alpha` than 0.5.

        Raises:
            DistillError: `alpha` or `parameterization` is of another variant.
        """
        given = dict(config_dict)
        variant = given.pop(_VARIANT, None)
        if variant is None:
            return super().update_from_dict(given)
        self.variant(variant)
        super().update_from_dict(given)
        alphas = set(self.alpha.values()) if isinstance(self.alpha, Mapping) else {self.alpha}
        name = name_of(alphas, self.parameterization)
        if name != variant:
            raise DistillError(
                f"variant is {variant!r}, but alpha {self.alpha!r} with parameterization "
                f"{self.parameterization!r} is {name!r}: give the variant alone, or the other two alone."
            )
        return self

    @override
    def known_keys(self) -> set[str]:
        """Adds `variant`, which is a key of dicts and files only."""
        return super().known_keys() | {_VARIANT}

    @property
    def variant_name(self) -> str:
        """What the paper calls these settings."""
        return name_of({self.alpha_of(task) for task in self.tasks}, self.parameterization)

    # -- what the modules are ------------------------------------------------------------------------------

    @property
    @override
    def has_distilled(self) -> bool:
        """Whether there is a distilled policy: in all variants but separate learning."""
        return self.parameterization != "one_column" or not _is_zero(self.alpha)

    @property
    @override
    def learns_on_policy(self) -> bool:
        return True

    @property
    @override
    def policies_parameterization(self) -> Parameterization:
        return self.parameterization

    @override
    def column_weights(self, task: str) -> tuple[float, float]:
        """Alpha for h, and 1 for the task network's outputs, which are beta f: see `TaskPolicies`.

        With alpha 0 the objective has no KL, but table 1 has two columns still: h then has the weight that
        it has in the variants with KL and entropy.
        """
        return self.alpha_of(task) or _SHARE_WITHOUT_KL, 1.0

    @override
    def initial_head_scale(self, module_id: str) -> float:
        """Lets all policies start as the distilled one, of which two columns have a part already."""
        if module_id == DISTILLED or self.parameterization != "two_column":
            return 1.0
        return 1.0 - self.column_weights(module_id)[0]

    @override
    def num_values(self, module_id: str) -> int:
        """One value function per task, in the module that acts for the task."""
        if module_id != DISTILLED:
            return 1
        return len(self.tasks) if self.parameterization == "shared" else 0

    @override
    def get_default_rl_module_spec(self) -> RLModuleSpec:
        from rllib_distill.algorithms.distral.distral_rl_module import DistralRLModule

        return RLModuleSpec(module_class=DistralRLModule)

    @override
    def get_default_learner_class(self) -> type:
        from rllib_distill.algorithms.distral.distral_learner import DistralLearner

        return DistralLearner

    @override
    def _module_of_tasks(self, tasks: list[str]) -> dict[str, str]:
        shared = self.parameterization == "shared"
        return dict.fromkeys(tasks, DISTILLED) if shared else super()._module_of_tasks(tasks)

    # -- checks --------------------------------------------------------------------------------------------

    @override
    def validate(self) -> None:
        check_choice("parameterization", self.parameterization, ("one_column", "two_column", "shared"))
        if self.parameterization == "shared":
            self._check_shared()
        super().validate()
        self.check_batch_size()

    def _check_shared(self) -> None:
        for name in ("alpha", "beta"):
            value = getattr(self, name)
            if isinstance(value, Mapping):
                raise DistillError(
                    f"{name} is {value!r}; a3c_multitask (parameterization 'shared') is one policy with one "
                    "objective for all tasks: give one number, or scale the tasks' rewards by a wrapper."
                )
        if not _is_zero(self.alpha):
            raise DistillError(
                f"alpha is {self.alpha!r}; with parameterization 'shared' it must be 0: the distilled policy "
                "would be the task policy itself. Take 'one_column' or 'two_column'."
            )


class Distral(ExpertExport):
    """An asynchronous actor-critic with V-trace in place of the paper's A3C, on any number of learners.

    Tasks are played by their own policies (module id = task name). `evaluate` also plays them with the
    distilled policy (module id `distilled`): `env_runners/distilled_episode_returns_mean/<task>`. With `a3c`
    there is no distilled policy, and with `a3c_multitask` it is the only policy.
    """

    config: DistralConfig
    expert_kind = "logits"

    @classmethod
    @override
    def get_default_config(cls) -> DistralConfig:
        return DistralConfig()

    @property
    @override
    def learned_experts(self) -> dict[str, str]:
        """Each task's policy, if it consists of the task's network alone and no observations are padded."""
        config = self.config
        shape = config.shared_spaces.observation_space.shape
        own = config.parameterization == "one_column" and all(
            task.observation_space.shape == shape for task in config.task_set.values()
        )
        return {task: task for task in config.tasks} if own else {}


def _is_zero(alpha: Coefficient) -> bool:
    return not any(alpha.values()) if isinstance(alpha, Mapping) else alpha == 0
