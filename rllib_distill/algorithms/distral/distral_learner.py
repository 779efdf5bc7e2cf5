"""Equations (9) and (10) of Distral on trajectories that env runners have just played."""

import torch
from ray.rllib.utils.metrics import ALL_MODULES
from torch import Tensor, tensor

from rllib_distill.algorithms.distral.task_policies_config import read_distilled_policy, start_from
from rllib_distill.core.learner import MultiTaskLearner
from rllib_distill.core.trajectories import TrajectoryLearner, at_final_observations, taken, vtrace
from rllib_distill.env_runner.task_envs import DISTILLED
from rllib_distill.losses import distilled_policy_loss, regularised_rewards
from rllib_distill.networks import TaskPolicyOutputs
from rllib_distill.replay import Batch


class TaskPoliciesMixin(MultiTaskLearner):
    """Learns from batches of all tasks; `alpha` and `beta` are `(N, 1, 1)`, one of each task."""

    def build(self) -> None:
        """As any learner's."""
        super().build()
        config, tasks = self.config, tuple(self.config.tasks)
        self.alpha = self._per_task([config.alpha_of(task) for task in tasks])
        self.beta = self._per_task([config.beta_of(task) for task in tasks])

    def set_first_weights(self) -> None:
        """As `init_from` says."""
        if self.config.starts_from_another:
            weights = read_distilled_policy(self.config.init_from)
            for module_id in self.module.keys():  # no mapping
                start_from(weights, self.module[module_id], self.config.initial_head_scale(module_id))

    def _per_task(self, values: list[float]) -> Tensor:
        return tensor(values, device=self._device).view(-1, 1, 1)


class DistralLearner(TaskPoliciesMixin, TrajectoryLearner):
    """One gradient step on all networks together (joint optimisation)."""

    def draw_minibatch(self) -> Batch | None:
        """All samples that wait: the networks are asked about all tasks at once."""
        return self.next_batch()

    def compute_losses(self, *, fwd_out: TaskPolicyOutputs, batch: Batch) -> dict[str, Tensor]:
        """Module id -> loss.

        Each is a mean over its task's rows (the paper sums over them) and the distilled policy's is the sum
        of these over tasks. Discounts count from each row, not from the episode's begin as in the equations:
        so does the practice of A3C (Mnih et al., 2016).
        """
        log_policies = torch.log_softmax(fwd_out.logits[:, :-1], -1)
        log_probs = taken(log_policies, batch.columns["actions"])
        distilled = None
        if self.config.evaluates_distilled and fwd_out.distilled_logits is not None:
            distilled = fwd_out.distilled_logits[:, :-1]
        values = fwd_out.values
        targets, advantages = vtrace(
            batch,
            log_probs,
            self._regularised_rewards(batch, log_probs, distilled),
            values,
            self._final_values(batch, fwd_out),
            gamma=self.config.gamma,
            clip_rho_threshold=self.config.vtrace_clip_rho_threshold,
            clip_pg_rho_threshold=self.config.vtrace_clip_pg_rho_threshold,
        )
        # (9), and (10)'s first part where the logits are made of both columns.
        policy_loss = -log_probs * advantages
        vf_loss = 0.5 * (values[:, :-1] - targets).square()
        of_tasks = batch.mean(policy_loss + self.config.vf_loss_coeff * vf_loss)
        losses: dict[str, Tensor] = {}
        for task, loss in zip(batch.tasks, of_tasks.unbind(), strict=True):
            module_id = self.config.policy_mapping_fn(task, None)
            losses[module_id] = losses[module_id] + loss if module_id in losses else loss
        if distilled is not None:  # (10)'s second part
            per_row = distilled_policy_loss(
                fwd_out.logits[:, :-1], distilled, alpha=self.alpha, beta=self.beta
            )
            losses[DISTILLED] = batch.mean(per_row).sum()
        components = {"policy_loss": policy_loss, "vf_loss": vf_loss}
        if self.logs_minibatch:
            components |= _divergences(log_policies, distilled)
        self.keep_metrics(ALL_MODULES, batch, components)
        return losses

    def _regularised_rewards(
        self, batch: Batch, log_probs: Tensor, distilled_logits: Tensor | None
    ) -> Tensor:
        if distilled_logits is None:
            log_distilled = torch.zeros_like(log_probs)  # alpha is 0
        else:
            log_distilled = taken(torch.log_softmax(distilled_logits, -1), batch.columns["actions"])
        return regularised_rewards(
            batch.columns["rewards"], log_distilled, log_probs, alpha=self.alpha, beta=self.beta
        )

    @torch.no_grad()
    def _final_values(self, batch: Batch, outputs: TaskPolicyOutputs) -> Tensor | None:
        final = at_final_observations(self.module.policies, batch, outputs.states)
        return None if final is None else final.values[:, 0]


@torch.no_grad()
def _divergences(log_policies: Tensor, distilled_logits: Tensor | None) -> dict[str, Tensor]:
    policies = log_policies.exp()
    metrics = {"entropy": -(policies * log_policies).sum(-1)}
    if distilled_logits is not None:
        log_distilled = torch.log_softmax(distilled_logits, -1)
        metrics["kl_to_distilled"] = (policies * (log_policies - log_distilled)).sum(-1)
    return metrics
