"""When a trial stops, and how far it is."""

import math
import sys
from collections.abc import Mapping
from typing import Any

from ray.tune.utils import flatten_dict

from rllib_distill.core.schedules import ENV_STEPS, ITERATIONS, SECONDS, check_stop, is_counter

_RETURN = "env_runners/episode_return_mean"
_RENAMED = {
    "timesteps_total": ENV_STEPS,
    "num_env_steps_sampled": ENV_STEPS,
    "episode_reward_mean": _RETURN,
    "env_runners/episode_reward_mean": _RETURN,
    "sampler_results/episode_reward_mean": _RETURN,
    "evaluation/episode_reward_mean": "evaluation/env_runners/episode_return_mean",
    "evaluation/sampler_results/episode_reward_mean": "evaluation/env_runners/episode_return_mean",
}


def read_stop(spec: Mapping[str, Any]) -> dict[str, float]:
    """Flattens and checks stop criteria: Tune never stops at one that it doesn't know.

    Args:
        spec: Result key -> value; `a/b` or `{a: {b: ...}}` reaches inside.

    Returns:
        Flat key -> value, with today's names for old ones.

    Raises:
        DistillError: An unknown key, or a value that is no number.
    """
    stop = {}
    for key, value in _flat(spec).items():
        name = _RENAMED.get(key, key)
        if name != key:
            print(f"note: stop: {key} is called {name} now", file=sys.stderr)
        stop[name] = value
    check_stop(stop)
    return stop


def seconds_left(
    stop: Mapping[str, float], counts: Mapping[str, float], rates: Mapping[str, float]
) -> float | None:
    """Time until the first of those criteria is met, at the present rates; None if that is unknown.

    Args:
        stop: Flat criteria.
        counts: What counters are at.
        rates: Key -> increase per second.
    """
    times = [max(0.0, end - counts[key]) / rates[key] for key, end in stop.items() if rates.get(key)]
    return min(times) if times else None


def counts_of(
    stop: Mapping[str, float], result: Mapping[str, Any], before: Mapping[str, float] | None = None
) -> dict[str, float]:
    """What counters are at: env steps, seconds, iterations, and those of the criteria.

    Args:
        stop: Flat criteria.
        result: The last one; RLlib has NaN where an iteration counted nothing.
        before: What they were at; 0 if not given.
    """
    flat = flatten_dict(dict(result))
    keys = dict.fromkeys([ENV_STEPS, SECONDS, ITERATIONS, *filter(is_counter, stop)])
    counts = {key: float(flat.get(key) or 0) for key in keys}
    return {key: (before or {}).get(key, 0.0) if math.isnan(n) else n for key, n in counts.items()}


def _flat(spec: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in spec.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}/") if isinstance(value, Mapping) else {name: value}
    return flat
