"""Seeds of every vector env: they replay the same games, and copy i has one of its own."""

import numpy as np
import pytest

from rllib_distill.errors import DistillError
from rllib_distill.tasks import MinAtarVectorEnv
from rllib_distill.tasks.atari import AtariVectorEnv
from rllib_distill.tasks.mazes import MazeVectorEnv
from rllib_distill.tasks.two_rooms import TwoRoomsVectorEnv
from tests.tasks.playing import assert_same, play, random_actions

EACH = {
    "seaquest": lambda num_envs: MinAtarVectorEnv("seaquest", num_envs),
    "space invaders": lambda num_envs: MinAtarVectorEnv("space_invaders", num_envs),
    "freeway": lambda num_envs: MinAtarVectorEnv("freeway", num_envs),
    "maze": lambda num_envs: MazeVectorEnv(num_envs, task=3, size=5, view=3, apples=2),
    "atari": lambda num_envs: AtariVectorEnv("breakout", num_envs, frame_skip=30),
}
ONE_FOR_ALL = {"two rooms": lambda num_envs: TwoRoomsVectorEnv(num_envs, slip=0.2)}


@pytest.mark.parametrize("make", [*EACH.values(), *ONE_FOR_ALL.values()], ids=[*EACH, *ONE_FOR_ALL])
@pytest.mark.parametrize(("seed", "other"), [(5, 6), ([5, 9], [9, 5])], ids=["one", "each"])
def test_a_seed_replays_the_same_games_whatever_was_played_before(make, seed, other):
    env = make(2)
    actions = random_actions(env, 70)
    first, others = play(env, actions, seed), play(env, actions, other)
    assert any((step[0] != same[0]).any() for step, same in zip(first, others, strict=True))
    assert_same(first, play(env, actions, seed))


@pytest.mark.parametrize("make", EACH.values(), ids=EACH)
def test_copy_i_is_seeded_with_seed_plus_i_or_with_the_ith_seed(make):
    env = make(3)
    actions = random_actions(env, 40)
    alone = play(make(1), actions[:, 1:2], np.int64(8))
    for seed in (7, [9, 8, 8]):
        together = play(env, actions, seed)
        for step, own in zip(together, alone, strict=True):
            np.testing.assert_array_equal(step[0][1], own[0][0])
        assert any((step[0][0] != step[0][1]).any() for step in together)
    with pytest.raises(DistillError, match=r"got 2 seeds for 3 (games|mazes)"):
        env.reset(seed=[7, 8])
