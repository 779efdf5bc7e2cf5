"""A task's soft Q-function."""

from typing import Any

from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import TargetNetworkAPI
from ray.rllib.utils.annotations import override

from rllib_distill.algorithms.distral.distral_rl_module import DistralRLModule
from rllib_distill.core.rl_module import TargetNetworkRLModule


class SoftQRLModule(DistralRLModule, TargetNetworkRLModule):
    """Outputs are Q-values, which start at zero: the task's policy is the distilled one's."""

    @override(TargetNetworkAPI)
    def forward_target(self, batch: dict[str, Any]) -> Any:
        """Target Q-values `(B, A)` of `batch["obs"]`."""
        return self.outputs_of(self.target_network, batch)[Columns.ACTION_DIST_INPUTS]
