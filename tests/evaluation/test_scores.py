"""From returns to scores, how they are compared, and the tables that show them."""

import csv
import io
import math

import gymnasium as gym
import pytest
from rich.console import Console

from rllib_distill.evaluation.scores import (
    RANDOM_AND_HUMAN,
    ScoreBoard,
    atari_game,
    human_normalised,
    score_csv,
    score_table,
    summary_table,
)
from rllib_distill.tasks.vector_envs import register_atari
from tests.evaluation.examples import GAMES, board, with_distilled, with_epochs


def printed(table):
    console = Console(file=io.StringIO(), width=120)
    console.print(table)
    return console.file.getvalue()


def test_that_shares_are_ratios_and_their_mean_is_geometric():
    scores = board()
    assert scores.measure == "ratio"
    assert [scores.student_share(task) for task in scores.tasks] == pytest.approx([0.9, 1.25])
    assert scores.geometric_mean == pytest.approx(math.sqrt(0.9 * 1.25))


@pytest.mark.parametrize(
    "changes", [{"expert": (-5.0, 4.0)}, {"student": (-5.0, 5.0)}, {"student": (0.0, 5.0)}, {}]
)
def test_that_all_shares_are_normalised_where_scores_can_be_negative(changes):
    scores = board(random=(-20.0, 1.0), **changes)
    expert, student = scores.mean("expert", "pong"), scores.mean("student", "pong")
    assert scores.measure == "normalised"
    assert scores.student_share("pong") == pytest.approx((student + 20) / (expert + 20))
    assert scores.student_share("breakout") == pytest.approx((5 - 1) / (4 - 1))
    text = printed(score_table(scores))
    assert "above random" in text and "(student - random) / (expert - random)" in text


def test_that_one_negative_episode_is_enough():
    """As with two good players of Boxing, where random play is at 0 and a ratio depends on luck alone."""
    assert board(random=(1.0, 1.0)).measure == "ratio"  # its episodes' returns are 0 and 2
    assert board(random=(0.5, 1.0)).measure == "normalised"  # -0.5 and 1.5


def test_that_an_expert_no_better_than_random_play_has_no_share():
    scores = board(random=(-5.0, 1.0), expert=(-5.0, 4.0))
    assert scores.student_share("pong") is None and scores.geometric_mean is None


def test_that_a_student_worse_than_random_play_has_no_geometric_mean():
    scores = board(random=(-5.0, 1.0), student=(-6.0, 4.0))
    assert scores.student_share("pong") < 0 and scores.geometric_mean is None


def test_that_policies_without_experts_have_no_share():
    scores = ScoreBoard({"random": board().episodes["random"], "policy": board().episodes["student"]})
    assert scores.measure is None and scores.geometric_mean is None
    text = printed(score_table(scores))
    assert "geometric" not in text and "above" not in text


def test_that_a_distilled_policy_is_beside_the_tasks_own():
    scores = with_distilled(board(games=GAMES))
    assert scores.measure is None and scores.geometric_mean is None
    text = printed(score_table(scores))
    for part in ("policy", "distilled", "9.00 ± 1.00", "10.00 ± 1.00", "0.870"):  # human-normalised
        assert part in text
    row = next(csv.DictReader(io.StringIO(score_csv(scores))))
    assert (row["policy_mean"], row["distilled_mean"], row["distilled_episodes"]) == ("9.0", "10.0", "2")


def test_that_the_table_has_every_score():
    text = printed(score_table(board(), "mimic"))
    for part in ("mimic", "pong", "10.00 ± 1.00", "9.00 ± 1.00", "0.900", "geometric mean", "1.061"):
        assert part in text
    assert printed(summary_table({"seed=0": board(), "seed=1": board()})).count("1.061") == 3


def test_that_games_of_the_table_have_human_normalised_scores():
    scores = board(games=GAMES)
    assert scores.human_normalised("expert", "pong") == pytest.approx((10.0 + 20.7) / (14.6 + 20.7))
    assert scores.human_normalised("student", "breakout") is None
    text = printed(score_table(scores))
    for part in ("human-normalised", "Wang et al. 2016", "0.870", "0.841"):  # 30.7 / 35.3 and 29.7 / 35.3
        assert part in text
    rows = list(csv.DictReader(io.StringIO(score_csv(scores))))
    assert [row["student_human_normalised"] for row in rows] == ["0.84136", ""]
    assert "random_human_normalised" not in rows[0]


def test_that_there_is_no_such_column_without_such_games():
    assert "human" not in printed(score_table(board())) + score_csv(board())


def test_that_the_table_says_how_it_was_played():
    assert "mean ± std over 2 episodes, epsilon 0.05" in printed(score_table(board(epsilon=0.05)))
    text = printed(score_table(with_epochs(board(epsilon=0.05), unfinished=["student"])))
    assert "over the episodes (n) that ended within 20 steps, epsilon 0.05" in text
    for part in ("2.00 (2)", "10.00 ± 1.00 (2)", "9.00 ± 1.00 (2)*", "*: not one episode ended"):
        assert part in text
    assert "*" not in printed(score_table(with_epochs(board())))


def test_that_a_score_of_what_was_cut_off_is_compared_with_nothing():
    scores = with_epochs(board(games=GAMES), unfinished=["student"])
    assert scores.student_share("pong") is None and scores.geometric_mean is None
    assert scores.human_normalised("student", "pong") is None
    assert scores.human_normalised("expert", "pong") is not None
    assert with_epochs(board()).geometric_mean == board().geometric_mean


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
