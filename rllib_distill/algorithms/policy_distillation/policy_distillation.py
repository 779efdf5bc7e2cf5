"""Policy Distillation: one student learns what its experts, or teachers, know (Rusu et al., 2016)."""

from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.from_config import NotProvided
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS
from typing_extensions import override

from rllib_distill.algorithms.multi_task_dqn.multi_task_dqn import QLearningConfig
from rllib_distill.core.expert_export import ExpertExport
from rllib_distill.core.experts import (
    STUDENT,
    Behaviour,
    ExpertsMixin,
    StudentAlgorithm,
    check_behaviour,
    highest_share,
    last_share,
)
from rllib_distill.core.schedules import Coefficient, Schedule, check_schedule, value_at
from rllib_distill.core.trajectories import TrajectoryMixin
from rllib_distill.env_runner.actors import Actor
from rllib_distill.env_runner.episode_metrics import EXPERT_EPISODE_RETURNS_MEAN, STUDENT_EPISODE_RETURNS_MEAN
from rllib_distill.env_runner.task_envs import EXPERT
from rllib_distill.errors import DistillError, check_choice, check_number
from rllib_distill.imports import import_object
from rllib_distill.losses import DISTILLATION_LOSSES, DistillationLoss

ONLINE = "online"
"""In the place of experts: they learn at the same time."""

Objective = Literal["distillation", "expected_entropy_regularised", "kickstarting"]
EXPECTED_ENTROPY, KICKSTARTING = "expected_entropy_regularised", "kickstarting"

_TRAJECTORY_SETTINGS = (
    "vf_loss_coeff",
    "entropy_coeff",
    "vtrace_clip_rho_threshold",
    "vtrace_clip_pg_rho_threshold",
)
_Q_SETTINGS = ("n_step", "double_q", "huber_delta", "target_network_update_freq")
_REPLAY_SETTINGS = (
    "replay_capacity",
    "training_intensity",
    "num_steps_sampled_before_learning_starts",
    "one_task_per_minibatch",
    "sequence_length",
    "burn_in_len",
    *_Q_SETTINGS,
)

_KNOWN_RETURNS = "known_returns"
"""Key of the algorithm's state."""


class PolicyDistillationConfig(ExpertsMixin, TrajectoryMixin, QLearningConfig):
    """Configures `PolicyDistillation`.

    Example:
        config = (
            PolicyDistillationConfig()
            .multi_task(tasks={"breakout": "MinAtar/Breakout-v1", "asterix": "MinAtar/Asterix-v1"})
            .experts({"breakout": "breakout.safetensors", "asterix": "asterix.safetensors"})
            .training(loss="kl", tau=0.01, network={"type": "minatar_net1"})
        )
        algo = config.build_algo()
        algo.train()
        algo.evaluate()
    """

    def __init__(self, algo_class: type | None = None):
        """Sets the defaults."""
        if algo_class is None:
            algo_class = PolicyDistillation
        super().__init__(algo_class=algo_class)
        self.objective: Objective = "distillation"
        self.loss = "kl"
        self.tau = 0.01
        self.rl_coeff = 0.0
        self.entropy_coeff = 0.0
        self.imitation_coeff: Schedule | Literal["qdagger"] = 1.0
        self.online_expert: Literal["current", "best"] = "best"
        self.behaviour = "expert"
        self.epsilon = 0.05
        self.heads = "per_task"
        self.one_task_per_minibatch = True
        self.lr = 0.0005

    @override
    def experts(
        self,
        experts: Mapping[str, str | Path] | str = NotProvided,
        *,
        behaviour: Behaviour = NotProvided,
        online_expert: Literal["current", "best"] = NotProvided,
    ) -> Self:
        """Sets the experts and who acts while training.

        Args:
            experts: Task name -> path of its expert's `.safetensors` file; or `online`: experts are trained
                by DQN at the same time, with module id = task name and the settings of Q-learning below.
                They explore by `epsilon`, which should be a schedule: [[0, 1.0], [200000, 0.02]].
            behaviour: See `ExpertsMixin.experts`; here the default is `expert`, as in the paper.
            online_expert: Which weights of an expert that still learns are imitated: the `current` ones, or
                the `best` so far (default), by means over `metrics_num_episodes_for_smoothing` training
                episodes; these stay the same once the experts no longer act.

        Returns:
            This config.
        """
        super().experts(experts, behaviour=behaviour)
        self._set_given({"online_expert": online_expert})
        if experts is not NotProvided:
            self._map_tasks()
        return self

    @override
    def training(
        self,
        *,
        loss: str = NotProvided,
        tau: Coefficient = NotProvided,
        objective: Objective = NotProvided,
        rl_coeff: float = NotProvided,
        entropy_coeff: float = NotProvided,
        imitation_coeff: Schedule | Literal["qdagger"] = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets the training related configuration.

        Args:
            loss: `kl` (default), `nll` (of the expert's best action) or `mse` (of Q-values); or one of your
                own, "my_package:my_loss" (see `rllib_distill.losses.DistillationLoss`).
            tau: Temperature, > 0, a number or task -> number; it divides the experts' Q-values only (default
                0.01, as in the paper; it takes long training where the gaps between them are small). With a
                Q-learning loss the student's outputs are Q-values, and it divides these too.
            objective: `distillation` on whatever states are replayed (default). Or, on trajectories that the
                student has just played, drawn from its policy, with V-trace (Espeholt et al., 2018):
                `expected_entropy_regularised` (Czarnecki et al., 2019), where the experts' log-likelihoods
                of the student's actions are rewards, so that the update is the gradient of an objective; and
                `kickstarting` (Schmitt et al., 2018), an actor-critic with the cross entropy to the experts
                besides. These want `behaviour="student"`, `epsilon=0` and a tau of the size of the gaps
                between Q-values, and have no replay.
            rl_coeff: Weight of what the student learns from rewards (default 0: imitation alone). With replay
                it weighs the student's Q-learning loss; on trajectories it multiplies rewards. With 1 and an
                `imitation_coeff` that fades, a student can surpass its experts.
            entropy_coeff: Weight of the student's entropy, on trajectories (default 0).
            imitation_coeff: Weight of the imitation loss, a schedule, or `qdagger`: per task
                max(1 - student's / expert's mean return, 0), at most 1 (Agarwal et al., 2022); 1 while the
                student has not played, or an expert that learns has no return above 0.
            kwargs: See `TrajectoryMixin.training`, `QLearningConfig.training` and `ReplayConfig.training`.
                Here by default heads are `per_task` and a minibatch is of one task, 32 rows (online: an
                equal share of each task).

        Returns:
            This config.
        """
        super().training(**kwargs)
        return self._set_given(
            {
                "loss": loss,
                "tau": tau,
                "objective": objective,
                "rl_coeff": rl_coeff,
                "entropy_coeff": entropy_coeff,
                "imitation_coeff": imitation_coeff,
            }
        )

    # -- what is learned -----------------------------------------------------------------------------------

    @property
    def experts_learn(self) -> bool:
        """Whether experts learn at the same time."""
        return isinstance(self.expert_paths, str) and self.expert_paths == ONLINE

    @property
    @override
    def learns_on_policy(self) -> bool:
        """Whether the student learns from what it just did, and from nothing older."""
        return self.objective != "distillation"

    @property
    def rewards_imitation(self) -> bool:
        """Whether the experts' log-likelihoods of the student's actions are rewards."""
        return self.objective == EXPECTED_ENTROPY

    @property
    def distillation_loss(self) -> DistillationLoss:
        """The loss that the setting `loss` names.

        Raises:
            DistillError: It names nothing that could be a loss.
        """
        if isinstance(self.loss, str) and ":" in self.loss:
            found = import_object(self.loss, "loss")
            if not callable(found) and not isinstance(found, DistillationLoss):
                raise DistillError(
                    f"loss is {self.loss!r}, which is {found!r} ({type(found).__name__}); it must be a "
                    "function or a DistillationLoss."
                )
            return found if isinstance(found, DistillationLoss) else DistillationLoss(found)
        check_choice("loss", self.loss, tuple(DISTILLATION_LOSSES))
        return DISTILLATION_LOSSES[self.loss]

    @property
    def student_has_q_values(self) -> bool:
        """Whether the student's outputs are Q-values, of which tau makes logits."""
        return self.rl_coeff > 0 and not self.learns_on_policy

    @property
    @override
    def learns_q_values(self) -> bool:
        return self.student_has_q_values or self.experts_learn

    @property
    @override
    def expert_modules(self) -> Mapping[str, str]:
        """Every expert that learns has a module with its task's name."""
        names = self.tasks if self.experts_learn and isinstance(self.tasks, Mapping) else ()
        return {task: task for task in names}

    # -- who acts, and what experts say --------------------------------------------------------------------

    @override
    def load_experts(self) -> Any:
        """Loads every expert; None where experts are modules that learn."""
        return None if self.experts_learn else super().load_experts()

    @property
    @override
    def label_columns(self) -> tuple[str, ...]:
        """No columns where experts learn: they label in the learner."""
        return () if self.experts_learn else super().label_columns

    @property
    @override
    def schedules(self) -> dict[str, Any]:
        """Adds `imitation_coeff`."""
        return {**super().schedules, "imitation_coeff": self.imitation_coeff}

    @override
    def expert_actor(self, modules: Any, experts: Any, device: torch.device) -> Actor:
        """The experts from files, or the modules that learn."""
        if not self.experts_learn:
            return super().expert_actor(modules, experts, device)
        return self.modules_actor(modules, self.expert_modules.values(), device)

    @override
    def make_evaluated_policies(self, modules: Any, device: torch.device) -> dict[str, Actor]:
        """Evaluates the student and, beside it, experts that learn."""
        policies = super().make_evaluated_policies(modules, device)
        if self.experts_learn:
            policies[EXPERT] = self.expert_actor(modules, None, device)
        return policies

    # -- what RLlib asks -----------------------------------------------------------------------------------

    @override
    def get_default_rl_module_spec(self) -> RLModuleSpec:
        return RLModuleSpec(module_class=self.module_class_of(STUDENT))

    @override
    def module_class_of(self, module_id: str) -> type:
        """The student's class, or that of an expert that learns."""
        from rllib_distill.algorithms.policy_distillation.policy_distillation_rl_module import (
            OnlineExpertRLModule,
            PolicyDistillationRLModule,
        )

        return PolicyDistillationRLModule if module_id == STUDENT else OnlineExpertRLModule

    @override
    def model_config_of_module(self, module_id: str) -> dict[str, Any]:
        """Adds what the student's objective needs: a target network, or value heads."""
        needs = {
            "target_network": self.student_has_q_values,
            "num_values": len(self.tasks) if self.learns_on_policy else 0,
        }
        return {**super().model_config_of_module(module_id), **(needs if module_id == STUDENT else {})}

    @override
    def get_default_learner_class(self) -> type:
        from rllib_distill.algorithms.policy_distillation.policy_distillation_learner import (
            OnlineDistillationLearner,
            PolicyDistillationLearner,
            TrajectoryDistillationLearner,
        )

        if self.learns_on_policy:
            return TrajectoryDistillationLearner
        return OnlineDistillationLearner if self.experts_learn else PolicyDistillationLearner

    # -- checks --------------------------------------------------------------------------------------------

    @override
    def validate(self) -> None:
        """Checks every setting, alone and together with others, before anything starts."""
        check_behaviour(self.behaviour)
        _ = self.distillation_loss  # raises what is wrong with `loss`
        check_choice("objective", self.objective, get_args(Objective))
        check_choice("online_expert", self.online_expert, ("current", "best"))
        self._check_coefficients()
        self._check_where_experts_come_from()
        if self.learns_on_policy:
            self._check_on_policy()
        else:
            self.check_unchanged(_TRAJECTORY_SETTINGS, "which is for the objectives on trajectories")
            if not self.learns_q_values:
                self.check_unchanged(_Q_SETTINGS, "which is for Q-learning, and rl_coeff is 0")
        super().validate()

    @override
    def check_experts(self) -> None:
        """Raises DistillError unless every expert can be loaded and fits the settings."""
        if self.experts_learn:
            return
        for task, expert in self.load_experts().items():
            if self.distillation_loss.of_q_values and expert.info.kind != "q_values":
                raise DistillError(
                    f"loss is {self.loss!r}, but the expert of task {task!r} has {expert.info.kind}, which "
                    "are no Q-values to be regressed to: use loss 'kl' or 'nll'."
                )
            expected = expert.info.expected_return
            if self.imitation_coeff == "qdagger" and (expected is None or expected["mean"] <= 0):
                raise DistillError(
                    "imitation_coeff is 'qdagger', but the expected_return of the expert of task "
                    f"{task!r} is {None if expected is None else expected['mean']}; it must be known and "
                    "above 0 to compare with: give imitation_coeff a schedule such as "
                    "[[0, 1.0], [1000000, 0.0]]."
                )

    def _check_coefficients(self) -> None:
        """Raises DistillError unless something is learned, from start to end."""
        check_number("rl_coeff", self.rl_coeff, least=0)
        if not isinstance(self.imitation_coeff, str):
            check_schedule("imitation_coeff", self.imitation_coeff, least=0)
            if self.imitation_coeff == 0 and self.rl_coeff == 0:
                raise DistillError("imitation_coeff and rl_coeff are both 0: nothing would be learned.")
            return
        check_choice("imitation_coeff", self.imitation_coeff, ("qdagger",))
        if not self.rl_coeff:
            raise DistillError(
                "imitation_coeff is 'qdagger', which fades, and rl_coeff is 0: nothing would be learned in "
                "the end. Set rl_coeff, e.g. to 1.0, or give imitation_coeff a number."
            )
        if last_share(self.behaviour) == 1:
            raise DistillError(
                "imitation_coeff is 'qdagger', which fades with the student's return, but by behaviour only "
                "experts act: let the student, e.g. behaviour: [[0, 1.0], [100000, 0.0]]."
            )

    def _check_where_experts_come_from(self) -> None:
        """Raises DistillError unless settings fit where experts come from: files, or their own learning."""
        if not self.experts_learn:
            if isinstance(self.expert_paths, str):
                raise DistillError(
                    f"experts is {self.expert_paths!r}; it must map each task to the path of its "
                    ".safetensors file, or be 'online'."
                )
            self.check_unchanged(("online_expert",), "which is for experts: online")
            return
        if STUDENT in self.expert_modules:
            raise DistillError(
                f"A task is called {STUDENT!r}, as the student's module is; experts that learn have their "
                "task's name: call the task otherwise."
            )
        if self.online_expert == "best" and highest_share(self.behaviour) == 0:
            raise DistillError(
                "online_expert is 'best', which is known by the experts' own play, but by behaviour only "
                "the student acts: use online_expert 'current', or let the experts act."
            )

    def _check_on_policy(self) -> None:
        """Raises DistillError unless trajectories are the student's own, and replay is left as by default."""
        wrong = {
            "behaviour": (highest_share(self.behaviour) > 0, self.behaviour, "'student'"),
            "epsilon": (self.epsilon != 0, self.epsilon, "0"),
            "loss": (self.loss != "kl", self.loss, "'kl'"),
            "experts": (self.experts_learn, "online", "files"),
        }
        for name, (is_wrong, value, allowed) in wrong.items():
            if is_wrong:
                raise DistillError(
                    f"{name} is {value!r}; with the objective {self.objective} it must be {allowed}: "
                    "the objective is about what the student's own policy does, given experts that stay."
                )
        if self.objective == KICKSTARTING and not self.rl_coeff:
            raise DistillError(
                "rl_coeff is 0; kickstarting is reinforcement learning with experts' help: set it, e.g. to "
                "1.0."
            )
        check_number("entropy_coeff", self.entropy_coeff, least=0)
        self.check_unchanged(
            _REPLAY_SETTINGS, f"which is for replay: the objective {self.objective} has none"
        )
        self.check_batch_size()
        self.check_draws()


class PolicyDistillation(StudentAlgorithm, ExpertExport):
    """Experts play (or the student, or both by turns) and label what is seen; the student learns from it."""

    config: PolicyDistillationConfig

    @classmethod
    @override
    def get_default_config(cls) -> PolicyDistillationConfig:
        return PolicyDistillationConfig()

    @override
    def setup(self, config: Any) -> None:
        super().setup(config)
        self._known_returns: dict[str, dict[str, float]] = {}

    @property
    @override
    def learned_experts(self) -> Mapping[str, str]:
        """The experts that learned beside the student."""
        return self.config.expert_modules

    @override
    def learner_inputs(self) -> dict[str, Any]:
        """The weight of each task's imitation loss, and the recent returns of experts that learn."""
        inputs: dict[str, Any] = {"imitation_coeffs": self._imitation_coeffs()}
        if self.config.experts_learn:
            inputs["expert_returns"] = self._recent_returns(EXPERT_EPISODE_RETURNS_MEAN)
        return inputs

    def _imitation_coeffs(self) -> dict[str, float]:
        coeff = self.config.imitation_coeff
        if not isinstance(coeff, str):
            return dict.fromkeys(self.config.tasks, value_at(coeff, self.elapsed()))
        students = self._recent_returns(STUDENT_EPISODE_RETURNS_MEAN)
        learn = self.config.experts_learn
        experts = self._recent_returns(EXPERT_EPISODE_RETURNS_MEAN) if learn else self.returns_of_files
        return {
            task: min(max(1.0 - students[task] / experts[task], 0.0), 1.0)
            if task in students and experts.get(task, 0.0) > 0
            else 1.0
            for task in self.config.tasks
        }

    def _recent_returns(self, key: str) -> dict[str, float]:
        """Task -> the last mean return that was reported; between reports RLlib's metrics have nan."""
        known = self._known_returns.setdefault(key, {})
        heard = self.metrics.peek((ENV_RUNNER_RESULTS, key), default={})
        known.update({task: float(mean) for task, mean in heard.items() if isfinite(mean)})
        return known

    @override
    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Adds the last returns that were reported."""
        return {**super().get_state(*args, **kwargs), _KNOWN_RETURNS: self._known_returns}

    @override
    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        self._known_returns = state.get(_KNOWN_RETURNS, {})
