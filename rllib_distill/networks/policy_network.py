"""A policy with its values, and with a memory if it is to have one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from rllib_distill.networks.build import pop_units, torso_and_options
from rllib_distill.networks.network import as_floats, make_head
from rllib_distill.networks.torsos import TORSOS, Table, Torso


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


@dataclass(frozen=True)
class PolicyOutputs:
    """What comes out for N tasks' T steps of B environments.

    Attributes:
        logits: (N, T, B, A).
        values: (N, T, B, K), K the network's `num_values`.
        states: (N, T, B, S) after each row, S the network's `state_size`.
    """

    logits: Tensor
    values: Tensor
    states: Tensor


class PolicyNetwork(nn.Module):
    """A torso, an LSTM if asked for, a head of logits and, if there are values, one of values.

    Args:
        torso: from observations to features.
        num_actions: A.
        num_values: K, how many values a state has; 0 for no value head.
        lstm: U, units of an LSTM between the torso and the heads, or None: the policy has no memory.
        controller: units of a hidden layer of each head, or None: heads are linear.
        mixed_precision: see `Network`; the LSTM and the heads stay float32.

    Attributes:
        state_size: S, 0 without an LSTM, else 2U: h and c, one after the other.
        feature_size: F, of what the heads see: the LSTM's h, or the torso's features.
        core: the LSTM's weights, or None.
        value_head: None if there are no values.
    """

    def __init__(
        self,
        torso: Torso,
        num_actions: int,
        *,
        num_values: int = 1,
        lstm: int | None = None,
        controller: int | None = None,
        mixed_precision: bool = False,
    ) -> None:
        super().__init__()
        self.num_actions = num_actions
        self.num_values = num_values
        self.mixed_precision = mixed_precision
        self.feature_size = lstm or torso.feature_size
        self.state_size = 2 * (lstm or 0)
        self.torso = torso
        self.core = nn.LSTMCell(torso.feature_size, lstm) if lstm else None
        table = isinstance(torso, Table)
        self.policy_head = make_head(self.feature_size, num_actions, controller, table=table)
        self.value_head = (
            make_head(self.feature_size, num_values, controller, table=table) if num_values else None
        )

    def forward(self, observations: Tensor, state: Tensor, begins: Tensor) -> PolicyOutputs:
        """Compute logits, values and states of all tasks' rows with this one network.

        Args:
            observations: (N, T, B, *observation_shape), raw: bool, float, or uint8 (scaled to 0..1).
            state: (N, B, S) before the first row.
            begins: (N, T, B) bool: the row is the first of an episode. The state is zeroed before it.
        """
        device, leading = observations.device.type, observations.shape[:3]
        with torch.autocast(device, torch.bfloat16, enabled=self.mixed_precision):
            features = self.torso(as_floats(observations.flatten(0, 2))).float().unflatten(0, leading)
        with torch.autocast(device, enabled=False):
            features, states = self._remember(features, state, begins)
            logits = self.policy_head(features)
            values = (
                features.new_zeros((*leading, 0)) if self.value_head is None else self.value_head(features)
            )
        return PolicyOutputs(logits, values, states)

    def _remember(self, features: Tensor, state: Tensor, begins: Tensor) -> tuple[Tensor, Tensor]:
        """What the heads see (N, T, B, F), and the states (N, T, B, S)."""
        if self.core is None:
            return features, features.new_zeros((*features.shape[:3], 0))
        inputs = linear(features, self.core.weight_ih, self.core.bias_ih + self.core.bias_hh)
        return unroll_lstm(inputs, self.core.weight_hh.T, state, begins)


def build_policy_network(
    config: Mapping[str, Any],
    observation_shape: tuple[int, ...],
    num_actions: int,
    *,
    num_values: int = 1,
    mixed_precision: bool = False,
) -> PolicyNetwork:
    """Build a policy network from its config.

    Args:
        config: {"type": name, **options} as `build_network` takes it. Each type but 'tabular' also has the
            option `lstm`: units of an LSTM between the features and the heads, or None (default).
        observation_shape: of one observation, channels last.
        num_actions: A.
        num_values: K, how many values a state has; 0 for no value head.
        mixed_precision: see `Network`.

    Returns:
        The network, freshly initialised with torch's defaults; a table is zeros.

    Raises:
        DistillError: As `build_network`.
    """
    torso_name, options = torso_and_options(config, ("controller", "lstm"))
    controller, lstm = pop_units(options, "controller"), pop_units(options, "lstm")
    return PolicyNetwork(
        TORSOS[torso_name](tuple(observation_shape), **options),
        num_actions,
        num_values=num_values,
        lstm=lstm,
        controller=controller,
        mixed_precision=mixed_precision,
    )


@torch.no_grad()
def scale_logits(network: PolicyNetwork, factor: float) -> None:
    """Multiply the network's logits by a factor, in its last layer.

    With 0 for a task's column its policy starts as pi_0^alpha normalised, eq (8); with 1 - alpha, if it has
    the distilled policy's weights, as pi_0. Its other layers stay as they are: the first step moves the last
    layer at least, the next ones move all.
    """
    *_, output = (layer for layer in network.policy_head.modules() if isinstance(layer, nn.Linear))
    for parameter in output.parameters():
        parameter.mul_(factor)
