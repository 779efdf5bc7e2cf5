"""Distillation losses on the student, with a Q-learning loss beside them where it learns by RL too."""

from collections.abc import Mapping
from typing import Any

import torch
from ray.rllib.core.columns import Columns

from rllib_distill.algorithms.multi_task_dqn.multi_task_dqn_learner import MultiTaskDQNLearner
from rllib_distill.core.experts import STUDENT, greedy_agreement
from rllib_distill.core.rl_module import FEATURES
from rllib_distill.losses import (
    distillation_kl_loss,
    distillation_mse_loss,
    distillation_nll_loss,
    expected_cross_entropy_loss,
    expert_log_likelihood,
    score_function_loss,
)
from rllib_distill.replay.fragment import EXPERT_OUTPUTS, LEGAL_ACTIONS, TASKS

Batch = dict[str, Any]


class PolicyDistillationLearner(MultiTaskDQNLearner):
    """L = imitation_coeff L_imitation + rl_coeff L_TD, averaged over the minibatch."""

    def build(self) -> None:
        """As any learner's; no return is known yet."""
        super().build()
        self._imitation_coeffs: Mapping[str, float] = {}

    def replay_capacity(self, num_sources: int) -> int:
        """On-policy: one sample of every runner."""
        if self.config.is_on_policy:
            rows = int(self.config.get_rollout_fragment_length())
            return rows * int(self.config.num_envs_per_task) * num_sources
        return super().replay_capacity(num_sources)

    def columns_of(self, module_id: str) -> tuple[str, ...]:
        """States and their labels; what follows them where the loss looks ahead."""
        looks_ahead = module_id != STUDENT or self.config.is_on_policy or self.config.rl_coeff > 0
        labels = self.config.label_columns if module_id == STUDENT else ()
        return (*(self.columns if looks_ahead else ("observations",)), *labels)

    def update(self, *, imitation_coeffs: Mapping[str, float] | None = None, **kwargs: Any) -> Any:
        """As any learner's.

        Args:
            imitation_coeffs: Task -> weight of its imitation loss.
            kwargs: See `MultiTaskLearner.update`.
        """
        self._imitation_coeffs = imitation_coeffs or {}
        return super().update(**kwargs)

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: Batch, fwd_out: dict[str, Any]
    ) -> torch.Tensor:
        """Mean over all rows of the minibatch."""
        outputs = fwd_out[Columns.ACTION_DIST_INPUTS]
        tau = self.tau_of_rows(batch)
        tempered = config.student_has_q_values and config.loss != "mse"
        divisor = tau.unsqueeze(-1) if isinstance(tau, torch.Tensor) else tau
        logits = outputs / divisor if tempered else outputs
        if config.is_on_policy:
            imitation = self._expected_entropy_loss(module_id, config, batch, logits, fwd_out[FEATURES])
        else:
            imitation = _distillation_loss(config, batch, logits, tau)
        weights = self.of_rows(batch, [self._imitation_coeffs.get(task, 1.0) for task in batch[TASKS]])
        loss = (weights * imitation).mean()
        if config.rl_coeff > 0:
            loss = loss + config.rl_coeff * self.td_loss(module_id, config, batch, outputs).mean()
        if self.logs_minibatch:
            self.keep_task_metric(module_id, "imitation_loss", batch[TASKS], imitation)
            self.keep_task_metric(
                module_id, "greedy_agreement", batch[TASKS], greedy_agreement(batch, logits)
            )
        return loss

    def _expected_entropy_loss(
        self, module_id: str, config: Any, batch: Batch, logits: torch.Tensor, features: torch.Tensor
    ) -> torch.Tensor:
        """Czarnecki et al., 2019: the step's own term in expectation, later ones by the score function.

        The rewards in the minibatch are n-step returns of the experts' log-likelihoods; the value head
        estimates them from features that it does not shape.
        """
        module, expert_q, legal = self.module[module_id], batch[EXPERT_OUTPUTS], batch[LEGAL_ACTIONS]
        options: dict[str, Any] = {"tau": self.tau_of_rows(batch), "legal_actions": legal}
        cross_entropy = expected_cross_entropy_loss(expert_q, logits, **options)
        values = module.value_head(features.detach()).squeeze(-1)
        with torch.no_grad():
            next_features = module.network(batch[Columns.NEXT_OBS], batch[TASKS])[1]
            returns = batch["rewards"] + batch["discounts"] * module.value_head(next_features).squeeze(-1)
            later = returns - expert_log_likelihood(expert_q, batch["actions"], **options)
            expected_later = values + cross_entropy
        score = score_function_loss(logits, batch["actions"], later - expected_later, legal_actions=legal)
        return cross_entropy + score + 0.5 * (values - returns).square()


class OnlineDistillationLearner(PolicyDistillationLearner):
    """The experts are DQNs in this learner, where they label the student's states."""

    def build(self) -> None:
        """As any learner's; no expert has been the best yet."""
        super().build()
        self._best_returns: dict[str, float] = {}
        self._expert_modules = self.config.expert_modules
        spaces = self.config.module_spaces(STUDENT)  # too dear to be asked for with every minibatch
        self._num_actions = spaces.num_actions
        self._student_actions = {
            task: torch.from_numpy(actions).to(self._device)
            for task, actions in spaces.common_actions.items()
        }

    def update(self, *, expert_returns: Mapping[str, float] | None = None, **kwargs: Any) -> Any:
        """As any learner's.

        Args:
            expert_returns: Task -> its expert's mean return lately; where it is the best so far, the expert
                as it is now becomes the one that is imitated with `online_expert="best"`.
            kwargs: See `PolicyDistillationLearner.update`.
        """
        for task, mean_return in (expert_returns or {}).items():
            if mean_return > self._best_returns.get(task, -torch.inf):
                self._best_returns[task] = mean_return
                module = self.module[self._expert_modules[task]]
                module.best_network.load_state_dict(module.network.state_dict())
        return super().update(**kwargs)

    def compute_loss_for_module(self, *, module_id: str, batch: Batch, **kwargs: Any) -> torch.Tensor:
        """The experts' loss is DQN's."""
        if module_id != STUDENT:
            return MultiTaskDQNLearner.compute_loss_for_module(
                self, module_id=module_id, batch=batch, **kwargs
            )
        labelled = {**batch, EXPERT_OUTPUTS: self._labels(batch)}
        return super().compute_loss_for_module(module_id=module_id, batch=labelled, **kwargs)

    @torch.no_grad()
    def _labels(self, batch: Batch) -> torch.Tensor:
        """The experts' Q-values `(N, A)` over the student's actions, 0 at illegal ones."""
        tasks, parts = batch[TASKS], []
        for task, observations in zip(tasks, batch[Columns.OBS].chunk(len(tasks)), strict=True):
            module = self.module[self._expert_modules[task]]
            network = module.network if self.config.online_expert == "current" else module.best_network
            own = observations[..., : module.observation_space.shape[-1]]
            q = network(own)[0]
            labels = q.new_zeros(len(q), self._num_actions)
            labels[:, self._student_actions[task]] = q
            parts.append(labels)
        return torch.cat(parts)

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Any learner's, and how good the best experts were."""
        return {**super().get_state(*args, **kwargs), "best_returns": dict(self._best_returns)}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restores what `get_state` gave."""
        super().set_state(state)
        self._best_returns = dict(state.get("best_returns", {}))


def _distillation_loss(
    config: Any, batch: Batch, logits: torch.Tensor, tau: torch.Tensor | float
) -> torch.Tensor:
    """Rusu et al., 2016, section 3, per row."""
    expert_q, legal = batch[EXPERT_OUTPUTS], batch[LEGAL_ACTIONS]
    if config.loss == "nll":
        return distillation_nll_loss(expert_q, logits, legal_actions=legal)
    if config.loss == "mse":
        return distillation_mse_loss(expert_q, logits, legal_actions=legal)
    return distillation_kl_loss(expert_q, logits, tau=tau, legal_actions=legal)
