"""A Q-network with its target network."""

from typing import Any

from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import TargetNetworkAPI
from ray.rllib.utils.annotations import override

from rllib_distill.core.rl_module import TargetNetworkRLModule
from rllib_distill.replay.fragment import TASKS


class MultiTaskDQNRLModule(TargetNetworkRLModule):
    """Outputs are Q-values."""

    @override(TargetNetworkAPI)
    def forward_target(self, batch: dict[str, Any]) -> Any:
        """Target Q-values `(N, A)` of `batch["obs"]`."""
        return self.target_network(batch[Columns.OBS], batch.get(TASKS))[0]
