"""Algorithms that imitate experts: their settings, who acts, and how students compare with experts."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from ray.rllib.utils.from_config import NotProvided
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    EPISODE_AGENT_RETURN_MEAN,
    EPISODE_MODULE_RETURN_MEAN,
)
from typing_extensions import override

from rllib_distill.core.algorithm import MultiTaskAlgorithm
from rllib_distill.core.config import MultiTaskConfig
from rllib_distill.core.schedules import (
    Coefficient,
    Elapsed,
    Position,
    check_coefficient,
    check_position,
    check_schedule,
    coefficient_of,
    position_value,
    value_at,
)
from rllib_distill.env_runner.actors import Actor, ExpertActor, ExpertLabels, TakingTurns
from rllib_distill.errors import DistillError, check_number, nearest
from rllib_distill.experts import ExpertBank
from rllib_distill.files import absolute_path
from rllib_distill.losses.common import only_legal
from rllib_distill.replay import Batch
from rllib_distill.replay.fragment import EXPERT_FEATURES, EXPERT_OUTPUTS

STUDENT = "student"
"""Id of the student's module."""

STUDENT_EXPERT_RATIO = "student_expert_ratio"
"""Key of evaluation results: task -> the student's mean return / its expert's."""

Behaviour = str | float | Sequence[Sequence[Position]] | Mapping[str, Any]
"""Who acts in training: see `ExpertsMixin.experts`."""

_SHARES = {"student": 0.0, "expert": 1.0}
_EXPONENTIAL = {"type": "exponential", "initial": 1.0, "half_life": 100_000}
_FORMS = (
    "'student', 'expert', the share of episodes that experts act (0 to 1), a schedule of it such as "
    "[[0, 1.0], [500000, 0.0]], or {type: exponential, initial: 1.0, half_life: 100000}, by env steps; or by "
    "shares of the run, [['0%', 1.0], ['20%', 0.0]] or half_life: 5%"
)


def expert_share(behaviour: Behaviour, elapsed: Elapsed) -> float:
    """Share of the episodes in which experts act, in [0, 1].

    With `initial` 1, the exponential schedule is DAgger's beta = p^k (Ross et al., 2011), by env steps or
    progress instead of rounds.
    """
    if isinstance(behaviour, str):
        return _SHARES[behaviour]
    if isinstance(behaviour, Mapping):
        schedule = {**_EXPONENTIAL, **behaviour}
        now = elapsed.progress if isinstance(schedule["half_life"], str) else elapsed.env_steps
        return float(schedule["initial"] * 0.5 ** (now / position_value(schedule["half_life"])))
    return value_at(behaviour, elapsed)


def highest_share(behaviour: Behaviour) -> float:
    """The highest value of `expert_share` in a run."""
    if isinstance(behaviour, list | tuple):
        return float(max(share for _, share in behaviour))
    return expert_share(behaviour, Elapsed())


def last_share(behaviour: Behaviour) -> float:
    """The value of `expert_share` at the end of a run."""
    if isinstance(behaviour, Mapping):
        return 0.0
    if isinstance(behaviour, list | tuple):
        return float(behaviour[-1][1])
    return expert_share(behaviour, Elapsed())


def check_behaviour(behaviour: Any) -> None:
    """Raises DistillError unless `behaviour` is one that `expert_share` takes, with shares in [0, 1]."""
    if isinstance(behaviour, str):
        if behaviour not in _SHARES:
            raise DistillError(f"behaviour is {behaviour!r}; it must be {_FORMS}.")
    elif isinstance(behaviour, Mapping):
        _check_exponential(behaviour)
    elif isinstance(behaviour, int | float | list | tuple) and not isinstance(behaviour, bool):
        check_schedule("behaviour", behaviour, least=0, most=1)
    else:
        raise DistillError(f"behaviour is {behaviour!r}; it must be {_FORMS}.")


class ExpertsMixin(MultiTaskConfig):
    """Gives a config experts, and one student for all tasks, whose module id is `student`."""

    per_task_settings = ("tau",)

    def __init__(self, algo_class: type | None = None):
        """Sets the defaults."""
        super().__init__(algo_class=algo_class)
        self.expert_paths: Any = {}  # the key `experts` of files, which is a method's name here
        self.behaviour: Behaviour = "student"
        self.tau: Coefficient = 1.0

    def experts(
        self, experts: Mapping[str, str | Path] | str = NotProvided, *, behaviour: Behaviour = NotProvided
    ) -> Self:
        """Sets the experts and who acts while training.

        Args:
            experts: Task name -> path of its expert's `.safetensors` file, one for every task.
            behaviour: Who acts: `student` (as in Actor-Mimic: it visits the states that the student gets
                itself into), `expert` (as in Policy Distillation), or the share of whole episodes in which
                experts act: a schedule (see `training`), or `{"type": "exponential", "initial": 1.0,
                "half_life": env steps or share of the run}` (as in DAgger). In evaluation the student acts.

        Returns:
            This config.
        """
        return self._set_given({"expert_paths": experts, "behaviour": behaviour})

    @override
    def known_keys(self) -> set[str]:
        """Adds `experts`, the key of dicts and files."""
        return super().known_keys() | {"experts"}

    @staticmethod
    @override
    def _translate_special_keys(key: str, warn_deprecated: bool = True) -> str:
        """RLlib's hook for keys that are no attributes."""
        if key == "experts":
            return "expert_paths"
        return str(MultiTaskConfig._translate_special_keys(key, warn_deprecated=warn_deprecated))

    # -- who acts, and what experts say --------------------------------------------------------------------

    @override
    def load_experts(self) -> ExpertBank:
        """Loads every task's expert; raises DistillError if one is missing or does not fit."""
        return ExpertBank.load(self.expert_paths, self.task_set)

    @override
    def make_behaviour(
        self,
        modules: Any,
        experts: Any,
        *,
        device: torch.device,
        expert_share: Callable[[], float],
        rng: np.random.Generator,
    ) -> Actor:
        """Lets expert and student act by turns, as `behaviour` says, or the student alone."""
        student = super().make_behaviour(modules, experts, device=device, expert_share=expert_share, rng=rng)
        if highest_share(self.behaviour) == 0 or self.in_evaluation:
            return student
        return TakingTurns(student, self.expert_actor(modules, experts, device), expert_share, rng)

    def expert_actor(self, modules: Any, experts: Any, device: torch.device) -> Actor:
        """The experts as an actor; arguments as of `make_behaviour`."""
        return ExpertActor(experts, self.label_columns)

    @override
    def make_labels(self, experts: Any) -> ExpertLabels | None:
        return ExpertLabels(experts, self.label_columns) if self.label_columns else None

    @property
    @override
    def label_columns(self) -> tuple[str, ...]:
        """The outputs and, where the loss reads them, the features, which take much more space."""
        return (EXPERT_OUTPUTS, EXPERT_FEATURES) if self.wants_expert_features else (EXPERT_OUTPUTS,)

    @property
    def wants_expert_features(self) -> bool:
        """Whether the loss reads the experts' features."""
        return False

    @override
    def expert_share_at(self, env_steps: int, progress: float) -> float:
        return expert_share(self.behaviour, Elapsed(env_steps, progress))

    @property
    @override
    def schedules(self) -> dict[str, Any]:
        """Adds `behaviour`; an exponential one is by shares of the run if its half-life is."""
        behaviour = self.behaviour
        if isinstance(behaviour, Mapping):
            behaviour = [[behaviour.get("half_life", 0), 0.0]]
        return {**super().schedules, "behaviour": behaviour}

    def tau_of(self, task: str) -> float:
        """Temperature tau of a task."""
        return coefficient_of(self.tau, task)

    @override
    def _module_of_tasks(self, tasks: list[str]) -> dict[str, str]:
        """The student acts for all tasks."""
        return dict.fromkeys(tasks, STUDENT)

    # -- checks --------------------------------------------------------------------------------------------

    @override
    def validate(self) -> None:
        """Checks every value, and that every expert can be loaded."""
        check_behaviour(self.behaviour)
        check_coefficient("tau", self.tau, self.task_set, above=0)
        if isinstance(self.expert_paths, Mapping):
            self.expert_paths = {task: absolute_path(path) for task, path in self.expert_paths.items()}
        super().validate()
        self.check_experts()

    def check_experts(self) -> None:
        """Raises DistillError unless every expert can be loaded."""
        self.load_experts()


class StudentAlgorithm(MultiTaskAlgorithm):
    """Base of algorithms with a student, which every evaluation compares with the experts."""

    config: ExpertsMixin

    @cached_property
    def returns_of_files(self) -> dict[str, float]:
        """Task -> its expert's mean return, where the expert's file tells it."""
        infos = {task: expert.info for task, expert in self.config.load_experts().items()}
        return {
            task: float(info.expected_return["mean"]) for task, info in infos.items() if info.expected_return
        }

    @override
    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Adds `student_expert_ratio/<task>`, the student's mean return divided by the expert's.

        It is negative while the student's return is (as in Pong), so don't average it over tasks; `rllib
        evaluate` compares with random play too. An expert whose return is unknown, or not above 0, has no
        ratio: it would grow as the student gets worse.
        """
        results = super().evaluate(*args, **kwargs)
        played = results.setdefault(ENV_RUNNER_RESULTS, {})
        means = played.get(EPISODE_AGENT_RETURN_MEAN, {})
        if modules := self.config.expert_modules:
            evaluated = played.get(EPISODE_MODULE_RETURN_MEAN, {})
            expected = {task: evaluated[module] for task, module in modules.items() if module in evaluated}
        else:
            expected = self.returns_of_files
        played[STUDENT_EXPERT_RATIO] = {
            task: float(means[task]) / expected[task]
            for task in means
            if task in expected and expected[task] > 0
        }
        return results


@torch.no_grad()
def greedy_agreement(batch: Batch, outputs: torch.Tensor) -> torch.Tensor:
    """Whether the student's and the expert's best legal actions are the same, `(N, T, B)` bool."""
    legal = batch.legal_of(outputs)
    expert = only_legal(batch.columns[EXPERT_OUTPUTS], legal).argmax(-1)
    return expert == only_legal(outputs, legal).argmax(-1)


def _check_exponential(behaviour: Mapping[str, Any]) -> None:
    if behaviour.get("type") != "exponential":
        raise DistillError(f"behaviour is {dict(behaviour)!r}; it must be {_FORMS}.")
    for key in behaviour:
        if key not in _EXPONENTIAL:
            raise DistillError(f"Unknown key {key!r} of behaviour. {nearest(str(key), _EXPONENTIAL)}")
    schedule = {**_EXPONENTIAL, **behaviour}
    check_number("initial of behaviour", schedule["initial"], least=0, most=1)
    check_position("half_life of behaviour", schedule["half_life"], above=0)
