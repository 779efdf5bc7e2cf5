"""Atari games: one environment, ALE's vector env of many, and the options of both."""

from collections.abc import Mapping, Sequence
from inspect import Parameter, signature
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from typing_extensions import override

from rllib_distill.errors import DistillError, check_bool, check_number, nearest


class AtariVectorEnv(VectorEnv[NDArray[np.uint8], NDArray[np.int64], NDArray[Any]]):
    """`num_envs` copies of one game, stepped by ALE's own threads; SAME_STEP autoreset.

    Defaults are those of Mnih et al. (2015), Parisotto et al. (2016) and Rusu et al. (2016): luminance of
    84x84, the maximum over the last two of 4 repeated frames, a stack of 4, random no-op starts, episodes of
    at most 30 minutes, no sticky actions.

    Observations are `(num_envs, height, width, frame_stack)` uint8, oldest frame first: views of frame-major
    memory, a fresh array per step. After a reset the older frames of a stack are zero. Rewards are raw and
    episodes whole games; what a learner should see instead is in the infos (see `step`).
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012  # gymnasium's own convention

    def __init__(
        self,
        game: str,
        num_envs: int,
        *,
        frame_stack: int = 4,
        frame_skip: int = 4,
        screen_size: int = 84,
        noop_max: int = 30,
        repeat_action_probability: float = 0.0,
        full_action_space: bool = False,
        reward_clipping: bool = True,
        terminal_on_life_loss: bool = True,
        max_num_frames_per_episode: int = 108_000,
        num_threads: int = 1,
    ) -> None:
        """Makes the games.

        Args:
            game: ALE's name of the ROM, such as `"space_invaders"`.
            num_envs: how many copies to step.
            frame_stack: frames in an observation.
            frame_skip: how many frames an action is repeated for.
            screen_size: height and width of the observations in pixels.
            noop_max: an episode starts with 0 to this many no-ops, uniformly (in the papers 1 to 30).
            repeat_action_probability: probability of a sticky action; Machado et al. (2018) advise 0.25.
            full_action_space: all 18 actions instead of those that do something in this game.
            reward_clipping: whether learners see only the sign of rewards.
            terminal_on_life_loss: whether learners see the loss of a life as the end of an episode.
            max_num_frames_per_episode: episodes are truncated after this many frames (60 are a second).
            num_threads: threads of ALE for all copies together.
        """
        from ale_py.vector_env import AtariVectorEnv as AleVectorEnv

        self._ale: Any = AleVectorEnv(  # its type hints leave the arrays open
            game,
            num_envs,
            stack_num=frame_stack,
            frameskip=frame_skip,
            img_height=screen_size,
            img_width=screen_size,
            noop_max=noop_max + 1,  # ALE draws from 0 to one less
            repeat_action_probability=repeat_action_probability,
            full_action_space=full_action_space,
            max_num_frames_per_episode=max_num_frames_per_episode,
            num_threads=min(num_threads, num_envs),
            autoreset_mode=AutoresetMode.SAME_STEP,
            life_loss_info=terminal_on_life_loss,
            reward_clipping=False,  # scores are true ones; learners' rewards are clipped here
            use_fire_reset=False,
        )
        self._clips_rewards = reward_clipping
        self._game_starts = np.zeros(num_envs, np.int32)
        self.frame_stack = frame_stack
        self.num_envs = num_envs
        actions = self._ale.ale.get_action_set()
        self.action_meanings = tuple(action.name for action in actions)
        self.single_observation_space = Box(0, 255, (screen_size, screen_size, frame_stack), np.uint8)
        self.single_action_space = Discrete(len(actions))
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    @override
    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Starts a new game everywhere.

        Args:
            seed: copy i is seeded with `seed + i`, or with `seed[i]`; None leaves its random state.
            options: passed to ALE.

        Raises:
            DistillError: there are not as many seeds as games.
        """
        seeds: Any = seed
        if isinstance(seed, int | np.integer):
            seeds = int(seed) % (2**31 - self.num_envs)  # ALE's are C ints, those below 0 seed nothing
        elif seed is not None:
            if len(seed) != self.num_envs:
                raise DistillError(
                    f"reset got {len(seed)} seeds for {self.num_envs} games: give one int, or one for each."
                )
            seeds = np.array([-1 if one is None else int(one) % (2**31 - 1) for one in seed])  # -1: as it is
        stacks, infos = self._ale.reset(seed=seeds, options=options)
        self._game_starts = _game_starts(infos)
        return _channels_last(stacks), infos

    def step_async(self, actions: NDArray[np.int64]) -> None:
        """Lets the games play one step in ALE's threads; `step_wait` fetches what came of it."""
        actions = np.asarray(actions)
        last = len(self.action_meanings) - 1
        if actions.min() < 0 or actions.max() > last:  # ALE would wait for ever
            raise DistillError(f"actions are {actions.tolist()}; each must be an index in [0, {last}].")
        self._ale.send(actions)

    def step_wait(
        self,
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Waits for the step that `step_async` began; returns what `step` does."""
        stacks, scores, terminations, truncations, infos = self._ale.recv()
        rewards = scores.astype(np.float32)
        starts = _game_starts(infos)
        life_losses = terminations & (starts == self._game_starts)  # the same game goes on
        self._game_starts = starts
        infos["training_rewards"] = np.sign(rewards) if self._clips_rewards else rewards
        infos["training_terminations"] = terminations
        if "final_obs" in infos:
            infos["final_obs"] = _channels_last(infos["final_obs"])
        return _channels_last(stacks), rewards, terminations & ~life_losses, truncations, infos

    @override
    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Plays one step of every game.

        Args:
            actions: `(num_envs,)` indices into the game's action set.

        Returns:
            Observations, raw rewards, terminations (game over), truncations, infos. In the infos: what
            learners should see, `training_rewards` and `training_terminations`, and where a game ended its
            last observation in `final_obs`.
        """
        self.step_async(actions)
        return self.step_wait()


class AtariEnv(gym.Env[NDArray[np.uint8], int]):
    """One game as a plain gymnasium env: observations of `AtariVectorEnv`, raw rewards, whole games."""

    metadata = {"render_modes": []}  # noqa: RUF012  # gymnasium's own convention

    def __init__(self, game: str, **options: Any) -> None:
        """Makes the game; options as in `AtariVectorEnv`."""
        self._games = AtariVectorEnv(game, 1, **options)
        self.observation_space = self._games.single_observation_space
        self.action_space = self._games.single_action_space

    def get_action_meanings(self) -> list[str]:
        """ALE's names of the actions."""
        return list(self._games.action_meanings)

    @override
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        super().reset(seed=seed)
        observations, infos = self._games.reset(seed=seed)
        return observations[0], _of_one(infos)

    @override
    def step(self, action: int) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        observations, rewards, terminations, truncations, infos = self._games.step(np.array([action]))
        terminated, truncated = bool(terminations[0]), bool(truncations[0])
        final = infos.pop("final_obs", observations)  # the vector env has begun the next game already
        observation = final[0] if terminated or truncated else observations[0]
        return observation, float(rewards[0]), terminated, truncated, _of_one(infos)


def _channels_last(stacks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return stacks.transpose(0, 2, 3, 1)


def _game_starts(infos: dict[str, Any]) -> NDArray[np.int32]:
    """At which of its frames each copy began its game; lives don't tell, as Amidar begins with none."""
    starts: NDArray[np.int32] = infos["frame_number"] - infos["episode_frame_number"]
    return starts


def _of_one(infos: dict[str, Any]) -> dict[str, Any]:
    """One copy's infos, without those for learners: a wrapper may change rewards and ends."""
    return {name: values[0] for name, values in infos.items() if not name.startswith("training_")}


ATARI_DEFAULTS = {
    parameter.name: parameter.default
    for parameter in signature(AtariVectorEnv.__init__).parameters.values()
    if parameter.kind is Parameter.KEYWORD_ONLY
}
_BOUNDS = {
    "frame_stack": (1, 64),
    "frame_skip": (1, 1_000),
    "screen_size": (8, 1_000),
    "noop_max": (0, 10_000),
    "max_num_frames_per_episode": (1, 2**31 - 1),  # ALE counts in C ints
    "num_threads": (1, 1_000),
}


def check_atari_options(options: Mapping[str, Any]) -> None:
    """Checks an Atari task's `env_config`.

    Raises:
        DistillError: an unknown option (the nearest is named), or a value that ALE can't take.
    """
    for name, value in options.items():
        if name not in ATARI_DEFAULTS:
            raise DistillError(f"unknown Atari option {name!r}. {nearest(name, ATARI_DEFAULTS)}")
        option = f"Atari option {name}"
        if isinstance(ATARI_DEFAULTS[name], bool):
            check_bool(option, value)
        elif name in _BOUNDS:
            least, most = _BOUNDS[name]
            check_number(option, value, least=least, most=most, integer=True)
        else:
            check_number(option, value, least=0, below=1)
