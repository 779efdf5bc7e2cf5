"""A student's evaluation beside its experts'."""

from typing import Any

from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, EPISODE_AGENT_RETURN_MEAN

from rllib_distill.experts import ExpertBank

STUDENT_EXPERT_RATIO = "student_expert_ratio"


def add_student_scores(results: dict[str, Any], experts: ExpertBank) -> dict[str, Any]:
    """Adds student / expert mean return per task to an evaluation's results.

    A plain ratio, negative while the student's score is (Pong): follow it, but don't average it over tasks;
    `rllib evaluate` knows random play's score and compares with that.

    Args:
        results: What `Algorithm.evaluate` returns.
        experts: Whose `expected_return` counts; one whose return is unknown, or not above 0, has no ratio:
            it would be the higher the worse the student is.

    Returns:
        The results.
    """
    means = results.get(ENV_RUNNER_RESULTS, {}).get(EPISODE_AGENT_RETURN_MEAN, {})
    ratios = {}
    for task, expert in experts.items():
        expected = (expert.info.expected_return or {}).get("mean")
        if task in means and expected is not None and expected > 0:
            ratios[task] = float(means[task]) / expected
    results.setdefault(ENV_RUNNER_RESULTS, {})[STUDENT_EXPERT_RATIO] = ratios
    return results
