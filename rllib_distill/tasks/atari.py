"""Atari games: a vector env of many copies, on ALE's own, a single environment, and their options."""

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

    The defaults are those of Mnih et al. (2015), Parisotto et al. (2016) and Rusu et al. (2016): grayscale
    frames of 84x84 pixels, each the maximum over the last two of 4 repeated frames; stacks of 4 frames;
    random no-op starts; episodes of at most 30 minutes; no sticky actions.

    Observations are `(num_envs, height, width, frame_stack)` uint8, oldest frame first: a new array in every
    step, whose axis of frames is the second one in memory. After a reset, the older frames of a stack are
    zero. Rewards are unclipped and episodes are whole games; the rewards and terminations for learners are in
    the infos (see `step`).
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
            num_envs: Number of copies of the game.
            frame_stack: Number of frames in an observation.
            frame_skip: Number of frames for which an action is repeated.
            screen_size: Height and width of the observations in pixels.
            noop_max: An episode starts with 0 to this many no-ops, uniformly drawn (in the papers 1 to 30).
            repeat_action_probability: Probability of a sticky action; Machado et al. (2018) advise 0.25.
            full_action_space: Whether there are all 18 actions, or only those with an effect in this game.
            reward_clipping: Whether learners see only the sign of rewards.
            terminal_on_life_loss: Whether learners see the loss of a life as the end of an episode.
            max_num_frames_per_episode: Episodes are truncated after this many frames (60 are a second).
            num_threads: Number of ALE's threads for all copies together.
        """
        from ale_py.vector_env import AtariVectorEnv as AleVectorEnv

        self._ale: Any = AleVectorEnv(  # Any, as its type hints do not say which arrays it returns
            game,
            num_envs,
            stack_num=frame_stack,
            frameskip=frame_skip,
            img_height=screen_size,
            img_width=screen_size,
            noop_max=noop_max + 1,  # ALE draws from 0 to this number minus 1
            repeat_action_probability=repeat_action_probability,
            full_action_space=full_action_space,
            max_num_frames_per_episode=max_num_frames_per_episode,
            num_threads=min(num_threads, num_envs),
            autoreset_mode=AutoresetMode.SAME_STEP,
            life_loss_info=terminal_on_life_loss,
            reward_clipping=False,  # `step_wait` clips the rewards for learners; scores need unclipped ones
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
        """Starts a new game in every copy.

        Args:
            seed: Copy i is seeded with `seed + i`, or with `seed[i]`; None keeps its random state.
            options: Passed to ALE.

        Raises:
            DistillError: The number of seeds is not that of the games.
        """
        seeds: Any = seed
        if isinstance(seed, int | np.integer):
            seeds = int(seed) % (2**31 - self.num_envs)  # ALE takes C ints and ignores those below 0
        elif seed is not None:
            if len(seed) != self.num_envs:
                raise DistillError(
                    f"reset got {len(seed)} seeds for {self.num_envs} games: give one int, or one for each."
                )
            seeds = np.array([-1 if one is None else int(one) % (2**31 - 1) for one in seed])  # -1: no seed
        stacks, infos = self._ale.reset(seed=seeds, options=options)
        self._game_starts = _game_starts(infos)
        return _channels_last(stacks), infos

    def step_async(self, actions: NDArray[np.int64]) -> None:
        """Starts a step of every game in ALE's threads; `step_wait` waits for its results.

        Args:
            actions: `(num_envs,)` indices into the game's action set.

        Raises:
            DistillError: An action is out of range.
        """
        actions = np.asarray(actions)
        last = len(self.action_meanings) - 1
        if actions.min() < 0 or actions.max() > last:  # ALE would wait forever
            raise DistillError(f"actions are {actions.tolist()}; each must be an index in [0, {last}].")
        self._ale.send(actions)

    def step_wait(
        self,
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Waits for the step that `step_async` started, and returns what `step` returns."""
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
            Observations, unclipped rewards, terminations (game over), truncations, infos. The infos have
            `training_rewards` and `training_terminations`, which learners should see instead, and where a
            game ended its last observation in `final_obs`.

        Raises:
            DistillError: An action is out of range.
        """
        self.step_async(actions)
        return self.step_wait()


class AtariEnv(gym.Env[NDArray[np.uint8], int]):
    """One whole game as a gymnasium env, with the observations and unclipped rewards of `AtariVectorEnv`."""

    metadata = {"render_modes": []}  # noqa: RUF012  # gymnasium's own convention

    def __init__(self, game: str, **options: Any) -> None:
        """Makes the game with the options of `AtariVectorEnv`."""
        self._games = AtariVectorEnv(game, 1, **options)
        self.observation_space = self._games.single_observation_space
        self.action_space = self._games.single_action_space

    def get_action_meanings(self) -> list[str]:
        """Returns ALE's names of the actions."""
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
        final = infos.pop("final_obs", observations)  # the vector env has already started the next game
        observation = final[0] if terminated or truncated else observations[0]
        return observation, float(rewards[0]), terminated, truncated, _of_one(infos)


def _channels_last(stacks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return stacks.transpose(0, 2, 3, 1)


def _game_starts(infos: dict[str, Any]) -> NDArray[np.int32]:
    """The frame at which each copy's game started; lives do not tell this, as Amidar starts with none."""
    starts: NDArray[np.int32] = infos["frame_number"] - infos["episode_frame_number"]
    return starts


def _of_one(infos: dict[str, Any]) -> dict[str, Any]:
    """The infos of one copy without those for learners, which would override what a wrapper changes."""
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
    """Checks the `env_config` of an Atari task.

    Args:
        options: The `env_config`.

    Raises:
        DistillError: An option is unknown (the message names the nearest one), or a value is not allowed.
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
