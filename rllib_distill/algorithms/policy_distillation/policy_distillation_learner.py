"""Distillation losses on the student, from replay or on trajectories, and what it learns by rewards."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from rllib_distill.algorithms.multi_task_dqn.multi_task_dqn_learner import MultiTaskDQNLearner
from rllib_distill.core.experts import STUDENT, greedy_agreement
from rllib_distill.core.learner import Loss, MultiTaskLearner
from rllib_distill.core.trajectories import TrajectoryLearner, at_final_observations, taken, vtrace
from rllib_distill.losses import (
    expected_cross_entropy_loss,
    expert_log_likelihood,
    policy_regression_loss,
)
from rllib_distill.losses.common import only_legal
from rllib_distill.networks import NetworkOutputs
from rllib_distill.replay import Batch
from rllib_distill.replay.fragment import BEHAVIOUR_LOG_PROBS, EXPERT_OUTPUTS


class WeighsImitation(MultiTaskLearner):
    """A learner that is told how much imitation counts, task by task."""

    imitation_coeffs: Mapping[str, float] = {}

    @override
    def update(self, *, imitation_coeffs: Mapping[str, float] | None = None, **kwargs: Any) -> Any:
        """Updates with weights of the imitation loss.

        Args:
            imitation_coeffs: Task -> weight of its imitation loss.
            kwargs: See `MultiTaskLearner.update`.
        """
        self.imitation_coeffs = imitation_coeffs or {}
        return super().update(**kwargs)

    def imitation_weights(self, batch: Batch) -> Tensor | float:
        """The weight of each row's task."""
        return batch.per_row([self.imitation_coeffs.get(task, 1.0) for task in batch.tasks])

    def tau(self, batch: Batch) -> Tensor | float:
        """The temperature of each row's task."""
        return batch.per_row([self.config.tau_of(task) for task in batch.tasks])


class PolicyDistillationLearner(WeighsImitation, MultiTaskDQNLearner):
    """L = imitation_coeff L_imitation + rl_coeff L_TD, averaged over the minibatch."""

    @override
    def build(self) -> None:
        self._loss = self.config.distillation_loss
        super().build()

    @override
    def columns_of(self, module_id: str) -> tuple[str, ...]:
        """Observations and their labels; with Q-learning, the columns of TD targets too."""
        looks_ahead = module_id != STUDENT or self.config.rl_coeff > 0
        labels = self.config.label_columns if module_id == STUDENT else ()
        return (*(self.columns if looks_ahead else ("observations",)), *labels)

    @override
    def loss_of_module(self, module_id: str, config: Any, batch: Batch, outputs: NetworkOutputs) -> Loss:
        """Averages over all rows of the minibatch; see Rusu et al. (2016, section 3)."""
        said = outputs.outputs[:, : batch.shape[1]]
        tau = self.tau(batch)
        options: dict[str, Any] = {"tau": tau} if self._loss.takes_tau else {}
        student = said
        if config.student_has_q_values and not self._loss.of_q_values:
            student = said / (tau.unsqueeze(-1) if isinstance(tau, Tensor) else tau)
        imitation = self._loss.function(
            batch.columns[EXPERT_OUTPUTS], student, legal_actions=batch.legal_of(said), **options
        )
        per_row, components = self.imitation_weights(batch) * imitation, {"imitation_loss": imitation}
        if config.rl_coeff > 0:
            td_loss = self.td_loss(module_id, config, batch, said)
            per_row = per_row + config.rl_coeff * td_loss
            components |= self.td_components(batch, td_loss, said)
        if self.logs_minibatch:
            components["greedy_agreement"] = greedy_agreement(batch, student)
        return Loss.of_rows(batch, per_row, components)


class OnlineDistillationLearner(PolicyDistillationLearner):
    """Trains the experts as DQNs beside the student, whose states they label here."""

    @override
    def build(self) -> None:
        super().build()
        self._best_returns: dict[str, float] = {}
        self._expert_modules = self.config.expert_modules
        self._spaces = self.config.module_spaces(STUDENT)  # too dear to be asked for with every minibatch
        self._student_actions = {
            task: torch.from_numpy(actions).to(self._device)
            for task, actions in self._spaces.common_actions.items()
        }

    @override
    def update(self, *, expert_returns: Mapping[str, float] | None = None, **kwargs: Any) -> Any:
        """Updates, and keeps the experts' best weights.

        Args:
            expert_returns: Task -> its expert's recent mean return; where it is the best so far, the expert's
                present weights become those that are imitated with `online_expert="best"`.
            kwargs: See `PolicyDistillationLearner.update`.
        """
        for task, mean_return in (expert_returns or {}).items():
            if mean_return > self._best_returns.get(task, -torch.inf):
                self._best_returns[task] = mean_return
                module = self.module[self._expert_modules[task]]
                module.best_network.load_state_dict(module.network.state_dict())
        return super().update(**kwargs)

    @override
    def loss_of_module(self, module_id: str, config: Any, batch: Batch, outputs: NetworkOutputs) -> Loss:
        """Computes DQN's loss for an expert, and the student's from labels that are made here."""
        if module_id != STUDENT:
            return MultiTaskDQNLearner.loss_of_module(self, module_id, config, batch, outputs)
        columns = {**batch.columns, EXPERT_OUTPUTS: self._labels(batch)}
        return super().loss_of_module(module_id, config, replace(batch, columns=columns), outputs)

    @torch.no_grad()
    def _labels(self, batch: Batch) -> Tensor:
        """The experts' Q-values `(N, T, B, A)` over the student's actions, 0 at illegal ones."""
        parts = []
        for task, observations in zip(batch.tasks, batch.observations.unbind(), strict=True):
            module = self.module[self._expert_modules[task]]
            network = module.network if self.config.online_expert == "current" else module.best_network
            q = network(self._spaces.own_part(task, observations)[None]).outputs[0]
            labels = q.new_zeros(*q.shape[:-1], self._spaces.num_actions)
            labels[..., self._student_actions[task]] = q
            parts.append(labels)
        return torch.stack(parts)

    @override
    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Adds the best experts' returns."""
        return {**super().get_state(*args, **kwargs), "best_returns": dict(self._best_returns)}

    @override
    def set_state(self, state: Mapping[str, Any]) -> None:
        super().set_state(state)
        self._best_returns = dict(state.get("best_returns", {}))


class TrajectoryDistillationLearner(WeighsImitation, TrajectoryLearner):
    """The student as an actor-critic with V-trace, helped by its experts on the states that it visits."""

    @override
    def loss_of_module(self, module_id: str, config: Any, batch: Batch, outputs: NetworkOutputs) -> Loss:
        """Averages over rows the losses of policy and value function and what the objective adds.

        Kickstarting (Schmitt et al., 2018) adds imitation_coeff H(pi_E || pi_S), the cross entropy on the
        student's own states. Expected entropy regularised distillation (Czarnecki et al., 2019) has rewards
        rl_coeff r + imitation_coeff log pi_E(a|s): a step's own log-likelihood enters in expectation, as
        -H(pi_S || pi_E), and later ones enter through the returns.
        """
        said = outputs.outputs[:, :-1]
        legal = batch.legal_of(said)
        log_policies = torch.log_softmax(only_legal(said, legal), -1)
        log_probs = taken(log_policies, batch.columns["actions"])
        values, weights = outputs.own_values(batch.tasks, tuple(config.tasks)), self.imitation_weights(batch)
        expert = batch.columns[EXPERT_OUTPUTS]
        options: dict[str, Any] = {"tau": self.tau(batch), "legal_actions": legal}
        step_reward: Tensor | float = 0.0
        if config.rewards_imitation:
            step_reward = weights * expert_log_likelihood(expert, batch.columns["actions"], **options)
            imitation = expected_cross_entropy_loss(expert, said, **options)
        else:
            imitation = policy_regression_loss(expert, said, **options)
        targets, advantages = vtrace(
            batch,
            log_probs,
            config.rl_coeff * batch.columns["rewards"] + step_reward,
            values,
            self._final_values(module_id, batch, outputs),
            gamma=config.gamma,
            clip_rho_threshold=config.vtrace_clip_rho_threshold,
            clip_pg_rho_threshold=config.vtrace_clip_pg_rho_threshold,
        )
        if config.rewards_imitation:
            # The loss has the step's own reward in expectation, so the sampled one is taken out of the
            # advantage, and its expectation out of the baseline.
            ratios = (log_probs.detach() - batch.columns[BEHAVIOUR_LOG_PROBS]).exp()
            ratios = ratios.clamp(max=config.vtrace_clip_pg_rho_threshold)
            advantages = advantages - ratios * (step_reward + weights * imitation.detach())
        policy_loss = -log_probs * advantages
        vf_loss = 0.5 * (values[:, :-1] - targets).square()
        entropy = -(log_policies.exp() * log_policies).sum(-1)
        per_row = (
            policy_loss
            + config.vf_loss_coeff * vf_loss
            - config.entropy_coeff * entropy
            + weights * imitation
        )
        components = {
            "policy_loss": policy_loss,
            "vf_loss": vf_loss,
            "entropy": entropy,
            "imitation_loss": imitation,
        }
        if self.logs_minibatch:
            components["greedy_agreement"] = greedy_agreement(batch, said)
        return Loss.of_rows(batch, per_row, components)

    @torch.no_grad()
    def _final_values(self, module_id: str, batch: Batch, outputs: NetworkOutputs) -> Tensor | None:
        final = at_final_observations(self.module[module_id].network, batch, outputs.states)
        return None if final is None else final.own_values(batch.tasks, tuple(self.config.tasks))[:, 0]
