"""Building a network from its config."""

from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from typing import Any

from rllib_distill.errors import DistillError, nearest
from rllib_distill.imports import import_object
from rllib_distill.networks.network import Network
from rllib_distill.networks.torsos import NAMED_NETWORKS, TORSOS, Table, Torso, check_size

_TYPES = {**{name: {"type": name} for name in TORSOS}, **NAMED_NETWORKS}
_LAYERS = ("controller", "lstm")


def build_network(
    config: Mapping[str, Any],
    observation_shape: tuple[int, ...],
    num_outputs: int | Mapping[str, int],
    *,
    num_values: int = 0,
    mixed_precision: bool = False,
) -> Network:
    """Build a network from its config.

    Args:
        config: {"type": name, **options}; the types and their options are those of `torsos.TORSOS`, and of
            `torsos.NAMED_NETWORKS`; or "my_package:MyTorso", a class as those are (docs/extending.md). Each
            but 'tabular' also has the options `controller`, the units of a hidden layer with ReLU before each
            head, and `lstm`, the units of an LSTM between the features and the heads. Both are None by
            default: there is no such layer.
        observation_shape: shape of one observation, channels last.
        num_outputs: A, the number of actions, for one head; or task -> number, for one head per task.
        num_values: K, how many values a state has; 0 for no value head.
        mixed_precision: whether the torso computes in bfloat16, see `Network`.

    Returns:
        The network, freshly initialised with torch's defaults; a table is zeros.

    Raises:
        DistillError: If the type or an option is unknown, an option's value is wrong, or the type cannot take
            such observations.
    """
    make_torso, options = _torso_and_options(config)
    layers = {name: options.pop(name, None) for name in _LAYERS}
    for name, units in layers.items():
        if units is not None:
            check_size(name, units)
    torso = make_torso(tuple(observation_shape), **options)
    if not isinstance(getattr(torso, "feature_size", None), int):
        raise DistillError(
            f"The network type {config['type']!r} has no feature_size: in its __init__, set it to the number "
            "of features that its forward makes of an observation."
        )
    return Network(
        torso,
        num_outputs,
        num_values=num_values,
        mixed_precision=mixed_precision,
        **layers,
    )


def _torso_and_options(config: Mapping[str, Any]) -> tuple[Callable[..., Torso], dict[str, Any]]:
    """What makes the torso, and all options that are not left to their defaults."""
    if not isinstance(config, Mapping) or not isinstance(config.get("type"), str):
        raise DistillError(
            f"A network config must be a mapping with a 'type'; got {config!r}. "
            f"Known types: {', '.join(sorted(_TYPES))}."
        )
    name = config["type"]
    named: Mapping[str, Any] = {}
    if ":" in name:
        torso = import_object(name, "The network type", is_class=True)
    elif name in _TYPES:
        torso, named = TORSOS[_TYPES[name]["type"]], _TYPES[name]
    else:
        raise DistillError(
            f"Unknown network type {name!r}. {nearest(name, _TYPES)} "
            "Or a torso of your own, my_package:MyTorso."
        )
    options = {option: value for option, value in {**named, **config}.items() if option != "type"}
    known = [p.name for p in signature(torso).parameters.values() if p.kind is Parameter.KEYWORD_ONLY]
    if torso is not Table:
        known = [*_LAYERS, *known]
    for option in options:
        if option not in known:
            allowed = nearest(str(option), known)
            raise DistillError(f"Unknown option {option!r} of the network type {name!r}. {allowed}")
    return torso, options
