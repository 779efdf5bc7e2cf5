"""Building a network from its config."""

from collections.abc import Mapping, Sequence
from inspect import Parameter, signature
from typing import Any

from rllib_distill.errors import DistillError, nearest
from rllib_distill.networks.network import MultiHeadNetwork, Network, make_head
from rllib_distill.networks.torsos import NAMED_NETWORKS, TORSOS, Table, positive_int

_TYPES = {**{name: {"type": name} for name in TORSOS}, **NAMED_NETWORKS}


def build_network(
    config: Mapping[str, Any],
    observation_shape: tuple[int, ...],
    num_outputs: int | Mapping[str, int],
    *,
    mixed_precision: bool = False,
) -> Network | MultiHeadNetwork:
    """Build a network from its config.

    Args:
        config: {"type": name, **options}; the types and their options are those of `torsos.TORSOS`, and of
            `named_networks.NAMED_NETWORKS`. Each also has the option `controller`: units of a hidden layer
            with ReLU between the features and each head, or None: there is none (default). Not a table.
        observation_shape: of one observation, channels last.
        num_outputs: A, the number of actions, for one head; or of each task, for one head per task.
        mixed_precision: see `Network`.

    Returns:
        The network, freshly initialised with torch's defaults.

    Raises:
        DistillError: If the type or an option is unknown, an option's value is wrong, or the type cannot take
            such observations.
    """
    torso_name, options = torso_and_options(config, ("controller",))
    controller = pop_units(options, "controller")
    torso = TORSOS[torso_name](tuple(observation_shape), **options)
    if isinstance(num_outputs, Mapping):
        return MultiHeadNetwork(torso, num_outputs, controller=controller, mixed_precision=mixed_precision)
    head = make_head(torso.feature_size, num_outputs, controller, table=isinstance(torso, Table))
    return Network(torso, head, mixed_precision=mixed_precision)


def torso_and_options(config: Mapping[str, Any], layers: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Name of the torso, and all options that are not left to their defaults.

    Args:
        config: {"type": name, **options}.
        layers: options of every type but a table: the units of layers that may come after the torso.

    Raises:
        DistillError: If the type or an option is unknown.
    """
    if not isinstance(config, Mapping) or not isinstance(config.get("type"), str):
        raise DistillError(
            f"A network config must be a mapping with a 'type'; got {config!r}. "
            f"Known types: {', '.join(sorted(_TYPES))}."
        )
    name = config["type"]
    if name not in _TYPES:
        raise DistillError(f"Unknown network type {name!r}. {nearest(name, _TYPES)}")
    torso = _TYPES[name]["type"]
    options = {option: value for option, value in {**_TYPES[name], **config}.items() if option != "type"}
    parameters = signature(TORSOS[torso]).parameters.values()
    known = [p.name for p in parameters if p.kind is Parameter.KEYWORD_ONLY]
    if TORSOS[torso] is not Table:
        known = [*layers, *known]
    for option in options:
        if option not in known:
            allowed = nearest(str(option), known)
            raise DistillError(f"Unknown option {option!r} of the network type {name!r}. {allowed}")
    return torso, options


def pop_units(options: dict[str, Any], option: str) -> int | None:
    """Take the units of a layer out of the options; None if there is no such layer."""
    units = options.pop(option, None)
    return None if units is None else positive_int(option, units)
