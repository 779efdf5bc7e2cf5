"""What all our algorithms are configured with: tasks, networks, replay, exploration."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Self

from gymnasium.spaces import Discrete
from ray import cloudpickle
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.from_config import NotProvided
from ray.tune.result import STDERR_FILE, STDOUT_FILE, TRIAL_INFO
from ray.util import log_once

from rllib_distill.algorithms.common.module_of import ModuleOf
from rllib_distill.algorithms.common.multi_task_checks import check_networks, check_sizes, check_values
from rllib_distill.algorithms.common.settings import (
    Schedule,
    value_at,
)
from rllib_distill.errors import DistillError, nearest
from rllib_distill.sampling import MultiTaskEnvRunner
from rllib_distill.tasks import SharedSpaces, TaskSet
from rllib_distill.tasks.multi_task_env import MultiTaskEnv

_BATCH_SIZE = "train_batch_size_per_learner"  # a property of RLlib's configs, so not among their `vars`
_SPECIAL_KEYS = frozenset(
    ("multiagent", _BATCH_SIZE, TRIAL_INFO, STDOUT_FILE, STDERR_FILE)
)  # RLlib's and Tune's


class MultiTaskConfig(AlgorithmConfig):
    """Base of our configs. Tasks are RLlib agents: agent id = task name, policy mapping = task -> module.

    Every key of a dict or YAML file is checked: an unknown one is an error that names the nearest known.
    """

    rows_per_task = 32
    """Share of each task in a minibatch where `train_batch_size_per_learner` is not given."""

    def __init__(self, algo_class: type | None = None):
        """Sets the defaults."""
        super().__init__(algo_class=algo_class)
        # Tasks.
        self.tasks: Mapping[str, Any] = {}
        self.num_envs_per_task = 8
        # Networks and optimisation.
        self.network: Mapping[str, Any] | None = None  # by the observations, see `_default_network`
        self.mixed_precision = False
        self.optimizer = {"type": "adam"}
        self.lr = 0.00025
        self.gamma = 0.99
        self.train_batch_size_per_learner: int | None = None  # `rows_per_task` times the number of tasks
        # Replay.
        self.replay_capacity = 100_000  # transitions per task
        self.replay_ratio = 2.0  # sampled rows per env step
        self.num_steps_per_task_before_learning = 1_000
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

    def multi_task(
        self, *, tasks: Mapping[str, Any] = NotProvided, num_envs_per_task: int = NotProvided
    ) -> Self:
        """Sets the tasks; fills `environment` and `multi_agent` so that stock algorithms can play them too.

        Args:
            tasks: Task name -> a gymnasium id, a creator, a class, or a mapping with `env`, `env_config`,
                `wrappers` (callables or dotted names) and `max_episode_steps`.
            num_envs_per_task: Environments of each task per env runner, stepped side by side (default 8).

        Returns:
            This config.
        """
        if tasks is not NotProvided:
            self.tasks = tasks
            names = list(tasks) if isinstance(tasks, Mapping) else []
            module_of = self._module_of_tasks(names)
            self.environment(env=MultiTaskEnv)
            self.env_config = {"tasks": tasks}  # RLlib's method would merge them into the user's earlier ones
            self.multi_agent(
                policies=list(dict.fromkeys(module_of.values())), policy_mapping_fn=ModuleOf(module_of)
            )
        if num_envs_per_task is not NotProvided:
            self.num_envs_per_task = num_envs_per_task
        return self

    def training(
        self,
        *,
        network: Mapping[str, Any] | None = NotProvided,
        mixed_precision: bool = NotProvided,
        replay_capacity: int = NotProvided,
        replay_ratio: float = NotProvided,
        num_steps_per_task_before_learning: int = NotProvided,
        epsilon: Schedule = NotProvided,
        **kwargs: Any,
    ) -> Self:
        """Sets the training related configuration.

        Args:
            network: `{"type": "nature_cnn" | "minatar_cnn" | "mlp" | ..., **options}`, see
                `rllib_distill.networks`; None (default): by the observations, nature_cnn for images of at
                least 36 pixels, minatar_cnn for smaller ones, else mlp.
            mixed_precision: Whether networks compute in bfloat16 where they learn and act (default False);
                weights, outputs and losses stay float32. Faster on a GPU and on processors with AMX.
            replay_capacity: Transitions per task in all replay memories together (default 100,000).
            replay_ratio: Rows sampled per env step (default 2). More learns more from each step and takes
                longer per step; DQN's classic 32 rows every 4 steps is 8.
            num_steps_per_task_before_learning: Env steps that every replay memory must hold of every task
                before the first update (default 1,000).
            epsilon: Probability of a random action while training: a number, or a schedule
                `[[env steps of all tasks together, epsilon], ...]`, linear in between (default 0.1).
            kwargs: RLlib's own: `lr`, `gamma`, `grad_clip`, `train_batch_size_per_learner` (rows of one
                minibatch of one learner, all tasks together; default: 32 of each), `optimizer`
                (`{"type": "adam" | "rmsprop", **options of torch's}`).

        Returns:
            This config.
        """
        super().training(**kwargs)
        return self._set_given(
            {
                "network": network,
                "mixed_precision": mixed_precision,
                "replay_capacity": replay_capacity,
                "replay_ratio": replay_ratio,
                "num_steps_per_task_before_learning": num_steps_per_task_before_learning,
                "epsilon": epsilon,
            }
        )

    def evaluation(self, *, evaluation_epsilon: float = NotProvided, **kwargs: Any) -> Self:
        """Sets the evaluation configuration.

        Args:
            evaluation_epsilon: Probability of a random action in evaluation (default 0.01).
            kwargs: RLlib's own; `evaluation_duration` counts episodes of every task, or with the unit
                `timesteps` steps of all tasks together: the papers' epochs of 125,000 steps per game. Of
                these, episodes count that end in time; play them in one environment per task
                (`evaluation_config={"num_envs_per_task": 1}`), as long episodes are cut off otherwise.

        Returns:
            This config.
        """
        super().evaluation(**kwargs)
        return self._set_given({"evaluation_epsilon": evaluation_epsilon})

    # -- tasks and modules ---------------------------------------------------------------------------------

    @property
    def task_set(self) -> TaskSet:
        """The tasks with their spaces; equal settings share one."""
        return _task_set(cloudpickle.dumps(self.tasks))

    def tasks_of_module(self, module_id: str) -> tuple[str, ...]:
        """Names of the tasks that a module acts for."""
        return tuple(task for task in self.tasks if self.policy_mapping_fn(task, None) == module_id)

    def module_spaces(self, module_id: str) -> SharedSpaces:
        """The common spaces of the tasks that a module acts for."""
        return TaskSet({task: self.task_set[task] for task in self.tasks_of_module(module_id)}).shared()

    def get_multi_rl_module_spec(
        self,
        *,
        env: Any = None,
        spaces: Any = None,
        inference_only: bool = False,
        **_: Any,
    ) -> MultiRLModuleSpec:
        """A spec per module, with the spaces of its tasks: no environment is needed (see RLlib)."""
        specs = {}
        for module_id in self.policies:
            shared = self.module_spaces(module_id)
            specs[module_id] = RLModuleSpec(
                module_class=self.get_default_rl_module_spec().module_class,
                observation_space=shared.observation_space,
                action_space=Discrete(shared.num_actions),
                inference_only=inference_only,
                model_config=self.model_config_of_module(module_id),
            )
        return MultiRLModuleSpec(rl_module_specs=specs)

    def model_config_of_module(self, module_id: str) -> dict[str, Any]:
        """What the module is built from."""
        shape = self.module_spaces(module_id).observation_space.shape
        network = _default_network(shape) if self.network is None else self.network
        return {"network": network, "mixed_precision": self.mixed_precision}

    def _module_of_tasks(self, tasks: list[str]) -> dict[str, str]:
        """Task -> module id; one module per task unless a subclass says otherwise."""
        return {task: task for task in tasks}

    # -- what env runners and learners ask -----------------------------------------------------------------

    def epsilon_at(self, env_steps: int) -> float:
        """Exploration after so many env steps of all tasks together."""
        return value_at(self.epsilon, env_steps)

    @property
    def behaviour_is_expert(self) -> bool:
        """Whether experts choose the training actions."""
        return False

    @property
    def label_columns(self) -> tuple[str, ...]:
        """Which of the experts' outputs and features go into fragments."""
        return ()

    def load_experts(self) -> Any:
        """The experts that label and may act, or None."""
        return None

    # -- checks --------------------------------------------------------------------------------------------

    def known_keys(self) -> set[str]:
        """Keys that a dict or a file may have, and that a message about an unknown one may name."""
        return {_BATCH_SIZE, *(key for key in vars(self) if not key.startswith("_"))}

    def update_from_dict(self, config_dict: Mapping[str, Any]) -> Self:
        """As RLlib's, but an unknown key is an error, and `tasks` sets up the modules too."""
        for key in config_dict:
            if self._translate_special_keys(key, warn_deprecated=False) not in {*vars(self), *_SPECIAL_KEYS}:
                raise DistillError(
                    f"Unknown key {key!r} in the config of {type(self).__name__.removesuffix('Config')}. "
                    f"{nearest(key, self.known_keys(), list_known=False)}"
                )
        if config_dict.get("enable_rl_module_and_learner") is False:
            raise DistillError(
                "enable_rl_module_and_learner is False; this package runs on RLlib's new API stack: "
                "remove the key."
            )
        super().update_from_dict(dict(config_dict))
        if "tasks" in config_dict:
            self.multi_task(tasks=config_dict["tasks"])
        return self

    def validate(self) -> None:
        """Checks every value before anything starts.

        Raises:
            DistillError: What is wrong, the value, what is allowed.
        """
        tasks = self.task_set  # raises what is wrong with the tasks
        if self._train_batch_size_per_learner is None:  # the property would fall back on `train_batch_size`
            self.train_batch_size_per_learner = self.rows_per_task * len(tasks)
        check_values(self)
        check_networks(self)
        check_sizes(self)
        log_once(f"{self.algo_class.__name__}_on_new_api_stack")  # RLlib's warning that this is the new stack
        super().validate()

    def _set_given(self, given: Mapping[str, Any]) -> Self:
        for name, value in given.items():
            if value is not NotProvided:
                setattr(self, name, value)
        return self


@lru_cache(maxsize=16)
def _task_set(pickled_tasks: bytes) -> TaskSet:
    return TaskSet.from_config(cloudpickle.loads(pickled_tasks))


def _default_network(observation_shape: tuple[int, ...]) -> Mapping[str, Any]:
    if len(observation_shape) != 3:
        return {"type": "mlp"}
    return {"type": "nature_cnn" if min(observation_shape[:2]) >= 36 else "minatar_cnn"}
