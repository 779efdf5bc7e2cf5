"""The settings that all our algorithms share: tasks, networks, optimisation, exploration."""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from inspect import signature
from typing import Any, Literal, Self

import numpy as np
import torch
from gymnasium.spaces import Discrete
from ray import cloudpickle
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.from_config import NotProvided
from ray.tune.result import STDERR_FILE, STDOUT_FILE, TRIAL_INFO
from ray.util import log_once
from typing_extensions import override

from rllib_distill.core.optimizers import check_gradient_steps, check_module_overrides, check_optimizer
from rllib_distill.core.rl_module import acting_forward
from rllib_distill.core.schedules import (
    Elapsed,
    Schedule,
    check_schedule,
    check_stop,
    is_by_progress,
    value_at,
)
from rllib_distill.env_runner.actors import Actor, ExpertLabels, JointActor, NetworkActor
from rllib_distill.env_runner.multi_task_env_runner import MultiTaskEnvRunner
from rllib_distill.env_runner.task_envs import POLICY
from rllib_distill.errors import DistillError, check_bool, check_choice, check_number, nearest
from rllib_distill.networks import Network, build_network
from rllib_distill.tasks import SharedSpaces, TaskSet
from rllib_distill.tasks.multi_task_env import MultiTaskEnv

_BATCH_SIZE = "train_batch_size_per_learner"
"""A property of RLlib's configs, so not among their `vars`."""

_SPECIAL_KEYS = frozenset(("multiagent", _BATCH_SIZE, TRIAL_INFO, STDOUT_FILE, STDERR_FILE))
"""Keys of dicts, RLlib's and Tune's, that are no attributes of a config."""

_STEP_SETTINGS = ("lr", "optimizer", "grad_clip", "grad_clip_by")
"""Settings of gradient steps, which each module may have of its own."""


def default_network(observation_shape: tuple[int, ...]) -> Mapping[str, Any]:
    """The network's config where the user gives none."""
    if len(observation_shape) != 3:
        return {"type": "mlp"}
    return {"type": "nature_cnn" if min(observation_shape[:2]) >= 36 else "minatar_cnn"}


class ModuleOf:
    """A policy mapping function that can be pickled and compared: task name -> module id."""

    def __init__(self, module_of: Mapping[str, str]):
        """Takes task name -> module id."""
        self.module_of = dict(module_of)

    def __call__(self, agent_id: str, episode: Any = None, **_: Any) -> str:
        """The module id of a task, whose name is the agent id (the signature is RLlib's)."""
        return self.module_of[agent_id]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ModuleOf) and other.module_of == self.module_of

    __hash__ = None  # type: ignore[assignment]  # mutable


class MultiTaskConfig(AlgorithmConfig):
    """Base of our configs. Tasks are RLlib agents: agent id = task name, policy mapping = task -> module.

    Every key of a dict or YAML file is checked: an unknown one is an error that names the nearest known.
    """

    loss_settings: tuple[str, ...] = ()
    """Settings of the loss that may differ from module to module."""

    per_task_settings: tuple[str, ...] = ()
    """Settings that take one value per task and cannot be set by RLlib's overrides per module."""

    renamed_keys: Mapping[str, str] = {
        "replay_ratio": "training_intensity",
        "num_steps_per_task_before_learning": "num_steps_sampled_before_learning_starts",
    }
    """Former name of a key -> its present name, for the error message."""

    def __init__(self, algo_class: type | None = None):
        """Sets the defaults."""
        super().__init__(algo_class=algo_class)
        self.tasks: Mapping[str, Any] = {}
        self.num_envs_per_task = 8
        self.network: Mapping[str, Any] | None = None  # by the observations, see `default_network`
        self.heads: Literal["shared", "per_task"] = "shared"
        self.mixed_precision = False
        self.tune_process = True
        # Optimisation.
        self.optimizer = {"type": "adam"}
        self.lr = 0.00025
        self.gamma = 0.99
        self.stop: Mapping[str, float] | None = None
        # Acting.
        self.epsilon: Schedule = 0.1
        self.evaluation_epsilon = 0.01
        # RLlib's own, with values that fit the columnar data path.
        self.rollout_fragment_length = 32  # time steps of every environment per sample()
        self.env_runner_cls = MultiTaskEnvRunner
        self.torch_compile_worker_dynamo_backend = "inductor"  # RLlib's "onnxrt" is another package
        self.disable_env_checking = True  # ours are vector envs of single tasks
        self.max_requests_in_flight_per_env_runner = 2  # a runner never waits for the driver
        self.evaluation_duration = 100  # episodes of every task
        self.create_local_env_runner = True
        self.min_time_s_per_iteration = 1

    @override
    def training(
        self,
        *,
        network: Mapping[str, Any] | None = NotProvided,
        mixed_precision: bool = NotProvided,
        epsilon: Schedule = NotProvided,
        stop: Mapping[str, float] | None = NotProvided,
        tune_process: bool = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets the training related configuration.

        A setting that is a schedule takes a number; `[[env steps of all tasks together, value], ...]`; or
        `[["0%", value], ["100%", value]]`, by the share of the run that is done. Linear in between.

        Args:
            network: `{"type": "nature_cnn" | "minatar_cnn" | "mlp" | ..., **options}`, see
                `rllib_distill.networks`; None (default) chooses by the observations: nature_cnn for images
                of at least 36 pixels, minatar_cnn for smaller ones, mlp for all else.
            mixed_precision: Whether torsos compute in bfloat16 (default False), which is faster on a GPU and
                on processors with AMX; weights, outputs and losses stay float32.
            epsilon: Probability of a random action while training, a schedule (default 0.1).
            stop: When the run ends, in Tune's form: result key -> value, e.g.
                `{"num_env_steps_sampled_lifetime": 1_000_000}`. The first criterion that is met ends the run
                (its result is `done`); the one that is furthest along tells what share of the run is done.
                `rllib train` takes it from the experiment. None (default) leaves the end open.
            tune_process: Whether a process is set up for speed when its first env runner or learner is built
                (default True): glibc keeps freed memory for the next arrays, torch does not fill new
                tensors, torch.compile may compile a function for many networks. With `num_env_runners` or
                `num_learners` 0, that is the driver's own process.
            kwargs: RLlib's own settings, such as `lr` (a schedule), `gamma`, `grad_clip`, `optimizer`
                (`{"type": "adam" | "rmsprop" | "sgd", **options of torch's}`).

        Returns:
            This config.

        Raises:
            DistillError: There is no such setting.
        """
        for name in kwargs:
            if name not in signature(AlgorithmConfig.training).parameters:
                raise self._unknown_key(name)
        super().training(**kwargs)
        return self._set_given(
            {
                "network": network,
                "mixed_precision": mixed_precision,
                "epsilon": epsilon,
                "stop": stop,
                "tune_process": tune_process,
            }
        )

    @override
    def evaluation(self, *, evaluation_epsilon: float = NotProvided, **kwargs: Any) -> Self:
        """Sets the evaluation configuration.

        Args:
            evaluation_epsilon: Probability of a random action in evaluation (default 0.01; 0 for Distral
                and SoftQDistral, whose policies are stochastic).
            kwargs: RLlib's own settings. `evaluation_duration` counts episodes per task or, with the unit
                `timesteps`, steps of all tasks together, as in the papers' epochs of 125,000 steps per game.
                Episodes that the end of an epoch cuts off do not count; they are few in one environment per
                task (`evaluation_config={"num_envs_per_task": 1}`).

        Returns:
            This config.
        """
        super().evaluation(**kwargs)
        return self._set_given({"evaluation_epsilon": evaluation_epsilon})

    def _set_given(self, given: Mapping[str, Any]) -> Self:
        """Sets the settings that a method was given, and leaves the others as they are."""
        for name, value in given.items():
            if value is not NotProvided:
                setattr(self, name, value)
        return self

    # -- tasks and their modules ---------------------------------------------------------------------------

    def multi_task(
        self, *, tasks: Mapping[str, Any] = NotProvided, num_envs_per_task: int = NotProvided
    ) -> Self:
        """Sets the tasks; fills `environment` and `multi_agent` so that stock algorithms can play them too.

        Args:
            tasks: Task name -> a gymnasium id, a creator, a class, or a mapping with `env`, `env_config`,
                `wrappers` (callables or dotted names) and `max_episode_steps`.
            num_envs_per_task: Environments of each task per env runner, stepped side by side
                (default 8; 16 for Distral, 10 for SoftQDistral).

        Returns:
            This config.
        """
        if tasks is not NotProvided:
            self.tasks = tasks
            self.environment(env=MultiTaskEnv)
            self.env_config = {"tasks": tasks}  # RLlib's method would merge them into the user's earlier ones
            self._map_tasks()
        if num_envs_per_task is not NotProvided:
            self.num_envs_per_task = num_envs_per_task
        return self

    @property
    def task_set(self) -> TaskSet:
        """The tasks with their spaces; configs with equal tasks share one object."""
        return _task_set(cloudpickle.dumps(self.tasks))

    @property
    def expert_modules(self) -> Mapping[str, str]:
        """Task -> id of the module that is its expert and still learns; empty where experts are files."""
        return {}

    @property
    def other_modules(self) -> tuple[str, ...]:
        """Ids of the modules that learn but act for no task in training."""
        return tuple(self.expert_modules.values())

    def tasks_of_module(self, module_id: str) -> tuple[str, ...]:
        """Names of the tasks that a module acts for, or is the learning expert of."""
        own = tuple(task for task, module in self.expert_modules.items() if module == module_id)
        return own or tuple(task for task in self.tasks if self.policy_mapping_fn(task, None) == module_id)

    def module_spaces(self, module_id: str) -> SharedSpaces:
        """The common spaces of the module's tasks; with heads per task, action n is each task's n-th."""
        tasks = TaskSet({task: self.task_set[task] for task in self.tasks_of_module(module_id)})
        return tasks.shared(own_actions=self.heads == "per_task")

    @override
    def get_multi_rl_module_spec(
        self,
        *,
        env: Any = None,
        spaces: Any = None,
        inference_only: bool = False,
        **_: Any,
    ) -> MultiRLModuleSpec:
        """Makes a spec per module from its tasks' spaces, for which no environment is needed."""
        specs = {}
        for module_id in self.policies:
            shared = self.module_spaces(module_id)
            specs[module_id] = RLModuleSpec(
                module_class=self.module_class_of(module_id),
                observation_space=shared.observation_space,
                action_space=Discrete(shared.num_actions),
                inference_only=inference_only,
                model_config=self.model_config_of_module(module_id),
            )
        return MultiRLModuleSpec(rl_module_specs=specs)

    def module_class_of(self, module_id: str) -> type:
        """The RLModule class of a module."""
        module_class: type = self.get_default_rl_module_spec().module_class
        return module_class

    def model_config_of_module(self, module_id: str) -> dict[str, Any]:
        """The module's `model_config`; `heads` is task -> number of actions, or None for one shared head."""
        shape = self.module_spaces(module_id).observation_space.shape
        network = default_network(shape) if self.network is None else self.network
        tasks = self.tasks_of_module(module_id)
        heads = None
        if self.heads == "per_task" and len(tasks) > 1:
            heads = {task: self.task_set[task].num_actions for task in tasks}
        return {"network": network, "heads": heads, "mixed_precision": self.mixed_precision}

    def build_network_of(self, module_id: str) -> Network:
        """The module's network; raises DistillError where it cannot take what its tasks observe."""
        spaces, model = self.module_spaces(module_id), self.model_config_of_module(module_id)
        return build_network(
            model["network"],
            spaces.observation_space.shape,
            model["heads"] or spaces.num_actions,
            num_values=model.get("num_values", 0),
        )

    def _map_tasks(self) -> None:
        """Tells RLlib which module acts for a task; call it where that changes."""
        names = list(self.tasks) if isinstance(self.tasks, Mapping) else []
        module_of = self._module_of_tasks(names)
        modules = dict.fromkeys([*module_of.values(), *self.other_modules])
        self.multi_agent(policies=list(modules), policy_mapping_fn=ModuleOf(module_of))

    def _module_of_tasks(self, tasks: list[str]) -> dict[str, str]:
        """Task -> module id; one module per task unless a subclass says otherwise."""
        return {task: task for task in tasks}

    # -- who plays -----------------------------------------------------------------------------------------

    def load_experts(self) -> Any:
        """The experts that label and may act, or None."""
        return None

    def make_behaviour(
        self,
        modules: Any,
        experts: Any,
        *,
        device: torch.device,
        expert_share: Callable[[], float],
        rng: np.random.Generator,
    ) -> Actor:
        """Makes the actor of training.

        Args:
            modules: Module id -> RLModule, a MultiRLModule.
            experts: The result of `load_experts`.
            device: The modules' device.
            expert_share: Returns the share of episodes in which experts act now; 0 in evaluation.
            rng: Random numbers that decide who acts in an episode.
        """
        draws = self.samples_actions and self.explore and not self.in_evaluation
        return self.modules_actor(modules, self.acting_modules, device, draws=draws)

    def make_evaluated_policies(self, modules: Any, device: torch.device) -> dict[str, Actor]:
        """Makes the actors of evaluation, by name; the results' main keys have the first one's scores."""
        return {POLICY: self.modules_actor(modules, self.acting_modules, device)}

    def make_labels(self, experts: Any) -> ExpertLabels | None:
        """Makes what adds experts' labels to fragments, or None."""
        return None

    @property
    def acting_modules(self) -> tuple[str, ...]:
        """Ids of the modules that act for the tasks."""
        return tuple(dict.fromkeys(self.policy_mapping_fn(task, None) for task in self.tasks))

    def modules_actor(
        self, modules: Any, module_ids: Iterable[str], device: torch.device, *, draws: bool = False
    ) -> Actor:
        """Makes an actor of some modules, each acting for its tasks; `draws` as in `NetworkActor`."""
        return JointActor(
            {
                self.tasks_of_module(module_id): NetworkActor(
                    acting_forward(modules[module_id]),
                    self.module_spaces(module_id),
                    state_size=modules[module_id].network.state_size,
                    device=device,
                    draws=draws,
                )
                for module_id in module_ids
            }
        )

    # -- what env runners, learners and checkpoints ask ----------------------------------------------------

    def checkpoint_state(self) -> dict[str, Any]:
        """The config's state, as a checkpoint keeps it."""
        state: dict[str, Any] = self.get_state()
        return state

    def epsilon_at(self, env_steps: int, progress: float) -> float:
        """Epsilon after `env_steps` of all tasks together, when the share `progress` of the run is done."""
        return value_at(self.epsilon, Elapsed(env_steps, progress))

    def expert_share_at(self, env_steps: int, progress: float) -> float:
        """Share of the training episodes in which experts act; arguments as in `epsilon_at`."""
        return 0.0

    @property
    def schedules(self) -> dict[str, Any]:
        """Name -> value of every setting that may be a schedule."""
        of_modules = {
            f"algorithm_config_overrides_per_module of module {module_id!r}: lr": settings["lr"]
            for module_id, settings in self.algorithm_config_overrides_per_module.items()
            if "lr" in settings
        }
        return {"lr": self.lr, **of_modules, "epsilon": self.epsilon}

    @property
    def by_progress(self) -> list[str]:
        """Names of the settings that change by shares of the run."""
        return [name for name, schedule in self.schedules.items() if is_by_progress(schedule)]

    @property
    def is_recurrent(self) -> bool:
        """Whether networks have an LSTM."""
        return isinstance(self.network, Mapping) and self.network.get("lstm") is not None

    @property
    def learns_on_policy(self) -> bool:
        """Whether learners use each trajectory once, as it comes, instead of replay buffers."""
        return False

    @property
    def samples_actions(self) -> bool:
        """Whether training draws actions from the policy's softmax, instead of acting epsilon-greedily."""
        return self.learns_on_policy

    @property
    def shared_spaces(self) -> SharedSpaces:
        """The common spaces of all tasks."""
        return self.task_set.shared(own_actions=self.heads == "per_task")

    @property
    def evaluates_distilled(self) -> bool:
        """Whether evaluation also plays a distilled policy on every task."""
        return False

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The columns of experts' labels (outputs, features) that fragments get."""
        return ()

    # -- keys of dicts and files ---------------------------------------------------------------------------

    def known_keys(self) -> set[str]:
        """The keys that a dict or a file may have."""
        return {_BATCH_SIZE, *(key for key in vars(self) if not key.startswith("_"))}

    @override
    def update_from_dict(self, config_dict: Mapping[str, Any]) -> Self:
        """Takes settings from a dict; an unknown key is an error, and `tasks` sets up the modules too."""
        for key in config_dict:
            if self._translate_special_keys(key, warn_deprecated=False) not in {*vars(self), *_SPECIAL_KEYS}:
                raise self._unknown_key(key)
        if config_dict.get("enable_rl_module_and_learner") is False:
            raise DistillError(
                "enable_rl_module_and_learner is False; this package runs on RLlib's new API stack: "
                "remove the key."
            )
        super().update_from_dict(dict(config_dict))
        if "tasks" in config_dict:
            self.multi_task(tasks=config_dict["tasks"])
        elif self.tasks:
            self._map_tasks()
        return self

    def _unknown_key(self, key: str) -> DistillError:
        name = type(self).__name__.removesuffix("Config")
        if (new := self.renamed_keys.get(key)) in self.known_keys():
            return DistillError(f"Unknown key {key!r} in the config of {name}: it is called {new!r} now.")
        return DistillError(
            f"Unknown key {key!r} in the config of {name}. "
            f"{nearest(key, self.known_keys(), list_known=False)}"
        )

    # -- checks --------------------------------------------------------------------------------------------

    @override
    def validate(self) -> None:
        """Checks every value before anything starts.

        Raises:
            DistillError: A value is wrong, or values exclude each other.
        """
        _ = self.task_set  # raises what is wrong with the tasks
        self._check_values()
        self._check_networks()
        self._check_whole_numbers()
        self._check_unused()
        steps = {name: getattr(self, name) for name in _STEP_SETTINGS}
        check_gradient_steps(**steps)
        check_module_overrides(
            self.algorithm_config_overrides_per_module,
            self.policies,
            steps,
            of_losses=self.loss_settings,
            per_task=self.per_task_settings,
        )
        check_stop(self.stop, self.by_progress)
        log_once(f"{self.algo_class.__name__}_on_new_api_stack")  # RLlib's warning that this is the new stack
        super().validate()

    def check_counts(self, names: Iterable[str]) -> None:
        """Raises DistillError unless the settings of these names are integers of at least 1."""
        for name in names:
            check_number(name, getattr(self, name), least=1, integer=True)

    def check_draws(self) -> None:
        """Raises DistillError if training is greedy, which would never show what other actions are worth."""
        check_bool("explore", self.explore)
        if not self.explore and not self.in_evaluation:
            raise DistillError(
                "explore is False; training needs actions that are drawn from the policies: leave it True. "
                "For greedy actions in evaluation set evaluation_config: {explore: false}."
            )

    def check_unchanged(self, names: Iterable[str], why: str) -> None:
        """Raises DistillError if a setting that has no effect here differs from its default.

        Args:
            names: Names of the settings.
            why: Why they have none, as the end of the message "n_step is 3, ...".
        """
        default = type(self)()
        for name in names:
            value = getattr(self, name)
            if value != getattr(default, name):
                raise DistillError(f"{name} is {value!r}, {why}: remove it.")

    def _check_values(self) -> None:
        """Raises DistillError unless numbers and schedules are within their bounds."""
        check_number("gamma", self.gamma, least=0, most=1)
        check_schedule("lr", self.lr, least=0)
        check_schedule("epsilon", self.epsilon, least=0, most=1)
        check_number("evaluation_epsilon", self.evaluation_epsilon, least=0, most=1)
        check_optimizer(self.optimizer)
        check_choice("heads", self.heads, ("shared", "per_task"))
        check_bool("mixed_precision", self.mixed_precision)
        check_bool("tune_process", self.tune_process)

    def _check_networks(self) -> None:
        """Raises DistillError unless each module's network can take what all its tasks observe."""
        for module_id in self.policies:
            with torch.device("meta"):
                self.build_network_of(module_id)

    def _check_whole_numbers(self) -> None:
        """Raises DistillError unless all counts are integers within their bounds."""
        self.check_counts(
            ("num_envs_per_task", "rollout_fragment_length", "max_requests_in_flight_per_env_runner")
        )
        for name in ("num_env_runners", "num_learners"):
            check_number(name, getattr(self, name), least=0, integer=True)

    def _check_unused(self) -> None:
        """Raises DistillError if a setting of RLlib's is used that one of ours replaces."""
        if self._model_config:
            raise DistillError(
                f"model_config is {self._model_config!r}; our networks are described by network: leave "
                "model_config out, and set e.g. network: {type: mlp, hiddens: [64, 64]}."
            )
        if self.num_envs_per_env_runner != 1:
            raise DistillError(
                f"num_envs_per_env_runner is {self.num_envs_per_env_runner!r}; env runners have "
                f"num_envs_per_task ({self.num_envs_per_task}) environments of each task: set that instead."
            )

    @override
    def _validate_new_api_stack_settings(self) -> None:
        """Hides our learning rate, which may be by progress and is checked already, from RLlib's check."""
        lr, self.lr = self.lr, value_at(self.lr, Elapsed())
        try:
            super()._validate_new_api_stack_settings()
        finally:
            self.lr = lr


@lru_cache(maxsize=16)
def _task_set(pickled_tasks: bytes) -> TaskSet:
    return TaskSet.from_config(cloudpickle.loads(pickled_tasks))
