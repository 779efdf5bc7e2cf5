"""MiniGrid (Chevalier-Boisvert et al., 2023, https://arxiv.org/abs/2306.13831) with one-hot images."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict
from numpy.typing import NDArray
from typing_extensions import override

ID_PREFIXES = ("MiniGrid-", "BabyAI-")
"""How the ids begin that the package registers; they have no namespace."""


class OneHotMiniGrid(gym.ObservationWrapper[NDArray[np.bool_], Any, dict[str, Any]]):
    """The agent's view as a bool image: `(7, 7, 20)`, one-hot object (11), colour (6) and state (3).

    MiniGrid's own image has integer codes, which a network would take for amounts. The rest of the
    observation is dropped: the direction, since the view turns with the agent, and the mission, a sentence
    that says what to do. Tasks in which the mission varies (`MiniGrid-GoToDoor-5x5-v0`, most of BabyAI) need
    a wrapper that encodes it: put it into the task's `wrappers`, which then replace this wrapper.
    """

    def __init__(self, env: gym.Env[dict[str, Any], Any]) -> None:
        """Wraps an environment of the package that observes a Dict with an `image`."""
        from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX, STATE_TO_IDX

        super().__init__(env)
        kinds = [len(numbers) for numbers in (OBJECT_TO_IDX, COLOR_TO_IDX, STATE_TO_IDX)]
        self._one_hots = [np.eye(count, dtype=np.bool_) for count in kinds]
        space = env.observation_space
        assert isinstance(space, Dict) and space["image"].shape is not None  # true for all of the package
        boolean: Any = np.bool_  # gymnasium's type hints leave it out
        self.observation_space = Box(0.0, 1.0, (*space["image"].shape[:2], sum(kinds)), dtype=boolean)

    @override
    def observation(self, observation: dict[str, Any]) -> NDArray[np.bool_]:
        kinds = np.moveaxis(observation["image"], -1, 0)
        encoded = [one_hot[kind] for one_hot, kind in zip(self._one_hots, kinds, strict=True)]
        return np.concatenate(encoded, axis=-1)

    def get_action_meanings(self) -> list[str]:
        """Returns MiniGrid's names of the actions; a few levels have only the first of them."""
        space: Any = self.action_space
        actions: Any = self.unwrapped
        return [action.name for action in actions.actions][: space.n]
