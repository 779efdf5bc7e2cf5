"""One task's environments while they are played: vector env, current observations, running returns."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from rllib_distill.sampling.fragment import Fragment


@dataclass(frozen=True)
class Episode:
    """A finished episode: its undiscounted return, its length in steps, the environment that played it."""

    env: int
    episode_return: float
    length: int


class TaskEnvs:
    """Steps one vector env and says which rows are transitions and which episodes ended.

    Understands gymnasium's two autoreset modes. SAME_STEP: the observation after an episode's end is the next
    episode's first. NEXT_STEP: the step after an episode's end ignores the action and returns the next
    episode's first observation; that row is no transition.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]):
        """Takes over a vector env; call `reset` before the first step."""
        self.env = env
        self.num_envs = env.num_envs
        mode = env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        self._resets_next_step = mode == AutoresetMode.NEXT_STEP
        self.observations: NDArray[Any] = np.empty(0)
        self._ended = np.zeros(self.num_envs, np.bool_)
        self._returns = np.zeros(self.num_envs)
        self._lengths = np.zeros(self.num_envs, np.int64)
        self.clock = 0

    def reset(self, seed: int | None = None) -> None:
        """Starts new episodes everywhere; the clock jumps, so that replay sees the gap."""
        self.observations, _ = self.env.reset(seed=seed)
        self._ended[:] = False
        self._returns[:] = 0.0
        self._lengths[:] = 0
        self.clock += 1

    def step(self, actions: NDArray[np.int64], fragment: Fragment | None = None, t: int = 0) -> list[Episode]:
        """One step of every environment.

        Args:
            actions: `(B,)`, the task's own.
            fragment: Where to record row `t`; None records nothing.
            t: The row.

        Returns:
            The episodes that ended.
        """
        self.observations, rewards, terminations, truncations, infos = self.env.step(actions)
        valid = ~self._ended  # all true in SAME_STEP mode
        ended = np.logical_or(terminations, truncations)
        self._returns += np.where(valid, rewards, 0.0)
        self._lengths += valid
        self.clock += 1
        if fragment is not None:
            fragment.observations[t + 1] = self.observations
            fragment.actions[t] = actions
            fragment.rewards[t] = rewards
            fragment.terminations[t] = terminations
            fragment.truncations[t] = truncations
            fragment.valid[t] = valid
        if self._resets_next_step:
            self._ended = ended
        elif fragment is not None and truncations.any():
            for b in np.flatnonzero(truncations):
                fragment.final_observations[t, int(b)] = np.array(infos["final_obs"][b])
        return [self._pop_episode(int(b)) for b in np.flatnonzero(ended)] if ended.any() else []

    def _pop_episode(self, b: int) -> Episode:
        episode = Episode(b, float(self._returns[b]), int(self._lengths[b]))
        self._returns[b], self._lengths[b] = 0.0, 0
        return episode
