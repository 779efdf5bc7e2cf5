"""SoftQDistral: Distral with soft Q-learning instead of an actor-critic (Teh et al., 2017, section 2)."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.from_config import NotProvided
from torch import Tensor
from typing_extensions import override

from rllib_distill.algorithms.distral.task_policies_config import TaskPoliciesConfig
from rllib_distill.core.algorithm import MultiTaskAlgorithm
from rllib_distill.core.replay import ReplayConfig
from rllib_distill.env_runner.task_envs import DISTILLED
from rllib_distill.errors import DistillError, check_bool, check_number
from rllib_distill.networks import Parameterization
from rllib_distill.replay import Sequences
from rllib_distill.tasks.spaces import one_line

TABULAR = "tabular"
_ONE_HOT = (
    "a tabular network needs one-hot states, a 1 among 0s: of rllib_distill/TwoRooms-v0 by env_config: "
    "{observation: state}, of Discrete observations by wrappers: [gymnasium.wrappers.FlattenObservation]."
)


def is_tabular(config: Any) -> bool:
    """Whether the config's network is a table with a row per state, which observations are one-hots of."""
    return isinstance(config.network, Mapping) and config.network.get("type") == TABULAR


def check_tabular(config: Any) -> None:
    """Raises DistillError unless optimizer, learning rate and observations are those of tables."""
    if config.optimizer != {"type": "sgd"}:
        raise DistillError(
            f"optimizer is {config.optimizer!r}; a tabular network's entries are moved by plain gradient "
            "descent: set optimizer: {type: sgd}."
        )
    if not isinstance(config.lr, int | float) or not 0 < config.lr <= 1:
        raise DistillError(
            f"lr is {config.lr!r}; for a tabular network it must be a number above 0 and at most 1: the "
            "share of the way to its target that a visit moves an entry."
        )
    for module_id, overrides in config.algorithm_config_overrides_per_module.items():
        for name in ("lr", "optimizer"):  # a step weighs visits by the lr of all
            if name in overrides:
                raise DistillError(
                    f"algorithm_config_overrides_per_module sets {name} of module {module_id!r} to "
                    f"{overrides[name]!r}; tabular networks all move alike: set {name} for all, or remove it."
                )
    space = config.shared_spaces.observation_space
    in_range = np.all(space.low >= 0) and np.all(space.high <= 1)
    # Networks take uint8 for pictures, whose 255 is a 1. `states_of` looks at the observations themselves.
    if len(space.shape) != 1 or space.dtype == np.uint8 or not in_range:
        raise DistillError(
            f"the tasks observe {one_line(space)}; {_ONE_HOT} (One-dimensional, from 0 to 1, no uint8.)"
        )


def states_of(observations: Tensor, valid: Tensor) -> Tensor:
    """Numbers of one-hot states.

    Args:
        observations: `(..., S)`.
        valid: `(...)` bool, false where the number does not matter.

    Returns:
        `(...)` int64.

    Raises:
        DistillError: Another observation than a one-hot.
    """
    states = observations.byte().argmax(-1)
    hottest = observations.gather(-1, states.unsqueeze(-1)).squeeze(-1)
    is_one_hot = (hottest == 1) & (observations.count_nonzero(-1) == 1)
    if not (is_one_hot | ~valid).all():
        wrong = observations[valid & ~is_one_hot][0]
        raise DistillError(
            f"a task's observation has the {len(wrong.nonzero())} values {wrong[wrong != 0].tolist()[:5]} "
            f"that are not 0; {_ONE_HOT}"
        )
    return states


def visit_weights(entries: Tensor, valid: Tensor, lr: float) -> Tensor:
    """Weights of rows with which one step of size `lr` on their sum does as `c` steps one by one.

    An entry that is visited c times moves 1 - (1 - lr)^c of the way to the mean of its targets, which is
    what c steps toward that mean would do; a plain sum would overshoot for c above 1 / lr, and a mean over
    all rows would hardly move.

    Args:
        entries: Number of the entry that each row visits, any shape, integers from 0.
        valid: Whether the row is a visit, bool, of the same shape.
        lr: Learning rate, in (0, 1].

    Returns:
        (1 - (1 - lr)^c) / (c lr), of the same shape; 0 where a row is no visit.
    """
    visits = torch.bincount(entries.flatten(), weights=valid.flatten().float())[entries].clamp(min=1.0)
    return valid * (1.0 - (1.0 - lr) ** visits) / (visits * lr)


class SoftQDistralConfig(TaskPoliciesConfig, ReplayConfig):
    """Configures `SoftQDistral`.

    Example:
        config = (
            SoftQDistralConfig()
            .multi_task(tasks={f"goal_{i}": {"env": "rllib_distill/TwoRooms-v0", "env_config": {"task": i}}
                               for i in range(4)})
            .training(alpha=1.0, beta=5.0, gamma=0.95, n_step=10)
        )
        algo = config.build_algo()
        algo.train()
        algo.evaluate()
    """

    rows_per_task = 160

    def __init__(self, algo_class: type | None = None):
        """Sets the defaults: the paper's coefficients for gridworlds."""
        if algo_class is None:
            algo_class = SoftQDistral
        super().__init__(algo_class=algo_class)
        self.alpha = 1.0
        self.beta = 5.0
        self.gamma = 0.95
        self.distil = True
        self.n_step = 10
        self.target_network_update_freq = 100  # minibatches
        self.num_envs_per_task = 10
        self.rollout_fragment_length = 20
        self.replay_capacity = 20_000
        self.training_intensity = 4.0

    def training(
        self,
        *,
        distil: bool = NotProvided,
        n_step: int = NotProvided,
        target_network_update_freq: int = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets the training related configuration.

        Args:
            distil: Whether there is a distilled policy (default); if not, each task learns alone, with the
                uniform policy in the distilled one's place.
            n_step: Steps of a soft Bellman backup (default 10, the paper's), at most as many as a replayed
                sequence has rows: `sequence_length`, by default the larger of n_step and
                `rollout_fragment_length`.
            target_network_update_freq: Minibatches between copies of the networks that backups ask
                (default 100).
            kwargs: See `TaskPoliciesConfig.training` and `ReplayConfig.training`; minibatches consist of
                whole sequences (default: 160 rows of every task).

        Returns:
            This config.
        """
        super().training(**kwargs)
        self._set_given(
            {"distil": distil, "n_step": n_step, "target_network_update_freq": target_network_update_freq}
        )
        if distil is not NotProvided:
            self._map_tasks()
        return self

    @property
    def draws_sequences(self) -> bool:
        """Backups look several steps ahead."""
        return True

    @property
    def sequences(self) -> Sequences:
        """By default as long as fragments, or as the backups where these are longer."""
        length = self.sequence_length
        if length is None:
            length = max(int(self.get_rollout_fragment_length()), self.n_step)
        return Sequences(length)

    # -- what the modules are ------------------------------------------------------------------------------

    @property
    def has_distilled(self) -> bool:
        """Unless `distil` is False."""
        return self.distil

    @property
    def policies_parameterization(self) -> Parameterization:
        """Task policies are pi_0^alpha exp(beta (Q - V)), equation (2): two columns, the second being Q."""
        return "two_column" if self.distil else "one_column"

    def column_weights(self, task: str) -> tuple[float, float]:
        """Equation (8) as it stands: the task networks' outputs are Q-values."""
        return self.alpha_of(task), self.beta_of(task)

    def initial_head_scale(self, module_id: str) -> float:
        """Task policies start as pi_0^alpha: logits are no Q-values, which start at 0."""
        return 1.0 if module_id == DISTILLED else 0.0

    def num_values(self, module_id: str) -> int:
        """V follows from Q, equation (3)."""
        return 0

    def starts_at_zero(self, module_id: str) -> bool:
        """All do: Q is 0 and the distilled policy uniform."""
        return True

    def module_class_of(self, module_id: str) -> type:
        """Task networks have target networks."""
        from rllib_distill.algorithms.distral.distral_rl_module import DistralRLModule
        from rllib_distill.algorithms.soft_q_distral.soft_q_distral_learner import SoftQRLModule

        return DistralRLModule if module_id == DISTILLED else SoftQRLModule

    @override
    def get_default_rl_module_spec(self) -> RLModuleSpec:
        from rllib_distill.algorithms.soft_q_distral.soft_q_distral_learner import SoftQRLModule

        return RLModuleSpec(module_class=SoftQRLModule)

    @override
    def get_default_learner_class(self) -> type:
        from rllib_distill.algorithms.soft_q_distral.soft_q_distral_learner import SoftQLearner

        return SoftQLearner

    # -- checks --------------------------------------------------------------------------------------------

    def validate(self) -> None:
        """Checks every value before anything starts."""
        check_bool("distil", self.distil)
        check_number("n_step", self.n_step, least=1, integer=True)
        check_number("target_network_update_freq", self.target_network_update_freq, least=1, integer=True)
        super().validate()
        if self.one_task_per_minibatch:
            raise DistillError("one_task_per_minibatch is for a network of several tasks: remove it.")
        if is_tabular(self):
            check_tabular(self)
        if self.is_recurrent:
            raise DistillError(
                "network has the option lstm, which is for Distral; SoftQDistral's are not recurrent."
            )

    def _check_sequences(self) -> None:
        """Sequences are long enough for their backups, and nothing has to warm up."""
        super()._check_sequences()
        length = 0 if self.sequences is None else self.sequences.length
        check_number("n_step", self.n_step, least=1, most=length, integer=True)
        check_number("burn_in_len", self.burn_in_len, least=0, most=0, integer=True)


class SoftQDistral(MultiTaskAlgorithm):
    """Tasks act by pi_0^alpha exp(beta (Q - V)); the distilled policy pi_0 follows them."""

    config: SoftQDistralConfig

    @classmethod
    @override
    def get_default_config(cls) -> SoftQDistralConfig:
        return SoftQDistralConfig()
