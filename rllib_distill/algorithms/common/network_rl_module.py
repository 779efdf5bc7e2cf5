"""A plain torch network as an RLlib RLModule."""

from collections.abc import Mapping
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.torch.torch_compile_config import TorchCompileConfig
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from torch import nn

from rllib_distill.algorithms.common.same_network import check_same_network
from rllib_distill.networks import Network, build_network
from rllib_distill.sampling.columns import TASKS

FEATURES = "features"


class NetworkRLModule(TorchRLModule):
    """A Q-value or logit per action and the features it is made of; the runner picks the action."""

    network: Any  # torch's, with what the subclass's network has

    def setup(self) -> None:
        """Builds `model_config["network"]` for this module's spaces."""
        super().setup()
        self.network = self.build_network()

    def build_network(self) -> nn.Module:
        """What this module consists of."""
        return build_network(
            self.model_config["network"],
            self.observation_space.shape,
            self.model_config["heads"] or int(self.action_space.n),
            mixed_precision=self.model_config.get("mixed_precision", False),
        )

    def compile(self, compile_config: TorchCompileConfig) -> None:
        """Compiles the networks in place, at their next forward; names of weights stay what they are.

        RLlib's way, compiling `_forward_train`, would leave out target networks.
        """
        # All networks share one `forward`, and torch gives up after 8 versions of a function: one for each
        # network's sizes, with and without gradients.
        limits = torch._dynamo.config
        limits.recompile_limit = max(limits.recompile_limit, limits.accumulated_recompile_limit)
        for network in self.children():
            if isinstance(network, Network):
                network.compile(
                    backend=compile_config.torch_dynamo_backend,
                    mode=compile_config.torch_dynamo_mode,
                    **compile_config.kwargs,
                )

    def train(self, mode: bool = True) -> "NetworkRLModule":
        """As torch's, but free where nothing changes: RLlib asks before every forward."""
        return self if self.training == mode else super().train(mode)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes over weights.

        Raises:
            DistillError: They are another network's: RLlib would leave out what does not fit, and play on.
        """
        check_same_network(state, self.state_dict())
        super().set_state(state)

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        outputs, features = self.network(batch[Columns.OBS], batch.get(TASKS))
        return {Columns.ACTION_DIST_INPUTS: outputs, FEATURES: features}
