"""One task's environments while they are played: vector env, current observations, running returns."""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from rllib_distill.replay.fragment import Fragment
from rllib_distill.tasks import TaskSet

POLICY, EXPERT, DISTILLED = "policy", "expert", "distilled"
"""Who may be evaluated: the student or the tasks' policies, experts that learn, a distilled policy."""


@dataclass(frozen=True)
class Episode:
    """A finished episode: its undiscounted return, its length in steps, the environment that played it."""

    env: int
    episode_return: float
    length: int


@dataclass(frozen=True)
class EpisodeReturns:
    """Whole episodes of one task, for evaluation: undiscounted, unclipped returns and lengths in steps."""

    task: str
    returns: tuple[float, ...]
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, task: str, episodes: Iterable[Episode], **others: Any) -> Self:
        """Takes returns and lengths from episodes; `others` are further fields of a subclass."""
        played = tuple(episodes)
        returns, lengths = tuple(e.episode_return for e in played), tuple(e.length for e in played)
        return cls(task, returns, lengths, **others)

    def env_steps(self) -> int:
        """Number of steps in all episodes."""
        return sum(self.lengths)

    def agent_steps(self) -> int:
        """Number of steps too, since one agent, the task, acts in each."""
        return self.env_steps()


class TaskEnvs:
    """Steps one vector env and says which rows are transitions and which episodes ended.

    It understands gymnasium's two autoreset modes. In SAME_STEP mode the observation after an episode's end
    is the next episode's first. In NEXT_STEP mode the step after an episode's end ignores the action and
    returns the next episode's first observation; that row is no transition.

    A vector env may have `step_async` and `step_wait`, to work while others are sent their actions;
    `frame_stack`, if its observations are stacks of that many frames, in SAME_STEP mode; and, in its infos,
    `training_rewards` and `training_terminations`, which a learner sees instead of the true ones, such as
    clipped rewards. Episodes' returns are always of the true rewards.

    Attributes:
        observations: `(B, *observation)`, the current ones.
        is_first: `(B,)` bool, which of them are the first of an episode, as the learner sees episodes: a
            new one begins after each of `training_terminations`.
        is_reset: `(B,)` bool, which of them are the first since their environment's reset.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]):
        """Takes over a vector env; call `reset` before the first step."""
        self.env = env
        self.num_envs = env.num_envs
        self.frame_stack = int(getattr(env, "frame_stack", 1))
        mode = env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        self._resets_next_step = mode == AutoresetMode.NEXT_STEP
        self._is_asynchronous = hasattr(env, "step_async")
        self.observations: NDArray[Any] = np.empty(0)
        self.is_first = np.ones(self.num_envs, np.bool_)
        self.is_reset = self.is_first
        self._actions: NDArray[np.int64] = np.zeros(self.num_envs, np.int64)
        self._ended = np.zeros(self.num_envs, np.bool_)
        self._returns = np.zeros(self.num_envs)
        self._lengths = np.zeros(self.num_envs, np.int64)
        self.clock = secrets.randbits(62)  # so that a replaced runner's time does not seem to go on

    def reset(self, seed: int | None = None) -> None:
        """Starts new episodes everywhere; the clock jumps, so that replay sees the gap."""
        self.observations, _ = self.env.reset(seed=seed)
        self._ended = np.zeros(self.num_envs, np.bool_)
        self.is_first = self.is_reset = np.ones(self.num_envs, np.bool_)
        self._returns[:] = 0.0
        self._lengths[:] = 0
        self.clock += 1

    def new_fragment(self, task: str, env_runner_index: int, steps: int) -> Fragment:
        """An empty fragment that begins with the current observations."""
        fragment = Fragment.empty(
            task, env_runner_index, self.clock, steps, self.observations, self.frame_stack
        )
        fragment.steps_since_reset[0] = np.minimum(self._lengths, self.frame_stack - 1)
        fragment.is_first[0] = self.is_first
        return fragment

    def send(self, actions: NDArray[np.int64]) -> None:
        """Begins a step of every environment.

        Args:
            actions: `(B,)`, indices into the task's own actions.
        """
        self._actions = actions
        if self._is_asynchronous:
            self.env.step_async(actions)  # type: ignore[attr-defined]  # not all vector envs have it

    def receive(self, fragment: Fragment | None = None, t: int = 0) -> list[Episode]:
        """Ends the step that `send` began.

        Args:
            fragment: Where to record row `t`; None records nothing.
            t: The row.

        Returns:
            The episodes that ended.
        """
        step = self.env.step_wait() if self._is_asynchronous else self.env.step(self._actions)  # type: ignore[attr-defined]  # as above
        self.observations, rewards, terminations, truncations, infos = step
        valid = ~self._ended  # all true in SAME_STEP mode
        ended = np.logical_or(terminations, truncations)
        self._returns += np.where(valid, rewards, 0.0)
        self._lengths += valid
        self.clock += 1
        lost = np.logical_and(infos.get("training_terminations", terminations), ~ended)
        if self._resets_next_step:
            self.is_reset, self._ended = self._ended, ended
        else:
            self.is_reset = ended
        self.is_first = self.is_reset | lost
        if fragment is not None:
            fragment.valid[t] = valid
            fragment.is_first[t + 1] = self.is_first
            self._record(fragment, t, ended, step)
        return [self._pop_episode(int(b)) for b in np.flatnonzero(ended)] if ended.any() else []

    def step(self, actions: NDArray[np.int64], fragment: Fragment | None = None, t: int = 0) -> list[Episode]:
        """Makes a whole step: `send`, then `receive`."""
        self.send(actions)
        return self.receive(fragment, t)

    def unfinished_episodes(self) -> list[Episode]:
        """Every environment's present episode, with its return and length so far."""
        so_far = zip(self._returns.tolist(), self._lengths.tolist(), strict=True)
        return [Episode(b, episode_return, length) for b, (episode_return, length) in enumerate(so_far)]

    def _record(self, fragment: Fragment, t: int, ended: NDArray[np.bool_], step: tuple[Any, ...]) -> None:
        observations, rewards, terminations, truncations, infos = step
        if self.frame_stack == 1:
            fragment.frames[t + 1] = observations
        else:
            fragment.frames[t + self.frame_stack] = observations[..., -1]
            fragment.steps_since_reset[t + 1] = np.where(
                ended, 0, np.minimum(self._lengths, self.frame_stack - 1)
            )
        fragment.actions[t] = self._actions
        fragment.rewards[t] = infos.get("training_rewards", rewards)
        fragment.terminations[t] = infos.get("training_terminations", terminations)
        fragment.truncations[t] = truncations
        if not self._resets_next_step and truncations.any():
            for b in np.flatnonzero(truncations):
                fragment.final_observations[t, int(b)] = np.array(infos["final_obs"][b])

    def _pop_episode(self, b: int) -> Episode:
        episode = Episode(b, float(self._returns[b]), int(self._lengths[b]))
        self._returns[b], self._lengths[b] = 0.0, 0
        return episode


def make_task_envs(tasks: TaskSet, num_envs: int, seed: int | None) -> dict[str, TaskEnvs]:
    """Makes the environments of every task, with new episodes.

    Args:
        tasks: Task name -> task.
        num_envs: Number of environments of each task.
        seed: Every environment gets a seed of its own from it; None for random ones.

    Returns:
        Task name -> its environments.
    """
    num_threads = torch.get_num_threads()  # Ray tells a remote runner's torch how many cores are its own
    made = {name: TaskEnvs(task.spec.make_vector_env(num_envs, num_threads)) for name, task in tasks.items()}
    for i, envs in enumerate(made.values()):
        own = None if seed is None else int(np.random.SeedSequence([seed, i]).generate_state(1)[0]) % 2**31
        envs.reset(seed=own)
    return made
