"""Equations (9) and (10) of Distral on trajectories that env runners have just played."""

import torch
from torch import Tensor

from rllib_distill.algorithms.distral.task_policies_config import DISTILLED
from rllib_distill.algorithms.distral.task_policies_learner import (
    TaskPoliciesLearner,
    mean_of_rows,
    taken,
    vtrace,
)
from rllib_distill.losses import distilled_policy_loss, regularised_rewards
from rllib_distill.networks import TaskPolicyOutputs
from rllib_distill.replay.batch import Trajectories
from rllib_distill.replay.fragment_queue import FragmentQueue


class DistralLearner(TaskPoliciesLearner):
    """One gradient step on all samples that wait, on all networks together (joint optimisation).

    One step for each sample would make as many of them with what the same old policy played, and the more
    runners there are, the further each goes in a direction that nobody has tried: entropies collapse.
    """

    memory: FragmentQueue

    def build_memory(self, num_sources: int) -> None:
        """Samples wait here for the next step."""
        self.memory = FragmentQueue(tuple(self.config.tasks), self.config.shared_spaces, self._device)

    def draw_minibatch(self) -> Trajectories | None:
        """All samples that wait."""
        batch = self.memory.pop_all()
        self._rows = 0 if batch is None else batch.actions.numel()
        return batch

    @property
    def rows_per_minibatch(self) -> int:
        """Of the last one."""
        return self._rows

    @property
    def minibatch_weight(self) -> float:
        """Ranks may have samples of different numbers of runners."""
        return float(self._rows)

    def compute_losses(self, *, fwd_out: TaskPolicyOutputs, batch: Trajectories) -> dict[str, Tensor]:
        """Module id -> loss.

        Each is a mean over its task's rows (the paper sums over them) and the distilled policy's is the sum
        of these over tasks. Discounts count from each row, not from the episode's begin as in the equations:
        so does the practice of A3C (Mnih et al., 2016).
        """
        log_policies = torch.log_softmax(fwd_out.logits[:, :-1], -1)
        log_probs = taken(log_policies, batch.actions)
        distilled = None
        if self.config.evaluates_distilled and fwd_out.distilled_logits is not None:
            distilled = fwd_out.distilled_logits[:, :-1]
        rewards = self._regularised_rewards(batch, log_probs, distilled)
        values = fwd_out.values
        targets, advantages = vtrace(
            batch,
            log_probs,
            rewards,
            values,
            self._final_values(batch, fwd_out),
            gamma=self.config.gamma,
            clip_rho_threshold=self.config.vtrace_clip_rho_threshold,
            clip_pg_rho_threshold=self.config.vtrace_clip_pg_rho_threshold,
        )
        # (9), and (10)'s first part where the logits are made of both columns.
        policy_loss = -log_probs * advantages
        value_loss = 0.5 * (values[:, :-1] - targets).square()
        of_tasks = mean_of_rows(policy_loss + self.config.vf_loss_coeff * value_loss, batch.valid)
        losses: dict[str, Tensor] = {}
        for task, loss in zip(batch.tasks, of_tasks.unbind(), strict=True):
            module_id = self.config.policy_mapping_fn(task, None)
            losses[module_id] = losses[module_id] + loss if module_id in losses else loss
        if distilled is not None:  # (10)'s second part
            per_row = distilled_policy_loss(
                fwd_out.logits[:, :-1], distilled, alpha=self.alpha, beta=self.beta
            )
            losses[DISTILLED] = mean_of_rows(per_row, batch.valid).sum()
        if self.logs_minibatch:
            self._log_rows(batch, log_policies, distilled, policy_loss, value_loss)
        return losses

    def _regularised_rewards(
        self, batch: Trajectories, log_probs: Tensor, distilled_logits: Tensor | None
    ) -> Tensor:
        if distilled_logits is None:
            log_distilled = torch.zeros_like(log_probs)  # alpha is 0
        else:
            log_distilled = taken(torch.log_softmax(distilled_logits, -1), batch.actions)
        return regularised_rewards(batch.rewards, log_distilled, log_probs, alpha=self.alpha, beta=self.beta)

    @torch.no_grad()
    def _final_values(self, batch: Trajectories, outputs: TaskPolicyOutputs) -> Tensor | None:
        final = self.module.at_final_observations(batch, outputs)
        return None if final is None else final.values[:, 0]

    @torch.no_grad()
    def _log_rows(
        self,
        batch: Trajectories,
        log_policies: Tensor,
        distilled_logits: Tensor | None,
        policy_loss: Tensor,
        value_loss: Tensor,
    ) -> None:
        policies = log_policies.exp()
        metrics = {
            "policy_loss": policy_loss,
            "vf_loss": value_loss,
            "entropy": -(policies * log_policies).sum(-1),
        }
        if distilled_logits is not None:
            log_distilled = torch.log_softmax(distilled_logits, -1)
            metrics["kl_to_distilled"] = (policies * (log_policies - log_distilled)).sum(-1)
        self.keep_metrics(batch, **metrics)
