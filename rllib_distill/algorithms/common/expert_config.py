"""Settings of algorithms that imitate experts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from ray.rllib.utils.from_config import NotProvided

from rllib_distill.algorithms.common.behaviour import Behaviour, check_behaviour, expert_share
from rllib_distill.algorithms.common.coefficients import Coefficient, check_coefficient, coefficient_of
from rllib_distill.algorithms.common.paths import absolute_path
from rllib_distill.algorithms.common.replay_config import ReplayConfig
from rllib_distill.algorithms.common.schedules import Elapsed
from rllib_distill.experts import ExpertBank
from rllib_distill.sampling.columns import EXPERT_FEATURES, EXPERT_OUTPUTS

STUDENT = "student"


class ExpertConfig(ReplayConfig):
    """Base of the configs with one student, module id `student`, that all tasks are mapped to."""

    per_task_settings = ("tau",)

    def __init__(self, algo_class: type | None = None):
        """Sets the defaults."""
        super().__init__(algo_class=algo_class)
        self.expert_paths: Any = {}  # `experts` in YAML, where no method has that name
        self.behaviour: Behaviour = "student"
        self.tau: Coefficient = 1.0

    def experts(
        self, experts: Mapping[str, str | Path] | str = NotProvided, *, behaviour: Behaviour = NotProvided
    ) -> Self:
        """Sets the experts and who acts while training.

        Args:
            experts: Task name -> path of its expert's `.safetensors` file, one for every task.
            behaviour: Who acts: `student` (Actor-Mimic's choice, which visits the states that the student
                gets itself into), `expert` (Policy Distillation's), or the share of episodes that experts
                act, from begin to end: a schedule (see `training`), or `{"type": "exponential",
                "initial": 1.0, "half_life": env steps or share of the run}` (DAgger's betas).
                Evaluation is always the student's.

        Returns:
            This config.
        """
        return self._set_given({"expert_paths": experts, "behaviour": behaviour})

    @staticmethod
    def _translate_special_keys(key: str, warn_deprecated: bool = True) -> str:
        if key == "experts":
            return "expert_paths"
        return str(ReplayConfig._translate_special_keys(key, warn_deprecated=warn_deprecated))

    def known_keys(self) -> set[str]:
        """`experts` is a key of dicts and files."""
        return super().known_keys() | {"experts"}

    def load_experts(self) -> ExpertBank:
        """Loads every expert, strictly."""
        return ExpertBank.load(self.expert_paths, self.task_set)

    def expert_share_at(self, env_steps: int, progress: float) -> float:
        """See `MultiTaskConfig`."""
        return expert_share(self.behaviour, Elapsed(env_steps, progress))

    @property
    def schedules(self) -> dict[str, Any]:
        """Behaviour may be one, too; of an exponential one, its half-life is a position."""
        behaviour = self.behaviour
        if isinstance(behaviour, Mapping):
            behaviour = [[behaviour.get("half_life", 0), 0.0]]
        return {**super().schedules, "behaviour": behaviour}

    def tau_of(self, task: str) -> float:
        """The task's temperature."""
        return coefficient_of(self.tau, task)

    @property
    def wants_expert_features(self) -> bool:
        """Whether the loss reads the experts' features."""
        return False

    @property
    def label_columns(self) -> tuple[str, ...]:
        """Outputs always; features, which are many, where the loss reads them."""
        return (EXPERT_OUTPUTS, EXPERT_FEATURES) if self.wants_expert_features else (EXPERT_OUTPUTS,)

    def validate(self) -> None:
        """Checks every value and loads every expert, before anything starts."""
        check_behaviour(self.behaviour)
        check_coefficient("tau", self.tau, self.task_set, above=0)
        if isinstance(self.expert_paths, Mapping):
            self.expert_paths = {task: absolute_path(path) for task, path in self.expert_paths.items()}
        super().validate()
        self.check_experts()

    def check_experts(self) -> None:
        """Raises what is wrong with the experts."""
        self.load_experts()

    def _module_of_tasks(self, tasks: list[str]) -> dict[str, str]:
        return dict.fromkeys(tasks, STUDENT)
