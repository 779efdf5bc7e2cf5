"""Averaging gradients over learners without torch's DistributedDataParallel."""

from collections.abc import Iterable

import torch
from torch import distributed


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
