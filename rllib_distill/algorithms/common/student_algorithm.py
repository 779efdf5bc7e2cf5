"""Algorithms that make one student of many experts."""

from functools import cached_property
from typing import Any

from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    EPISODE_AGENT_RETURN_MEAN,
    EPISODE_MODULE_RETURN_MEAN,
)

from rllib_distill.algorithms.common.expert_config import ExpertConfig
from rllib_distill.algorithms.common.multi_task_algorithm import MultiTaskAlgorithm

STUDENT_EXPERT_RATIO = "student_expert_ratio"


class StudentAlgorithm(MultiTaskAlgorithm):
    """Compares its student with the experts in every evaluation."""

    config: ExpertConfig

    @cached_property
    def returns_of_files(self) -> dict[str, float]:
        """Task -> the mean return that its expert's file tells, as far as it is known."""
        infos = {task: expert.info for task, expert in self.config.load_experts().items()}
        return {
            task: float(info.expected_return["mean"]) for task, info in infos.items() if info.expected_return
        }

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """RLlib's, with `student_expert_ratio/<task>`: student's / expert's mean return.

        A plain ratio, negative while the student's score is (Pong): follow it, but don't average it over
        tasks; `rllib evaluate` knows random play's score and compares with that. An expert whose return is
        unknown, or not above 0, has no ratio: it would be the higher the worse the student is.
        """
        results = super().evaluate(*args, **kwargs)
        played = results.setdefault(ENV_RUNNER_RESULTS, {})
        means = played.get(EPISODE_AGENT_RETURN_MEAN, {})
        if modules := self.config.expert_modules:
            evaluated = played.get(EPISODE_MODULE_RETURN_MEAN, {})
            expected = {task: evaluated[module] for task, module in modules.items() if module in evaluated}
        else:
            expected = self.returns_of_files
        played[STUDENT_EXPERT_RATIO] = {
            task: float(means[task]) / expected[task]
            for task in means
            if task in expected and expected[task] > 0
        }
        return results
