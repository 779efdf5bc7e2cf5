"""An RLlib EnvRunner that steps all tasks side by side and returns columns, not lists of episodes."""

from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from ray.rllib.callbacks.utils import make_callback
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModule
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.utils.framework import get_device
from ray.rllib.utils.metrics import SAMPLE_TIMER

from rllib_distill.sampling.actors import Actor, ExpertActor, JointActor, ModuleActor, RandomActor
from rllib_distill.sampling.episode_metrics import EpisodeMetrics
from rllib_distill.sampling.fragment import EpisodeReturns, Fragment
from rllib_distill.sampling.memory_habits import keep_large_tensors_cheap
from rllib_distill.sampling.play import EpochReturns, play_episodes, play_steps
from rllib_distill.sampling.runner_state import RunnerState
from rllib_distill.sampling.task_envs import TaskEnvs


class MultiTaskEnvRunner(RunnerState, EnvRunner):
    """Plays every task in a gymnasium vector env of its own, in lock step.

    Each step is one batched forward per acting module over the rows of all tasks mapped to it. `sample()`
    returns one `Fragment` per task, labelled by the task's expert where there are experts, so every learner
    that gets a sample sees every task. `sample(num_episodes=n)` plays n whole episodes of each task for their
    returns and records nothing else.

    Asks of its config, besides RLlib's own settings, what `MultiTaskConfig` has: `task_set`,
    `module_spaces(module_id)`, `tasks_of_module(module_id)`, `num_envs_per_task`, `epsilon_at(env_steps)`,
    `evaluation_epsilon`, `behaviour_is_expert`, `load_experts()` and `label_columns`.
    """

    def __init__(self, config: Any, **kwargs: Any):
        """Makes environments, modules and experts; see RLlib's EnvRunner for the arguments."""
        super().__init__(config=config, **kwargs)
        keep_large_tensors_cheap()
        self._callbacks = [cls() for cls in _as_list(self.config.callbacks_class)]
        self._rng = np.random.default_rng(self._seed)
        self._device = get_device(
            self.config, self.config.num_gpus_per_env_runner if self.worker_index else 0
        )
        self._tasks = self.config.task_set
        self._envs: dict[str, TaskEnvs] = {}
        self.module: MultiRLModule | None = None
        self._weights_seq_no = 0
        self._episodes = EpisodeMetrics(self.metrics, self.config)
        if self.worker_index or self.config.num_env_runners == 0:
            self.make_env()  # a local runner beside remote ones makes them when it is asked to play
        self.make_module()
        self._random_actor: Actor = RandomActor(
            {name: task.num_actions for name, task in self._tasks.items()}
        )
        self._module_actor = self._make_module_actor()
        self._expert_actor = ExpertActor(lambda task, obs: self.experts.label(task, obs)[0])

    # -- playing -------------------------------------------------------------------------------------------

    def sample(
        self,
        *,
        num_timesteps: int | None = None,
        num_episodes: int | None = None,
        explore: bool | None = None,
        random_actions: bool = False,
        force_reset: bool = False,
        **_: Any,
    ) -> list[Any]:
        """Plays.

        Args:
            num_timesteps: Env steps over all tasks, rounded up to whole rows; by default
                `rollout_fragment_length` rows of every environment.
            num_episodes: Instead, whole episodes per task, started anew and spread evenly over the task's
                environments (taking the first to finish would favour short ones).
            explore: Whether with the exploration epsilon (default: the config's `explore`, and not in
                evaluation) or with `evaluation_epsilon`.
            random_actions: Whether to act uniformly at random instead.
            force_reset: Whether to begin with new episodes.

        In evaluation, `num_timesteps` makes an epoch of new episodes, of which those count that end in time;
        with `evaluation_duration="auto"`, which asks for a bit at a time, episodes go on from call to call.

        Returns:
            A `Fragment` per task, or an `EpisodeReturns` per task.

        Raises:
            ValueError: If both amounts are given.
        """
        if num_timesteps is not None and num_episodes is not None:
            raise ValueError(
                f"Give either num_timesteps or num_episodes, not both: {num_timesteps=}, {num_episodes=}."
            )
        if not self._envs:
            self.make_env()
        if explore is None:
            explore = self.config.explore and not self.config.in_evaluation and num_episodes is None
        epsilon = self._epsilon(explore)
        with self.metrics.log_time(SAMPLE_TIMER):
            if num_episodes is not None:
                actor = self._random_actor if random_actions else self._module_actor
                samples: list[Any] = self._sample_episodes(num_episodes, epsilon, actor)
            elif num_timesteps is not None and self._plays_epochs:
                actor = self._random_actor if random_actions else self._module_actor
                samples = self._sample_epoch(num_timesteps, epsilon, actor)
            else:
                expert_acts = self.config.behaviour_is_expert and not self.config.in_evaluation
                actor = self._expert_actor if expert_acts else self._module_actor
                actor = self._random_actor if random_actions else actor
                samples = self._sample_fragments(self._num_rows(num_timesteps), epsilon, actor, force_reset)
        make_callback(
            "on_sample_end",
            callbacks_objects=self._callbacks,
            callbacks_functions=self.config.callbacks_on_sample_end,
            kwargs={"env_runner": self, "metrics_logger": self.metrics, "samples": samples},
        )
        return samples

    def _sample_fragments(
        self, steps: int, epsilon: float, actor: Actor, force_reset: bool
    ) -> list[Fragment]:
        if force_reset:
            self._reset_envs()
        fragments = {
            task: envs.new_fragment(task, self.worker_index or 0, steps) for task, envs in self._envs.items()
        }
        for t in range(steps):
            actions = actor(
                {task: envs.observations for task, envs in self._envs.items()}, epsilon, self._rng
            )
            for task, envs in self._envs.items():
                envs.send(actions[task])
            for task, envs in self._envs.items():
                for episode in envs.receive(fragments[task], t):
                    self._episodes.add(task, episode)
        for fragment in fragments.values():
            self._label(fragment)
        steps_of = {task: fragment.env_steps() for task, fragment in fragments.items()}
        self._episodes.count_steps(steps_of)
        # The driver's count of all runners comes once per iteration; epsilon's schedule can't wait for it.
        self.num_env_steps_sampled_lifetime += sum(steps_of.values()) * (self.config.num_env_runners or 1)
        return list(fragments.values())

    def _sample_episodes(self, num_episodes: int, epsilon: float, actor: Actor) -> list[EpisodeReturns]:
        self._reset_envs()
        episodes = play_episodes(
            self._envs, lambda observations: actor(observations, epsilon, self._rng), num_episodes
        )
        self._reset_envs()  # what is left of episodes played at another epsilon must not go on
        for task, finished in episodes.items():
            self._episodes.add_evaluation(task, finished)
        self._episodes.count_steps(
            {task: sum(e.length for e in finished) for task, finished in episodes.items()}
        )
        return [
            EpisodeReturns(task, tuple(e.episode_return for e in finished), tuple(e.length for e in finished))
            for task, finished in episodes.items()
        ]

    @property
    def _plays_epochs(self) -> bool:
        return bool(self.config.in_evaluation) and self.config.evaluation_duration != "auto"

    def _sample_epoch(self, num_timesteps: int, epsilon: float, actor: Actor) -> list[EpochReturns]:
        self._reset_envs()
        epochs = play_steps(
            self._envs,
            lambda observations: actor(observations, epsilon, self._rng),
            -(-num_timesteps // len(self._envs)),
        )
        self._reset_envs()
        for task, epoch in epochs.items():
            if epoch.finished:  # a piece of a game has no score
                self._episodes.add_evaluation(task, epoch.episodes)
        self._episodes.count_steps({task: epoch.steps for task, epoch in epochs.items()})
        return [epoch.returns(task) for task, epoch in epochs.items()]

    def _label(self, fragment: Fragment) -> None:
        if not self.config.label_columns or self.config.in_evaluation:
            return
        steps, num_envs = fragment.actions.shape
        observations = fragment.observations[:-1]
        observations = observations.reshape(steps * num_envs, *observations.shape[2:])
        labels = dict(
            zip(
                ("expert_outputs", "expert_features"),
                self.experts.label(fragment.task, observations),
                strict=True,
            )
        )
        fragment.labels = {
            name: labels[name].reshape(steps, num_envs, -1) for name in self.config.label_columns
        }

    def _epsilon(self, explore: bool) -> float:
        if not explore:
            return float(self.config.evaluation_epsilon)
        return float(self.config.epsilon_at(self.num_env_steps_sampled_lifetime))

    def _num_rows(self, num_timesteps: int | None) -> int:
        if num_timesteps is None:
            return int(self.config.get_rollout_fragment_length(self.worker_index or 0))
        return max(1, -(-num_timesteps // (len(self._envs) * int(self.config.num_envs_per_task))))

    # -- environments, modules, experts --------------------------------------------------------------------

    def make_env(self) -> None:
        """Makes (again) all tasks' vector envs; the next sample starts with new episodes."""
        self.stop()
        num_envs = self.config.num_envs_per_task
        num_threads = torch.get_num_threads()  # Ray tells a remote runner's torch how many cores are its own
        self._envs = {
            name: TaskEnvs(task.spec.make_vector_env(num_envs, num_threads))
            for name, task in self._tasks.items()
        }
        self.env = self._envs
        for i, envs in enumerate(self._envs.values()):
            seed = (
                None if self._seed is None else np.random.SeedSequence([self._seed, i]).generate_state(1)[0]
            )
            envs.reset(seed=None if seed is None else int(seed) % 2**31)

    @cached_property
    def experts(self) -> Any:
        """The experts that label and may act: frozen, in no state and no weight sync."""
        return self.config.load_experts()

    def make_module(self) -> None:
        """Builds the inference-only modules."""
        self.module = self.config.get_multi_rl_module_spec(inference_only=True).build()
        for module_id in self.module.keys():  # a MultiRLModule is no mapping
            self.module[module_id].to(self._device).eval()
            if self.config.torch_compile_worker:
                self.module[module_id].compile(self.config.get_torch_compile_worker_config())

    def _make_module_actor(self) -> Actor:
        module = cast(MultiRLModule, self.module)
        return JointActor(
            {
                self.config.tasks_of_module(module_id): ModuleActor(
                    _forward(module[module_id]),
                    self.config.module_spaces(module_id),
                    self.config.num_envs_per_task,
                    self._device,
                )
                for module_id in module.keys()  # a MultiRLModule is no mapping
                if self.config.tasks_of_module(module_id)
            }
        )

    def _reset_envs(self) -> None:
        for envs in self._envs.values():
            envs.reset()

    # -- RLlib's EnvRunner ---------------------------------------------------------------------------------

    def get_metrics(self) -> Any:
        """Reduced metrics of the episodes that ended and the steps made since the last call."""
        self._episodes.log()
        return self.metrics.reduce()

    def assert_healthy(self) -> None:
        """See RLlib."""
        assert self.module is not None

    def stop(self) -> None:
        """Closes the environments."""
        for envs in self._envs.values():
            envs.env.close()
        self._envs = {}


def _forward(module: Any) -> Any:
    def outputs(observations: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = module.forward_inference({Columns.OBS: observations})[
            Columns.ACTION_DIST_INPUTS
        ]
        return result

    return outputs


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
