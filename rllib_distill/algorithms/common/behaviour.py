"""Who acts while training: the setting `behaviour`, which says what share of the episodes experts act."""

from collections.abc import Mapping, Sequence
from typing import Any

from rllib_distill.algorithms.common.schedules import (
    Elapsed,
    Position,
    check_position,
    check_schedule,
    position_value,
    value_at,
)
from rllib_distill.algorithms.common.settings import check_number
from rllib_distill.errors import DistillError, nearest

Behaviour = str | float | Sequence[Sequence[Position]] | Mapping[str, Any]

_SHARES = {"student": 0.0, "expert": 1.0}
_EXPONENTIAL = {"type": "exponential", "initial": 1.0, "half_life": 100_000}
_FORMS = (
    "'student', 'expert', the share of episodes that experts act (0 to 1), a schedule of it such as "
    "[[0, 1.0], [500000, 0.0]], or {type: exponential, initial: 1.0, half_life: 100000}, by env steps; or by "
    "shares of the run, [['0%', 1.0], ['20%', 0.0]] or half_life: 5%"
)


def expert_share(behaviour: Behaviour, elapsed: Elapsed) -> float:
    """Share of the episodes that experts act, in [0, 1].

    With `initial` 1, the exponential schedule is DAgger's beta = p^k (Ross et al., 2011), by env steps or
    progress instead of rounds.
    """
    if isinstance(behaviour, str):
        return _SHARES[behaviour]
    if isinstance(behaviour, Mapping):
        schedule = {**_EXPONENTIAL, **behaviour}
        now = elapsed.progress if isinstance(schedule["half_life"], str) else elapsed.env_steps
        return float(schedule["initial"] * 0.5 ** (now / position_value(schedule["half_life"])))
    return value_at(behaviour, elapsed)


def highest_share(behaviour: Behaviour) -> float:
    """The most that `expert_share` ever is."""
    if isinstance(behaviour, list | tuple):
        return float(max(share for _, share in behaviour))
    return expert_share(behaviour, Elapsed())


def last_share(behaviour: Behaviour) -> float:
    """What `expert_share` is in the end."""
    if isinstance(behaviour, Mapping):
        return 0.0
    return (
        float(behaviour[-1][1]) if isinstance(behaviour, list | tuple) else expert_share(behaviour, Elapsed())
    )


def check_behaviour(behaviour: Any) -> None:
    """Raises DistillError unless `expert_share` understands it and stays in [0, 1]."""
    if isinstance(behaviour, str):
        if behaviour not in _SHARES:
            raise DistillError(f"behaviour is {behaviour!r}; it must be {_FORMS}.")
    elif isinstance(behaviour, Mapping):
        _check_exponential(behaviour)
    elif isinstance(behaviour, int | float | list | tuple) and not isinstance(behaviour, bool):
        check_schedule("behaviour", behaviour, least=0, most=1)
    else:
        raise DistillError(f"behaviour is {behaviour!r}; it must be {_FORMS}.")


def _check_exponential(behaviour: Mapping[str, Any]) -> None:
    if behaviour.get("type") != "exponential":
        raise DistillError(f"behaviour is {dict(behaviour)!r}; it must be {_FORMS}.")
    for key in behaviour:
        if key not in _EXPONENTIAL:
            raise DistillError(f"Unknown key {key!r} of behaviour. {nearest(str(key), _EXPONENTIAL)}")
    schedule = {**_EXPONENTIAL, **behaviour}
    check_number("initial of behaviour", schedule["initial"], least=0, most=1)
    check_position("half_life of behaviour", schedule["half_life"], above=0)
