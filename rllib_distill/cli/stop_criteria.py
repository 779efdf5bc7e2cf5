"""When a trial stops, and how far it is."""

import sys
from collections.abc import Mapping
from typing import Any

from ray.tune.utils import flatten_dict

from rllib_distill.algorithms.common.schedules import ENV_STEPS, ITERATIONS, SECONDS, is_counter, share_done
from rllib_distill.errors import DistillError, nearest

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
_KNOWN = (ENV_STEPS, SECONDS, ITERATIONS, "time_since_restore", "iterations_since_restore")
_GROUPS = ("env_runners", "learners", "evaluation", "timers")


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
        if name not in _KNOWN and not (name.partition("/")[0] in _GROUPS and "/" in name):
            examples = [*_KNOWN, _RETURN]
            raise DistillError(
                f"unknown key {key!r} in stop. {nearest(key, examples)} Or a key of results, a/b/c."
            )
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise DistillError(f"stop: {key} is {value!r}; it must be a number.{text_hint(value)}")
        stop[name] = value
    return stop


def progress(stop: Mapping[str, float], result: Mapping[str, Any]) -> float | None:
    """How much of a trial is done by what counts, as schedules see it; None if it stops by nothing that does.

    Returns:
        From 0 to 1.
    """
    return share_done(stop, counts_of(stop, result).__getitem__)


def seconds_left(
    stop: Mapping[str, float], result: Mapping[str, Any], rates: Mapping[str, float]
) -> float | None:
    """Time until the first of those criteria is met, at the present rates; None if that is unknown.

    Args:
        stop: Flat criteria.
        result: The last one.
        rates: Key -> increase per second.
    """
    counts = counts_of(stop, result)
    times = [max(0.0, end - counts[key]) / rates[key] for key, end in stop.items() if rates.get(key)]
    return min(times) if times else None


def counts_of(stop: Mapping[str, float], result: Mapping[str, Any]) -> dict[str, float]:
    """What a result's counters are at: env steps, seconds, iterations, and those of the criteria."""
    flat = flatten_dict(dict(result))
    keys = dict.fromkeys([ENV_STEPS, SECONDS, ITERATIONS, *filter(is_counter, stop)])
    return {key: float(flat.get(key) or 0) for key in keys}


def _flat(spec: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in spec.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}/") if isinstance(value, Mapping) else {name: value}
    return flat


def text_hint(value: Any) -> str:
    """YAML reads 1e6 as text; says so, because the file looks right."""
    try:
        return f" YAML takes {value} for text: write {float(value)!r}." if isinstance(value, str) else ""
    except ValueError:
        return ""
