"""An LSTM over several sequences that forgets where episodes begin (Hochreiter & Schmidhuber, 1997)."""

import torch
from torch import Tensor


def unroll_lstm(
    inputs: Tensor, recurrent_weight: Tensor, state: Tensor, begins: Tensor
) -> tuple[Tensor, Tensor]:
    """Run an LSTM along the time axis.

    With the state set to 0 before each row that begins an episode, for every t:
        i, f, g, o = x_t + h_{t-1} W
        c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g)
        h_t = sigmoid(o) tanh(c_t)

    Args:
        inputs: x (N, T, B, 4U), all rows' projected inputs, with the bias.
        recurrent_weight: W, (U, 4U) of one LSTM for all, or (N, U, 4U): one for each.
        state: (N, B, 2U) before the first row: h and c.
        begins: (N, T, B) bool: the row is the first of an episode.

    Returns:
        h of every row (N, T, B, U), and the state after it (N, T, B, 2U).
    """
    hidden, cell = state.chunk(2, dim=-1)
    hiddens, cells = [], []
    # Unbound at once: the gradient of a selected row would be as large as all rows together.
    for projected, begin in zip(inputs.unbind(1), begins.unsqueeze(-1).unbind(1), strict=True):
        hidden, cell = hidden.masked_fill(begin, 0.0), cell.masked_fill(begin, 0.0)
        gates = projected + hidden @ recurrent_weight
        take, keep, new, show = gates.chunk(4, dim=-1)
        cell = keep.sigmoid() * cell + take.sigmoid() * new.tanh()
        hidden = show.sigmoid() * cell.tanh()
        hiddens.append(hidden)
        cells.append(cell)
    every_hidden = torch.stack(hiddens, dim=1)
    return every_hidden, torch.cat([every_hidden, torch.stack(cells, dim=1)], dim=-1)
