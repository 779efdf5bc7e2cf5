"""Tasks, and the modules that act for them: which there are, their spaces, what they are built from."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal, Self

from gymnasium.spaces import Discrete
from ray import cloudpickle
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.from_config import NotProvided
from torch import nn

from rllib_distill.algorithms.common.module_of import ModuleOf
from rllib_distill.networks import build_network
from rllib_distill.tasks import SharedSpaces, TaskSet
from rllib_distill.tasks.multi_task_env import MultiTaskEnv


class TaskModules(AlgorithmConfig):
    """The half of a `MultiTaskConfig` that knows tasks and modules."""

    def __init__(self, algo_class: type | None = None):
        """Sets the defaults."""
        super().__init__(algo_class=algo_class)
        self.tasks: Mapping[str, Any] = {}
        self.num_envs_per_task = 8
        self.network: Mapping[str, Any] | None = None  # by the observations, see `default_network`
        self.heads: Literal["shared", "per_task"] = "shared"
        self.mixed_precision = False

    def multi_task(
        self, *, tasks: Mapping[str, Any] = NotProvided, num_envs_per_task: int = NotProvided
    ) -> Self:
        """Sets the tasks; fills `environment` and `multi_agent` so that stock algorithms can play them too.

        Args:
            tasks: Task name -> a gymnasium id, a creator, a class, or a mapping with `env`, `env_config`,
                `wrappers` (callables or dotted names) and `max_episode_steps`.
            num_envs_per_task: Environments of each task per env runner, stepped side by side
                (default 8; 16 of Distral, 10 of SoftQDistral).

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
        """The tasks with their spaces; equal settings share one."""
        return _task_set(cloudpickle.dumps(self.tasks))

    @property
    def expert_modules(self) -> Mapping[str, str]:
        """Task -> id of the module that is its expert and still learns; none where experts are files."""
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
        """The common spaces of the module's tasks; heads per task have each task's own actions."""
        tasks = TaskSet({task: self.task_set[task] for task in self.tasks_of_module(module_id)})
        return tasks.shared(own_actions=self.heads == "per_task")

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
                module_class=self.module_class_of(module_id),
                observation_space=shared.observation_space,
                action_space=Discrete(shared.num_actions),
                inference_only=inference_only,
                model_config=self.model_config_of_module(module_id),
            )
        return MultiRLModuleSpec(rl_module_specs=specs)

    def module_class_of(self, module_id: str) -> type:
        """The RLModule's class."""
        module_class: type = self.get_default_rl_module_spec().module_class
        return module_class

    def model_config_of_module(self, module_id: str) -> dict[str, Any]:
        """What the module is built from; `heads` has a task's number of actions each, None: one for all."""
        shape = self.module_spaces(module_id).observation_space.shape
        network = default_network(shape) if self.network is None else self.network
        tasks = self.tasks_of_module(module_id)
        heads = None
        if self.heads == "per_task" and len(tasks) > 1:
            heads = {task: self.task_set[task].num_actions for task in tasks}
        return {"network": network, "heads": heads, "mixed_precision": self.mixed_precision}

    def build_network_of(self, module_id: str) -> nn.Module:
        """The module's network; raises DistillError where it cannot take what its tasks observe."""
        spaces, model = self.module_spaces(module_id), self.model_config_of_module(module_id)
        return build_network(
            model["network"], spaces.observation_space.shape, model["heads"] or spaces.num_actions
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


@lru_cache(maxsize=16)
def _task_set(pickled_tasks: bytes) -> TaskSet:
    return TaskSet.from_config(cloudpickle.loads(pickled_tasks))


def default_network(observation_shape: tuple[int, ...]) -> Mapping[str, Any]:
    """The network where the config names none."""
    if len(observation_shape) != 3:
        return {"type": "mlp"}
    return {"type": "nature_cnn" if min(observation_shape[:2]) >= 36 else "minatar_cnn"}
