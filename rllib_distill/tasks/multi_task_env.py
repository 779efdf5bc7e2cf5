"""Tasks for RLlib's own algorithms: a multi-agent env that plays one task per episode."""

from collections.abc import Mapping
from typing import Any, TypeVar

from ray.rllib.env.multi_agent_env import MultiAgentEnv
from typing_extensions import override

from rllib_distill.errors import DistillError
from rllib_distill.tasks.task import TaskSet

Value = TypeVar("Value")


class MultiTaskEnv(MultiAgentEnv):
    """Plays one task per episode, with a single agent that has the task's name.

    So `policy_mapping_fn=lambda task, episode: task` gives every task a policy of its own, which any
    multi-agent algorithm of RLlib can train. Each agent has the spaces of its task.

    Example:
        >>> from ray.rllib.algorithms.ppo import PPOConfig
        >>> tasks = {"pole": "CartPole-v1", "acrobot": "Acrobot-v1"}
        >>> config = PPOConfig().environment(MultiTaskEnv, env_config={"tasks": tasks})
        >>> config = config.multi_agent(policies=set(tasks), policy_mapping_fn=lambda task, episode: task)
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Makes one environment per task.

        Args:
            config: `{"tasks": {name: value}}`, with values as in `TaskSpec.from_config`.

        Raises:
            DistillError: There are no tasks, or a task cannot be made.
        """
        if "tasks" not in config:
            raise DistillError("MultiTaskEnv has no tasks: pass env_config={'tasks': {name: env, ...}}.")
        tasks = TaskSet.from_config(config["tasks"])
        self._envs = {name: task.spec.make_env() for name, task in tasks.items()}
        self._seed: int | None = None
        self._seeds: dict[str, int] = {}  # seeds of the tasks that have had no episode since the last seed
        self._task = next(iter(tasks))
        self.possible_agents = list(tasks)
        self.agents = [self._task]
        self.observation_spaces = {name: env.observation_space for name, env in self._envs.items()}
        self.action_spaces = {name: env.action_space for name, env in self._envs.items()}
        super().__init__()

    @override
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Draws a task uniformly and starts an episode of it.

        Args:
            seed: Seeds the draw of tasks; the environment of task i is seeded with `seed + i` at its next
                episode. A seed equal to the last one is ignored: RLlib gives the same seed in every reset
                when it samples complete episodes, which would always draw the same task.
            options: Passed to the task's environment.
        """
        if seed is not None and seed != self._seed:
            super().reset(seed=seed)
            self._seed = seed
            self._seeds = {name: seed + i for i, name in enumerate(self.possible_agents)}
        self._task = self.possible_agents[self.np_random.integers(len(self.possible_agents))]
        self.agents = [self._task]
        env_seed = self._seeds.pop(self._task, None)
        observation, info = self._envs[self._task].reset(seed=env_seed, options=options)
        return self._by_task(observation), self._by_task(info)

    @override
    def step(
        self, action_dict: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, float], dict[str, bool], dict[str, bool], dict[str, Any]]:
        action = action_dict[self._task]
        observation, reward, terminated, truncated, info = self._envs[self._task].step(action)
        return (
            self._by_task(observation),
            self._by_task(float(reward)),
            {self._task: bool(terminated), "__all__": bool(terminated)},
            {self._task: bool(truncated), "__all__": bool(truncated)},
            self._by_task(info),
        )

    @override
    def render(self) -> Any:
        return self._envs[self._task].render()

    @override
    def close(self) -> None:
        for env in self._envs.values():
            env.close()

    def _by_task(self, value: Value) -> dict[str, Value]:
        return {self._task: value}
