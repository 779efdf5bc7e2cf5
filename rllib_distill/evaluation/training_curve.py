"""The returns while a trial trained, in few enough points to be kept with every run."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

_MOST_POINTS = 200

Result = Mapping[str, Any]
"""What RLlib tells after a training iteration."""


def training_curve(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Training returns over time.

    Args:
        results: Of a trial, in order. Where they are many, those of each of 200 equal ranges of env steps are
            averaged.

    Returns:
        In order: `env_steps` of all tasks together, `seconds` trained, and `returns`: task -> mean return of
        its last training episodes, of the tasks that have one by then.
    """
    known = [result for result in results if training_returns(result)]
    return [_mean_point(part) for part in _parts(known)]


def training_returns(result: Result) -> dict[str, float]:
    """Task -> mean return of its last training episodes; empty before one has ended."""
    means = result.get("env_runners", {}).get("agent_episode_returns_mean", {})
    return {task: float(mean) for task, mean in means.items() if mean is not None and math.isfinite(mean)}


def _parts(results: Sequence[Result]) -> list[list[Result]]:
    if len(results) <= _MOST_POINTS:
        return [[result] for result in results]
    first, last = _env_steps(results[0]), _env_steps(results[-1])
    width = max(last - first, 1.0)
    parts: dict[int, list[Result]] = {}
    for result in results:
        part = int((_env_steps(result) - first) * _MOST_POINTS // width)
        parts.setdefault(min(part, _MOST_POINTS - 1), []).append(result)
    return list(parts.values())


def _mean_point(results: Sequence[Result]) -> dict[str, Any]:
    returns: dict[str, list[float]] = {}
    for result in results:
        for task, mean in training_returns(result).items():
            returns.setdefault(task, []).append(mean)
    return {
        "env_steps": round(fmean(map(_env_steps, results))),
        "seconds": round(fmean(float(result["time_total_s"]) for result in results), 1),
        "returns": {task: float(f"{fmean(means):.6g}") for task, means in returns.items()},  # a small file
    }


def _env_steps(result: Result) -> float:
    return float(result["num_env_steps_sampled_lifetime"])
