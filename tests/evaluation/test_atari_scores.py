"""Scores of random play and of a human, and where between them a score is."""

import gymnasium as gym
import pytest

from rllib_distill.evaluation.atari_scores import RANDOM_AND_HUMAN, atari_game, human_normalised
from rllib_distill.tasks.vector_envs import register_atari


@pytest.mark.parametrize(
    ("game", "random", "human"),
    [
        ("pong", -20.7, 14.6),
        ("freeway", 0.0, 29.6),
        ("double_dunk", -18.6, -16.4),
        ("skiing", -17098.1, -4336.9),
    ],
)
def test_that_random_play_is_0_and_the_human_1(game, random, human):
    assert human_normalised(game, random) == 0.0
    assert human_normalised(game, human) == 1.0
    assert human_normalised(game, (random + human) / 2) == pytest.approx(0.5)
    assert human_normalised(game, 2 * human - random) == pytest.approx(2.0)


def test_that_a_score_is_normalised_by_hand():
    assert human_normalised("ALE/Breakout-v5", 30.5 + 28.8) == pytest.approx(2.0)  # 28.8 = 30.5 - 1.7
    assert human_normalised("ALE/SpaceInvaders-v5", 148.0 - 152.07) == pytest.approx(-0.1)


def test_that_the_table_is_the_usual_57_games_and_the_human_beats_chance_in_each():
    assert len(RANDOM_AND_HUMAN) == 57
    assert all(random < human for random, human in RANDOM_AND_HUMAN.values())


def test_that_each_game_has_its_id_in_ale():
    register_atari()
    known = [atari_game(name) for name in gym.registry if name.startswith("ALE/") and name.endswith("-v5")]
    assert sorted(filter(None, known)) == sorted(RANDOM_AND_HUMAN)


def test_that_names_in_other_writings_are_found():
    assert atari_game("ALE/UpNDown-v5") == atari_game("ale_py:ALE/UpNDown-v5") == atari_game("up_n_down")


@pytest.mark.parametrize("env", ["ALE/Tetris-v5", "MinAtar/Breakout-v1", "CartPole-v1", "Pong", "", dict])
def test_that_nothing_else_is_normalised(env):
    assert atari_game(env) is None
    assert human_normalised(env, 1.0) is None
