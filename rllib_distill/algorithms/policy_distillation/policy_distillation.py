"""Policy Distillation: one student learns what its experts, or teachers, know (Rusu et al., 2016)."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS

from rllib_distill.algorithms.common.schedules import value_at
from rllib_distill.algorithms.common.student_algorithm import StudentAlgorithm
from rllib_distill.algorithms.multi_task_dqn.expert_export import ExpertExport
from rllib_distill.algorithms.policy_distillation.policy_distillation_config import PolicyDistillationConfig
from rllib_distill.sampling.episode_metrics import EXPERT_EPISODE_RETURNS_MEAN, STUDENT_EPISODE_RETURNS_MEAN

_KNOWN_RETURNS = "known_returns"


class PolicyDistillation(StudentAlgorithm, ExpertExport):
    """Experts play (or the student, or both by turns) and label what is seen; the student learns from it."""

    config: PolicyDistillationConfig

    @classmethod
    def get_default_config(cls) -> PolicyDistillationConfig:
        """See RLlib."""
        return PolicyDistillationConfig()

    def setup(self, config: Any) -> None:
        """See RLlib."""
        super().setup(config)
        self._known_returns: dict[str, dict[str, float]] = {}

    @property
    def learned_experts(self) -> Mapping[str, str]:
        """Experts that learned beside the student are good for the next one."""
        return self.config.expert_modules

    def learner_inputs(self) -> dict[str, Any]:
        """The weight of each task's imitation loss, and how well experts play that still learn."""
        inputs: dict[str, Any] = {"imitation_coeffs": self._imitation_coeffs()}
        if self.config.experts_learn:
            inputs["expert_returns"] = self._recent_returns(EXPERT_EPISODE_RETURNS_MEAN)
        return inputs

    def _imitation_coeffs(self) -> dict[str, float]:
        coeff = self.config.imitation_coeff
        if not isinstance(coeff, str):
            return dict.fromkeys(self.config.tasks, value_at(coeff, self.elapsed()))
        students = self._recent_returns(STUDENT_EPISODE_RETURNS_MEAN)
        learn = self.config.experts_learn
        experts = self._recent_returns(EXPERT_EPISODE_RETURNS_MEAN) if learn else self.returns_of_files
        return {
            task: min(max(1.0 - students[task] / experts[task], 0.0), 1.0)
            if task in students and experts.get(task, 0.0) > 0
            else 1.0
            for task in self.config.tasks
        }

    def _recent_returns(self, key: str) -> dict[str, float]:
        """Task -> the last that was heard of; between reports RLlib's metrics have nan there."""
        known = self._known_returns.setdefault(key, {})
        heard = self.metrics.peek((ENV_RUNNER_RESULTS, key), default={})
        known.update({task: float(mean) for task, mean in heard.items() if isfinite(mean)})
        return known

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Any of our algorithms', and the returns that are known."""
        return {**super().get_state(*args, **kwargs), _KNOWN_RETURNS: self._known_returns}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores what `get_state` gave."""
        super().set_state(state)
        self._known_returns = state.get(_KNOWN_RETURNS, {})

    @property
    def _transitions_before_learning(self) -> int:
        return 1 if self.config.is_on_policy else super()._transitions_before_learning
