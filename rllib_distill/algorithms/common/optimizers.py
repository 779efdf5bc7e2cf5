"""Optimizers by name."""

from collections.abc import Iterable, Mapping
from inspect import signature
from typing import Any

import torch

from rllib_distill.errors import DistillError, nearest

_OPTIMIZERS: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "adam": (torch.optim.Adam, {"fused": True}),  # one kernel for all parameters
    "sgd": (torch.optim.SGD, {}),
    "rmsprop": (torch.optim.RMSprop, {"centered": True, "alpha": 0.95, "eps": 0.01}),  # Mnih et al., 2015
}


def check_optimizer(config: Any) -> None:
    """Raises DistillError unless `config` is `{"type": "adam" | "rmsprop", **options of torch's class}`."""
    example = "e.g. {type: adam, eps: 0.0001}"
    if not isinstance(config, Mapping) or not isinstance(config.get("type"), str):
        raise DistillError(f"optimizer is {config!r}; it must be a mapping with a type, {example}.")
    if config["type"] not in _OPTIMIZERS:
        raise DistillError(
            f"Unknown optimizer type {config['type']!r}. {nearest(config['type'], _OPTIMIZERS)}"
        )
    known = [
        name for name in signature(_OPTIMIZERS[config["type"]][0]).parameters if name not in ("params", "lr")
    ]
    for option in config:
        if option not in (*known, "type"):
            raise DistillError(
                f"Unknown option {option!r} of optimizer {config['type']!r}. {nearest(option, known)}"
            )


def make_optimizer(
    config: Mapping[str, Any], parameters: Iterable[torch.nn.Parameter]
) -> torch.optim.Optimizer:
    """The optimizer that a checked `config` describes; RLlib's schedule sets its learning rate."""
    options = dict(config)
    optimizer_class, defaults = _OPTIMIZERS[options.pop("type")]
    return optimizer_class(parameters, **{**defaults, **options})
