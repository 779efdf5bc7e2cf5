"""The distilled policy and the task policies as RLModules, and how they act together."""

from typing import Any

from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModule

from rllib_distill.core.rl_module import IS_FIRST, TASKS, NetworkRLModule
from rllib_distill.env_runner.task_envs import DISTILLED
from rllib_distill.networks import Network, TaskPolicies, TaskPolicyOutputs, scale_outputs
from rllib_distill.replay import Batch

WHO = "who"
"""Batch key: `DISTILLED` where the distilled policy shall act for every task."""


class DistralRLModule(NetworkRLModule):
    """The distilled policy, or one task's network; alone it acts by its own logits."""

    def setup(self) -> None:
        """Builds the network: torso, perhaps an LSTM, a head of logits, heads of values."""
        super().setup()
        if self.model_config["starts_at_zero"]:
            scale_outputs(self.network, 0.0)


class DistralMultiRLModule(MultiRLModule):
    """All modules side by side: batches are of all tasks, and each column runs once."""

    def setup(self) -> None:
        """Builds the modules, then ties their networks together."""
        super().setup()
        self.policies = self._tie({module_id: module.network for module_id, module in self.items()})

    def tie_target_networks(self) -> TaskPolicies:
        """The same policies of the target networks."""
        return self._tie(
            {
                module_id: getattr(module, "target_network", module.network)
                for module_id, module in self.items()
            }
        )

    def _forward_train(self, batch: Batch, **kwargs: Any) -> TaskPolicyOutputs:
        assert batch.state is not None and batch.is_first is not None  # as all batches of sequences have
        return self.policies(batch.observations, batch.tasks, batch.state, batch.is_first)

    def _forward_inference(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """One row of time, `obs` `(N, 1, B, *observation)` of the N `tasks`, by the tasks' policies."""
        ask = self.policies.distilled_only if batch.get(WHO) == DISTILLED else self.policies
        said = ask(batch[Columns.OBS], batch[TASKS], batch[Columns.STATE_IN], batch[IS_FIRST])
        return {Columns.ACTION_DIST_INPUTS: said.logits[:, 0], Columns.STATE_OUT: said.states[:, 0]}

    def _tie(self, networks: dict[str, Network]) -> TaskPolicies:
        config = self.model_config
        weights = config["column_weights"]
        distilled = networks.pop(DISTILLED, None)
        return TaskPolicies(
            config["tasks"],
            distilled,
            networks,
            parameterization=config["parameterization"],
            column_alpha={task: alpha for task, (alpha, _) in weights.items()},
            column_beta={task: beta for task, (_, beta) in weights.items()},
        )
