"""MinAtar (Young & Tian, 2019, https://arxiv.org/abs/1903.03176) as one fast vector env."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from typing_extensions import override

from rllib_distill.errors import DistillError


class MinAtarVectorEnv(VectorEnv[NDArray[np.bool_], NDArray[np.int64], NDArray[Any]]):
    """`num_envs` copies of one MinAtar game, without gymnasium's wrappers around each of them.

    With the same seeds and actions, all steps are the same as in MinAtar's gymnasium env. Autoresets are
    those of `SyncVectorEnv` in SAME_STEP mode: when an episode ends, the observation returned is the first
    one of the next episode, and the last one is in `infos["final_obs"]`.

    Observations are `(num_envs, 10, 10, C)` bool, rewards `(num_envs,)` float32, terminations and truncations
    `(num_envs,)` bool. The next call of `reset` or `step` overwrites the arrays that the last one returned.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012  # gymnasium's own convention

    def __init__(
        self,
        game: str,
        num_envs: int,
        *,
        use_minimal_action_set: bool = False,
        sticky_action_prob: float = 0.1,
        difficulty_ramping: bool = True,
        max_episode_steps: int | None = None,
    ) -> None:
        """Makes the games.

        Args:
            game: MinAtar's name of the game, such as `"space_invaders"`.
            num_envs: Number of copies of the game.
            use_minimal_action_set: Whether there are only the actions with an effect, as in the ids `-v1`.
            sticky_action_prob: Probability in [0, 1] that the game repeats the previous action.
            difficulty_ramping: Whether the game gets harder as an episode goes on.
            max_episode_steps: Episodes are truncated after this many steps; None for never.
        """
        from minatar import Environment  # takes seconds: it imports matplotlib and seaborn

        self._games = [
            Environment(game, sticky_action_prob=sticky_action_prob, difficulty_ramping=difficulty_ramping)
            for _ in range(num_envs)
        ]
        first = self._games[0]
        action_set = first.minimal_action_set() if use_minimal_action_set else range(first.num_actions())
        self._action_set = [int(action) for action in action_set]

        self.num_envs = num_envs
        boolean: Any = np.bool_  # gymnasium's type hints leave it out
        self.single_observation_space = Box(0.0, 1.0, shape=tuple(first.state_shape()), dtype=boolean)
        self.single_action_space = Discrete(len(self._action_set))
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

        # Methods are bound once; `Environment.state` only calls the game's own, at the cost of one more call.
        self._acts = [game.act for game in self._games]
        self._states = [game.env.state for game in self._games]
        self._observations = np.zeros((num_envs, *first.state_shape()), dtype=np.bool_)
        rows, columns, channels = first.state_shape()
        self._all_rows = self._observations.reshape(num_envs * rows, columns, channels)  # a view
        self._rewards = np.zeros(num_envs, dtype=np.float32)
        self._terminations = np.zeros(num_envs, dtype=np.bool_)
        self._truncations = np.zeros(num_envs, dtype=np.bool_)
        self._elapsed_steps = np.zeros(num_envs, dtype=np.int64)
        self._max_episode_steps = max_episode_steps

    @override
    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.bool_], dict[str, Any]]:
        """Starts a new episode in every game.

        Args:
            seed: Game i is seeded with `seed + i`, or with `seed[i]`; None keeps its random state.
            options: Not used.

        Raises:
            DistillError: The number of seeds is not that of the games.
        """
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int | np.integer) else seed
        if seeds is not None and len(seeds) != self.num_envs:
            raise DistillError(
                f"reset got {len(seeds)} seeds for {self.num_envs} games: give one int, or one seed for each."
            )
        for i, game in enumerate(self._games):
            if seeds is not None and seeds[i] is not None:
                game.seed(seeds[i])
                game.last_action = 0  # else a sticky action could repeat an action from before this reset
            self._observations[i] = self._restart(i)
        return self._observations, {}

    @override
    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Plays one step of every game.

        Args:
            actions: `(num_envs,)` indices into the game's action set.

        Returns:
            Observations, rewards, terminations, truncations, infos. Where an episode ended, `infos` holds its
            last observation in `final_obs` (an object array, None elsewhere) and the mask `_final_obs`.
        """
        # Results are collected in lists, since writing elements of numpy arrays one by one is slower.
        action_set = self._action_set
        played = [act(action_set[action]) for act, action in zip(self._acts, actions.tolist(), strict=True)]
        states = [state() for state in self._states]
        rewards, terminations = zip(*played, strict=True)
        self._rewards[:] = rewards
        self._terminations[:] = terminations
        limit = self._max_episode_steps
        ended = terminations if limit is None else self._truncate(limit)
        infos = self._start_new_episodes(ended, states) if True in ended else {}
        np.concatenate(states, out=self._all_rows)
        return self._observations, self._rewards, self._terminations, self._truncations, infos

    def _truncate(self, limit: int) -> Sequence[bool]:
        """Counts the step, truncates as gymnasium's `TimeLimit` does, and returns which episodes ended."""
        self._elapsed_steps += 1
        np.greater_equal(self._elapsed_steps, limit, out=self._truncations)
        ended: list[bool] = (self._terminations | self._truncations).tolist()
        return ended

    def _start_new_episodes(self, ended: Sequence[bool], states: list[NDArray[np.bool_]]) -> dict[str, Any]:
        """Replaces last observations in `states` by new first ones, and returns infos with the last ones."""
        final_obs = np.empty(self.num_envs, dtype=object)  # filled with None
        for i, has_ended in enumerate(ended):
            if has_ended:
                final_obs[i] = states[i]
                states[i] = self._restart(i)
        return {"final_obs": final_obs, "_final_obs": np.array(ended)}

    def _restart(self, i: int) -> NDArray[np.bool_]:
        self._games[i].reset()
        self._elapsed_steps[i] = 0
        return self._states[i]()  # type: ignore[no-any-return]  # MinAtar ships no type hints


def minatar_action_meanings(env: gym.Env[Any, Any]) -> tuple[str, ...] | None:
    """Returns MinAtar's letters for the actions (n, l, u, r, d, f) of its gymnasium env; None for others."""
    if type(env).__module__ != "minatar.gym":
        return None
    game = env.game  # type: ignore[attr-defined]  # an attribute of MinAtar's BaseEnv
    return tuple(game.env.action_map[action] for action in env.action_set)  # type: ignore[attr-defined]  # as above
