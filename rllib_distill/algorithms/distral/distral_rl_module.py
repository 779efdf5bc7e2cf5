"""The distilled policy and the task policies as RLModules, and how they act together."""

from typing import Any

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModule
from torch import Tensor

from rllib_distill.core.rl_module import NetworkRLModule
from rllib_distill.networks import (
    PolicyNetwork,
    TaskPolicies,
    TaskPolicyOutputs,
    build_policy_network,
    scale_logits,
)
from rllib_distill.replay.batch import Trajectories


class DistralRLModule(NetworkRLModule):
    """The distilled policy, or one task's network; alone it acts by its own logits."""

    network: PolicyNetwork

    def build_network(self) -> PolicyNetwork:
        """Torso, perhaps an LSTM, a head of logits, heads of values."""
        config = self.model_config
        network = build_policy_network(
            config["network"],
            self.observation_space.shape,
            int(self.action_space.n),
            num_values=config["num_values"],
            mixed_precision=config["mixed_precision"],
        )
        if config["starts_at_zero"]:
            scale_logits(network, 0.0)
        return network

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """As any RLModule: rows `(B, *observation)`, and a memory's state `(B, S)` in and out."""
        return self.outputs_of(self.network, batch)

    def outputs_of(self, network: PolicyNetwork, batch: dict[str, Any]) -> dict[str, Any]:
        """What one of the module's networks says of single steps."""
        rows = batch[Columns.OBS][None, None]
        shape = rows.shape[:3]
        state = batch.get(Columns.STATE_IN)
        if state is None:
            state = torch.zeros(shape[2], network.state_size, device=rows.device)
        begins = torch.zeros(shape, dtype=torch.bool, device=rows.device)
        outputs = network(rows, state[None], begins)
        return {
            Columns.ACTION_DIST_INPUTS: outputs.logits[0, 0],
            Columns.STATE_OUT: outputs.states[0, 0],
        }


class DistralMultiRLModule(MultiRLModule):
    """All modules side by side: batches are of all tasks, and each column runs once."""

    def setup(self) -> None:
        """Builds the modules, then ties their networks together."""
        super().setup()
        self._policies = self._tie(
            {module_id: module.network for module_id, module in self._rl_modules.items()}
        )

    @property
    def state_size(self) -> int:
        """Of the memory, per environment."""
        return self._policies.state_size

    def task_forward(
        self, observations: Tensor, tasks: tuple[str, ...], state: Tensor, begins: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The task policies' `(N, B, A)` logits and new state for one row of time: see `PolicyForward`."""
        outputs = self._policies(observations, tasks, state, begins)
        return outputs.logits[:, 0], outputs.states[:, 0]

    def distilled_forward(
        self, observations: Tensor, tasks: tuple[str, ...], state: Tensor, begins: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As `task_forward`, but the distilled policy plays every task."""
        outputs = self._policies.distilled_only(observations, tasks, state, begins)
        return outputs.logits[:, 0], outputs.states[:, 0]

    def tie_target_networks(self) -> TaskPolicies:
        """The same policies of the target networks."""
        targets = {
            module_id: getattr(module, "target_network", module.network)
            for module_id, module in self._rl_modules.items()
        }
        return self._tie(targets)

    def _forward_train(self, batch: Trajectories, **kwargs: Any) -> TaskPolicyOutputs:
        return self._policies(batch.observations, batch.tasks, batch.state, batch.begins)

    def at_final_observations(
        self, batch: Trajectories, outputs: TaskPolicyOutputs, policies: TaskPolicies | None = None
    ) -> TaskPolicyOutputs | None:
        """What is said of the last observations of truncated episodes; None where no row has one.

        Args:
            batch: The trajectories.
            outputs: Of them, for the memory's states.
            policies: Who says it; None: the policies that learn.

        Returns:
            Outputs with `T = 1` and `B = K`.
        """
        if not batch.final_rows.shape[1]:
            return None
        states = outputs.states.flatten(1, 2)  # (N, (T + 1) * B, S)
        rows = batch.final_rows[..., None].expand(-1, -1, states.shape[-1])
        begins = torch.zeros_like(batch.final_valid)[:, None]
        asked = policies or self._policies
        return asked(batch.final_observations[:, None], batch.tasks, states.gather(1, rows), begins)

    def _tie(self, networks: dict[str, PolicyNetwork]) -> TaskPolicies:
        config = self.model_config
        weights = config["column_weights"]
        distilled = networks.pop("distilled", None)
        return TaskPolicies(
            config["tasks"],
            distilled,
            networks,
            parameterization=config["parameterization"],
            column_alpha={task: alpha for task, (alpha, _) in weights.items()},
            column_beta={task: beta for task, (_, beta) in weights.items()},
        )
