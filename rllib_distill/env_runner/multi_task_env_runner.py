"""An RLlib EnvRunner that steps all tasks side by side and returns columns, not lists of episodes."""

from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Any, cast

import numpy as np
import ray
from gymnasium.spaces import Discrete
from ray.rllib.callbacks.utils import make_callback
from ray.rllib.core import COMPONENT_RL_MODULE
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModule
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.utils.checkpoints import Checkpointable
from ray.rllib.utils.framework import get_device
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME, SAMPLE_TIMER, WEIGHTS_SEQ_NO
from typing_extensions import override

from rllib_distill.env_runner.actors import Acting, Actor, RandomActor
from rllib_distill.env_runner.episode_metrics import EpisodeMetrics
from rllib_distill.env_runner.play import EpochReturns, Play, Played, play_episodes, play_steps
from rllib_distill.env_runner.task_envs import EpisodeReturns, TaskEnvs, make_task_envs
from rllib_distill.replay.fragment import BY_EXPERT, Fragment
from rllib_distill.replay.host_buffers import tune_process


class MultiTaskEnvRunner(EnvRunner, Checkpointable):
    """Plays every task in a gymnasium vector env of its own, in lock step.

    Each step is one batched forward per acting module over the rows of all tasks mapped to it. `sample()`
    returns one `Fragment` per task, labelled by the task's expert where there are experts, so every learner
    that gets a sample sees every task. `sample(num_episodes=n)` plays n whole episodes of each task for their
    returns and records nothing else.

    Its config must have, besides RLlib's own settings, what `MultiTaskConfig` has: the tasks (`task_set`,
    `num_envs_per_task`), the numbers to explore by (`epsilon_at`, `evaluation_epsilon`, `expert_share_at`)
    and who plays (`load_experts`, `make_behaviour`, `make_evaluated_policies`, `make_labels`).
    """

    def __init__(self, config: Any, **kwargs: Any):
        """Makes environments and modules; see RLlib's EnvRunner for the arguments."""
        super().__init__(config=config, **kwargs)
        if self.config.tune_process:
            tune_process(compiles=self.config.torch_compile_worker)
        self._callbacks = [cls() for cls in _as_list(self.config.callbacks_class)]
        self._rng = np.random.default_rng(self._seed)
        self._behaviour_rng = self._rng.spawn(1)[0]  # so that its draws don't shift those of the exploration
        self._device = get_device(
            self.config, self.config.num_gpus_per_env_runner if self.worker_index else 0
        )
        self._tasks = self.config.task_set
        self._envs: dict[str, TaskEnvs] = {}
        self.module: MultiRLModule | None = None
        self._weights_seq_no = 0
        self.progress = 0.0  # the share of the run that is done, as the driver told last
        self._episodes = EpisodeMetrics(self.metrics, self.config)
        self.make_module()
        self._evaluated: dict[str, Actor] = self.config.make_evaluated_policies(self.module, self._device)
        if self.worker_index or self.config.num_env_runners == 0:
            self.make_env()  # a local runner beside remote ones makes them when it is asked to play

    # -- playing -------------------------------------------------------------------------------------------

    @override
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
        """Plays all tasks.

        Args:
            num_timesteps: Env steps over all tasks, rounded up to whole rows; by default
                `rollout_fragment_length` rows of every environment.
            num_episodes: Instead, whole episodes per task, started anew and spread evenly over the task's
                environments (taking the first to finish would favour short ones).
            explore: Whether to act with the exploration epsilon, not with `evaluation_epsilon`. By
                default the config's `explore`, and False in evaluation.
            random_actions: Whether to act uniformly at random instead.
            force_reset: Whether to begin with new episodes.

        In evaluation, `num_timesteps` is an epoch of new episodes, and those count that end in time; with
        `evaluation_duration="auto"`, which asks for a few steps at a time, episodes go on from call to call.

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
        policies = {"random": self._random} if random_actions else self._evaluated
        with self.metrics.log_time(SAMPLE_TIMER):
            if num_episodes is not None:
                samples: list[Any] = self._sample_episodes(num_episodes, epsilon, policies)
            elif num_timesteps is not None and self._plays_epochs:
                samples = self._sample_epoch(num_timesteps, epsilon, policies)
            else:
                acting = Acting(self._random, self._envs) if random_actions else self._behaviour
                samples = self._sample_fragments(self._num_rows(num_timesteps), epsilon, acting, force_reset)
        make_callback(
            "on_sample_end",
            callbacks_objects=self._callbacks,
            callbacks_functions=self.config.callbacks_on_sample_end,
            kwargs={"env_runner": self, "metrics_logger": self.metrics, "samples": samples},
        )
        return samples

    def _sample_fragments(
        self, steps: int, epsilon: float, acting: Acting, force_reset: bool
    ) -> list[Fragment]:
        if force_reset:
            self._reset_envs()
        fragments = {
            task: envs.new_fragment(task, self.worker_index or 0, steps) for task, envs in self._envs.items()
        }
        for task, fragment in fragments.items():
            fragment.state = acting.state[task].cpu().numpy()
        for t in range(steps):
            acted = acting(self._envs, epsilon, self._rng)
            for task, envs in self._envs.items():
                envs.send(acted.actions[task])
            for task, envs in self._envs.items():
                columns = acted.columns.get(task, {})
                for name, values in columns.items():
                    fragments[task].write(t, name, values)
                for episode in envs.receive(fragments[task], t):
                    by_expert = BY_EXPERT in columns and bool(columns[BY_EXPERT][episode.env])
                    self._episodes.add(task, episode, by_expert=by_expert)
        for fragment in fragments.values():
            if self._labels is not None and not self.config.in_evaluation:
                self._labels.complete(fragment)
            fragment.columns.pop(BY_EXPERT, None)
        steps_of = {task: fragment.env_steps() for task, fragment in fragments.items()}
        self._episodes.count_steps(steps_of)
        # The driver's count of all runners comes once per iteration; epsilon's schedule can't wait for it.
        self.num_env_steps_sampled_lifetime += sum(steps_of.values()) * (self.config.num_env_runners or 1)
        return list(fragments.values())

    def _sample_episodes(
        self, num_episodes: int, epsilon: float, policies: Mapping[str, Actor]
    ) -> list[EpisodeReturns]:
        """Plays episodes with every policy; those of all but the first are for the metrics only."""
        (_, first), *beside = policies.items()
        episodes = self._play_anew(play_episodes, num_episodes, epsilon, first)
        for task, finished in episodes.items():
            self._episodes.add_evaluation(task, finished)
        for name, policy in beside:
            for task, finished in self._play_anew(play_episodes, num_episodes, epsilon, policy).items():
                self._episodes.add_evaluation_beside(name, task, finished)
        samples = [EpisodeReturns.of(task, finished) for task, finished in episodes.items()]
        self._episodes.count_steps({sample.task: sample.env_steps() for sample in samples})
        return samples

    @property
    def _plays_epochs(self) -> bool:
        return bool(self.config.in_evaluation) and self.config.evaluation_duration != "auto"

    def _sample_epoch(
        self, num_timesteps: int, epsilon: float, policies: Mapping[str, Actor]
    ) -> list[EpochReturns]:
        (_, first), *beside = policies.items()
        share = -(-num_timesteps // len(self._envs))
        epochs = self._play_anew(play_steps, share, epsilon, first)
        for task, epoch in epochs.items():
            if epoch.finished:  # a piece of a game has no score
                self._episodes.add_evaluation(task, epoch.episodes)
        for name, policy in beside:
            for task, epoch in self._play_anew(play_steps, share, epsilon, policy).items():
                self._episodes.add_evaluation_beside(name, task, epoch.episodes if epoch.finished else ())
        self._episodes.count_steps({task: epoch.steps for task, epoch in epochs.items()})
        return [epoch.returns(task) for task, epoch in epochs.items()]

    def _play_anew(self, play: Play[Played], amount: int, epsilon: float, actor: Actor) -> dict[str, Played]:
        """Plays new episodes, and ends those still going, which must not go on at another epsilon."""
        self._reset_envs()
        played = play(self._envs, actor, amount, epsilon, self._rng)
        self._reset_envs()
        return played

    def _epsilon(self, explore: bool) -> float:
        if not explore:
            return float(self.config.evaluation_epsilon)
        return float(self.config.epsilon_at(self.num_env_steps_sampled_lifetime, self.progress))

    def _expert_share(self) -> float:
        if self.config.in_evaluation:
            return 0.0
        return float(self.config.expert_share_at(self.num_env_steps_sampled_lifetime, self.progress))

    def _num_rows(self, num_timesteps: int | None) -> int:
        if num_timesteps is None:
            return int(self.config.get_rollout_fragment_length(self.worker_index or 0))
        return max(1, -(-num_timesteps // (len(self._envs) * int(self.config.num_envs_per_task))))

    # -- environments, and who plays in them ---------------------------------------------------------------

    @override
    def make_env(self) -> None:
        """Makes (again) all tasks' vector envs; the next sample starts with new episodes."""
        self.stop()
        self._envs = make_task_envs(self._tasks, self.config.num_envs_per_task, self._seed)
        self.env = self._envs
        actor = self.config.make_behaviour(
            self.module,
            self._experts,
            device=self._device,
            expert_share=self._expert_share,
            rng=self._behaviour_rng,
        )
        self._behaviour = Acting(actor, self._envs)
        self._labels = self.config.make_labels(self._experts)

    @cached_property
    def _experts(self) -> Any:
        """The experts that label and may act, which are in no state or weight sync; None in evaluation."""
        return None if self.config.in_evaluation else self.config.load_experts()

    @cached_property
    def _random(self) -> RandomActor:
        return RandomActor({name: task.num_actions for name, task in self._tasks.items()})

    def _reset_envs(self) -> None:
        for envs in self._envs.values():
            envs.reset()

    # -- RLlib's EnvRunner ---------------------------------------------------------------------------------

    @override
    def sample_get_state_and_metrics(self, *, progress: float = 0.0) -> Any:
        """Samples for the driver, which tells how far training has come.

        Args:
            progress: The share of the run that is done, for schedules.
        """
        self.progress = progress
        return super().sample_get_state_and_metrics()

    @override
    def make_module(self) -> None:
        """Builds the inference-only modules."""
        self.module = self.config.get_multi_rl_module_spec(inference_only=True).build()
        for module_id in self.module.keys():  # a MultiRLModule is no mapping
            self.module[module_id].to(self._device).eval()
            if self.config.torch_compile_worker:
                self.module[module_id].compile(self.config.get_torch_compile_worker_config())

    @override
    def assert_healthy(self) -> None:
        assert self.module is not None

    @override
    def get_spaces(self) -> dict[str, Any]:
        """Module id -> (observation space, action space), and the tasks' own under RLlib's key."""
        specs = self.config.get_multi_rl_module_spec().rl_module_specs
        modules = {mid: (spec.observation_space, spec.action_space) for mid, spec in specs.items()}
        own: dict[str, Any] = {
            name: (task.observation_space, Discrete(task.num_actions))
            for name, task in self.config.task_set.items()
        }
        return {INPUT_ENV_SINGLE_SPACES: own, **modules}

    @override
    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The step counter and, unless left out, the modules' weights; experts are never part of it."""
        state: dict[str, Any] = {NUM_ENV_STEPS_SAMPLED_LIFETIME: self.num_env_steps_sampled_lifetime}
        if self._check_component(COMPONENT_RL_MODULE, components, not_components):
            state[COMPONENT_RL_MODULE] = cast(MultiRLModule, self.module).get_state(**kwargs)
            state[WEIGHTS_SEQ_NO] = self._weights_seq_no
        return state

    @override
    def set_state(self, state: Mapping[str, Any]) -> None:
        """Takes over weights and the step counter.

        It also takes weights with a lower number than its own, which RLlib's runners refuse, since they come
        from an older checkpoint that was restored: states arrive in the order in which they were sent.
        """
        if COMPONENT_RL_MODULE in state:
            weights = state[COMPONENT_RL_MODULE]
            weights = ray.get(weights) if isinstance(weights, ray.ObjectRef) else weights
            cast(MultiRLModule, self.module).set_state(weights)
            self._weights_seq_no = state.get(WEIGHTS_SEQ_NO, self._weights_seq_no)
        if NUM_ENV_STEPS_SAMPLED_LIFETIME in state:
            self.num_env_steps_sampled_lifetime = state[NUM_ENV_STEPS_SAMPLED_LIFETIME]

    @override
    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (), {"config": self.config}

    @override
    def get_checkpointable_components(self) -> list[tuple[str, Any]]:
        return [(COMPONENT_RL_MODULE, self.module)]

    @override
    def get_metrics(self) -> Any:
        """Reduced metrics of the episodes that ended and the steps made since the last call."""
        self._episodes.log()
        return self.metrics.reduce()

    @override
    def stop(self) -> None:
        """Closes the environments."""
        for envs in self._envs.values():
            envs.env.close()
        self._envs = {}


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
