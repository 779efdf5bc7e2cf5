"""How an optimizer's state lies in memory."""

import torch


def lay_out_as_parameters(optimizer: torch.optim.Optimizer) -> None:
    """Gives every moment its parameter's order of axes in memory.

    Checkpoints keep values without that order, and weights of convolutions are channels last: torch's fused
    kernels would pair each weight with the moment of another one, without a word.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
