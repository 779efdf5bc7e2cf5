"""Optimizers by name, checks of their settings, and gradients that several learners share."""

from collections.abc import Collection, Iterable, Mapping
from inspect import signature
from typing import Any

import torch
from torch import distributed

from rllib_distill.core.schedules import check_schedule
from rllib_distill.errors import DistillError, check_choice, check_number, nearest

_OPTIMIZERS: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "adam": (torch.optim.Adam, {"fused": True}),  # one kernel for all parameters
    "sgd": (torch.optim.SGD, {}),
    "rmsprop": (torch.optim.RMSprop, {"centered": True, "alpha": 0.95, "eps": 0.01}),  # Mnih et al., 2015
}
"""Type -> the class, and the options that it is made with where the config has none."""

_TINY = 1e-32
"""Moments below it are set to 0: see `zero_tiny_moments`."""


def make_optimizer(
    config: Mapping[str, Any], parameters: Iterable[torch.nn.Parameter], lr: float
) -> torch.optim.Optimizer:
    """Makes the optimizer that a checked `config` describes, with its first learning rate."""
    options = dict(config)
    optimizer_class, defaults = _OPTIMIZERS[options.pop("type")]
    optimizer = optimizer_class(parameters, **{"lr": lr, **defaults, **options})
    optimizer.register_step_post_hook(_count_in_versions)
    return optimizer


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


def check_gradient_steps(lr: Any, optimizer: Any, grad_clip: Any, grad_clip_by: Any) -> None:
    """Raises DistillError unless all settings of gradient steps are right."""
    check_schedule("lr", lr, least=0)
    check_optimizer(optimizer)
    if grad_clip is not None:
        check_number("grad_clip", grad_clip, above=0)
    check_choice("grad_clip_by", grad_clip_by, ("value", "norm", "global_norm"))


def check_module_overrides(
    overrides: Any,
    modules: Collection[str],
    own_settings: Mapping[str, Any],
    *,
    of_losses: Collection[str],
    per_task: Collection[str],
) -> None:
    """Raises DistillError unless learners honour what `algorithm_config_overrides_per_module` says.

    Args:
        overrides: Module id -> setting -> value.
        modules: Ids of all modules.
        own_settings: Arguments of `check_gradient_steps` for modules without overrides.
        of_losses: Settings of losses that modules may have of their own.
        per_task: Settings that take a value per task instead.
    """
    key = "algorithm_config_overrides_per_module"
    example = "e.g. {distilled: {lr: 0.001}}"
    if not isinstance(overrides, Mapping):
        raise DistillError(f"{key} is {overrides!r}; it must map module ids to settings, {example}.")
    for module_id, settings in overrides.items():
        if module_id not in modules:
            raise DistillError(
                f"{key} names the module {module_id!r}, which there is none of. "
                f"{nearest(str(module_id), modules)}"
            )
        if not isinstance(settings, Mapping):
            raise DistillError(
                f"{key} of module {module_id!r} is {settings!r}; it must be a mapping, {example}."
            )
        known = [*own_settings, *of_losses]
        for name in settings:
            if name not in known:
                hint = f"Tasks have values of their own by {name}={{task: ...}}. " if name in per_task else ""
                raise DistillError(
                    f"{key} sets {name!r} of module {module_id!r}; it may set {', '.join(known)}. "
                    f"{hint}Set all else for all modules alike."
                )
        own = {name: settings.get(name, value) for name, value in own_settings.items()}
        if isinstance(own["optimizer"], Mapping):
            own["optimizer"] = {**own_settings["optimizer"], **own["optimizer"]}  # as RLlib merges them
        try:
            check_gradient_steps(**own)
        except DistillError as error:
            raise DistillError(f"{key} of module {module_id!r}: {error}") from None


def zero_tiny_moments(optimizer: torch.optim.Optimizer) -> None:
    """Sets an optimizer's moments below 1e-32 to 0; call it every 100 steps or so.

    The moments of units that died decay into denormal numbers (below 1e-38), and stay there, on which a
    processor takes many times as long: without this, Adam's step on a network of 200,000 parameters takes
    four times as long after 800 steps. (Torch's own switch, `set_flush_denormal`, reaches one thread only.)
    """
    for state in optimizer.state.values():
        for moment in state.values():
            if isinstance(moment, torch.Tensor) and moment.device.type == "cpu":
                moment.masked_fill_(moment.abs() < _TINY, 0.0)


def lay_out_as_parameters(optimizer: torch.optim.Optimizer) -> None:
    """Gives every moment its parameter's order of axes in memory.

    Checkpoints keep values without that order, and weights of convolutions are channels last: torch's fused
    kernels would pair each weight with the moment of another one, without a word.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def average_gradients(parameters: Iterable[torch.nn.Parameter], *, weight: float = 1.0) -> bool:
    """All-reduces every parameter's gradient in one message; one without a gradient counts as zeros.

    The mean is weighted: by the rows of a rank's minibatch where these differ, by 0 where it had none. If no
    rank had one, as when all samples of an update are lost with the nodes that made them, there is no mean
    and no step to take.

    DistributedDataParallel waits for a gradient from every rank for every wrapped module, so that a minibatch
    that lacks a task hangs the group. Here every rank sends all parameters, whatever its minibatch held.
    (An optimizer with momentum then still moves a head that no rank had rows for; one learner's would not.)

    Returns:
        Whether any rank had a minibatch.
    """
    parameters = list(parameters)
    if not parameters:
        return False
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    one = gradients[0].new_ones(1)
    flat = torch.cat([*(gradient.reshape(-1) for gradient in gradients), one]).mul_(weight)
    distributed.all_reduce(flat)
    flat, total = flat[:-1], flat[-1].item()
    if not total:
        return False
    flat /= total
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))
    return True


def broadcast_from_first_rank(tensors: Iterable[torch.Tensor]) -> None:
    """Gives every rank the first one's values."""
    for tensor in tensors:
        distributed.broadcast(tensor.data, src=0)


def _count_in_versions(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Counts a step in torch's versions of the parameters, which fused optimizers leave out.

    `StackedNetworks` keeps weights joined as long as their versions stay the same.
    """
    if optimizer.defaults.get("fused"):
        torch.autograd.graph.increment_version(
            [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        )
