"""What every side does: the same games, network, batches and numbers."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rllib_distill.networks import Network

GAMES = ("asterix", "breakout", "freeway", "seaquest", "space_invaders")
NETWORK = {"type": "minatar_cnn"}
ENVS_PER_GAME = 8
STEPS = 32  # rows of one fragment
EPSILON = 0.1
LR = 5e-4
TAU, BETA = 0.1, 0.01
REPLAY_CAPACITY = 100_000  # transitions per game
TRAINING_INTENSITY = 2.0
LEARNING_STARTS = 1_000  # transitions per game


@dataclass(frozen=True)
class DQNWorkload:
    """One game's DQN; `target_update` counts gradient steps."""

    env: str = "MinAtar/Breakout-v1"
    envs: int = 16
    batch: int = 128
    training_intensity: float = 8.0
    capacity: int = 100_000
    lr: float = 2.5e-4
    gamma: float = 0.99
    target_update: int = 250
    learning_starts: int = 1_000
    epsilon: float = 0.1


DQN = DQNWorkload()


def env_id(game: str, version: str = "v1") -> str:
    """`space_invaders` -> `MinAtar/SpaceInvaders-v1`, the game's minimal action set; v0 has all 6 actions."""
    return f"MinAtar/{game.title().replace('_', '')}-{version}"


def seeded_network(
    seed: int, observation_shape: tuple[int, ...], num_actions: int, network: dict[str, Any] = NETWORK
) -> "Network":
    """The same initial weights on every side: other weights would play other, dearer or cheaper, states."""
    import torch

    from rllib_distill.networks import build_network

    torch.manual_seed(seed)
    return build_network(network, observation_shape, num_actions)


def task_ids(games: tuple[str, ...]) -> dict[str, Any]:
    """Games as tasks."""
    return {game: env_id(game) for game in games}
