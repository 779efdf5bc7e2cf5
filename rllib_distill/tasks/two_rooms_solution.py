"""What the best policy earns in the two rooms, to measure learned ones against."""

import numpy as np
from numpy.typing import NDArray

from rllib_distill.tasks.two_rooms_map import ACTION_MEANINGS, TwoRoomsMap


def optimal_return(rooms: TwoRoomsMap, *, slip: float = 0.0, max_episode_steps: int = 100) -> float:
    """The best policy's undiscounted return of an episode, the mean over all starts.

    Args:
        rooms: with the goal.
        slip: probability in [0, 1] that a step goes in a direction drawn uniformly.
        max_episode_steps: of an episode.
    """
    values = optimal_values(rooms, slip=slip, max_episode_steps=max_episode_steps)
    return float(values[rooms.start_cells].mean())


def optimal_values(
    rooms: TwoRoomsMap, *, slip: float = 0.0, max_episode_steps: int = 100
) -> NDArray[np.float64]:
    """Value iteration over as many steps as an episode lasts, which is exact for truncated episodes too.

    V_0 = 0;  V_k+1(c) = max_a (1 - slip) Q_k(c, a) + slip mean_b Q_k(c, b);  Q_k(c, a) = R + V_k(c')

    Args:
        rooms: with the goal.
        slip: probability in [0, 1] that a step goes in a direction drawn uniformly.
        max_episode_steps: of an episode.

    Returns:
        `(cells,)`: the undiscounted return from each cell; 0 for the goal, where episodes are over.
    """
    actions = np.arange(len(ACTION_MEANINGS))
    starts = rooms.first_states(np.arange(rooms.num_cells))[:, None]
    reached = rooms.next_states(starts, actions, directions=actions)
    rewards, next_cells = rooms.rewards[reached], rooms.cells_of(reached)  # both (cells, 4)
    values = np.zeros(rooms.num_cells)
    for _ in range(max_episode_steps):
        action_values = rewards + values[next_cells]
        values = (1 - slip) * action_values.max(axis=1) + slip * action_values.mean(axis=1)
        values[rooms.goal_cell] = 0.0
    return values
