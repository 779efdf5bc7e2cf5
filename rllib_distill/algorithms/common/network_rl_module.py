"""A plain torch network as an RLlib RLModule."""

from typing import Any

from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule

from rllib_distill.networks import build_network

FEATURES = "features"


class NetworkRLModule(TorchRLModule):
    """A Q-value or logit per action and the features it is linear in; the runner picks the action."""

    def setup(self) -> None:
        """Builds `model_config["network"]` for this module's spaces."""
        super().setup()
        self.network = build_network(
            self.model_config["network"], self.observation_space.shape, int(self.action_space.n)
        )

    def train(self, mode: bool = True) -> "NetworkRLModule":
        """As torch's, but free where nothing changes: RLlib asks before every forward."""
        return self if self.training == mode else super().train(mode)

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        outputs, features = self.network(batch[Columns.OBS])
        return {Columns.ACTION_DIST_INPUTS: outputs, FEATURES: features}
