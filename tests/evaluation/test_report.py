"""From returns to tables, files and pictures."""

import csv
import io
import json
import math
from dataclasses import replace

import pytest
from rich.console import Console

from rllib_distill.env_runner.play import EpochReturns
from rllib_distill.env_runner.task_envs import EpisodeReturns
from rllib_distill.errors import DistillError
from rllib_distill.evaluation.files import write_atomically
from rllib_distill.evaluation.report import Report, games_of
from rllib_distill.evaluation.score_board import ScoreBoard
from rllib_distill.evaluation.table import score_csv, score_table, summary_table
from rllib_distill.evaluation.training_record import TrainingRecord
from rllib_distill.tasks.task import TaskSpec

GAMES = {"pong": "pong"}  # what the other task is called is no game


def board(random=(2.0, 1.0), expert=(10.0, 4.0), student=(9.0, 5.0), **options):
    """Two tasks; each score is the mean of two episodes, 1 apart from it."""
    players = {"random": random, "expert": expert, "student": student}
    return ScoreBoard(
        {
            player: {
                task: EpisodeReturns(task, (mean - 1.0, mean + 1.0), (3, 5))
                for task, mean in zip(("pong", "breakout"), means, strict=True)
            }
            for player, means in players.items()
        },
        **options,
    )


def with_epochs(scores, unfinished=()):
    """The same, played in epochs of 20 steps; those players' episodes were all cut off."""
    episodes = {
        player: {
            task: EpochReturns(task, played.returns, played.lengths, 20, player not in unfinished)
            for task, played in of_player.items()
        }
        for player, of_player in scores.episodes.items()
    }
    return replace(scores, episodes=episodes, steps=20)


def with_distilled(scores):
    """The student as a task policy beside a distilled one that plays as the expert does."""
    episodes = scores.episodes
    players = {"random": "random", "policy": "student", "distilled": "expert"}
    return replace(scores, episodes={player: episodes[who] for player, who in players.items()})


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


def test_that_only_ales_games_by_the_papers_rules_are_games_of_the_table():
    envs = {
        "a": {"env": "ALE/SpaceInvaders-v5", "env_config": {"frame_stack": 4}},
        "b": {"env": "ALE/SpaceInvaders-v5", "env_config": {"repeat_action_probability": 0.25}},
        "c": "ALE/Tetris-v5",
        "d": "MinAtar/Breakout-v1",
        "e": "breakout",
        "f": TaskSpec,
        "g": {"env": "ALE/Pong-v5", "max_episode_steps": 50},
        "h": {"env": "ALE/Pong-v5", "wrappers": ["gymnasium.wrappers.FlattenObservation"]},
    }
    specs = {name: TaskSpec.from_config(name, env) for name, env in envs.items()}
    assert games_of(specs) == {"a": "space_invaders"}


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


def test_that_files_say_how_it_was_played(report):
    scores = json.loads(report.to_json())["tasks"]["pong"]["student"]
    assert (scores["episodes"], scores["env_steps"]) == (2, 8) and "unfinished" not in scores
    row = next(csv.DictReader(io.StringIO(score_csv(board(epsilon=0.05)))))
    assert (row["student_episodes"], row["epsilon"]) == ("2", "0.05") and "steps" not in row

    epochs = with_epochs(report.board, unfinished=["student"])
    scores = json.loads(replace(report, board=epochs).to_json())["tasks"]["pong"]
    assert (scores["student"]["env_steps"], scores["student"]["unfinished"]) == (20, True)
    assert "unfinished" not in scores["expert"]
    row = next(csv.DictReader(io.StringIO(score_csv(epochs))))
    assert (row["steps"], row["unfinished"]) == ("20", "student")


EVALUATION = {
    "env_runners": {"agent_episode_returns_mean": {"pong": 2.5}},
    "num_healthy_workers": 0,  # RLlib's, in the results of iterations with an evaluation of their own
}
RECORD = TrainingRecord(
    tuple(
        {
            "training_iteration": i,
            "num_env_steps_sampled_lifetime": 100 * i,
            "time_total_s": 2.0 * i,
            "env_runners": {"agent_episode_returns_mean": {"pong": float(i)}},
            "evaluation": evaluation,
        }
        for i, evaluation in ((1, {}), (2, {}), (3, EVALUATION))
    )
)


@pytest.fixture
def report():
    return Report(board(), RECORD, {"algorithm": "ActorMimic", "evaluation": {"episodes": 2, "seed": 0}})


def test_that_a_report_is_written_whole(report, tmp_path):
    files = report.write(tmp_path)
    assert [path.name for path in files] == ["scores.json", "scores.csv", "learning_curves.png"]
    assert sorted(tmp_path.iterdir()) == sorted(files)  # nothing temporary is left
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["tasks"]["pong"]["student"]["returns"] == [8.0, 10.0]
    assert scores["tasks"]["pong"]["student_share"] == pytest.approx(0.9)
    assert scores["algorithm"] == "ActorMimic" and scores["measure"] == "ratio"
    assert scores["evaluations"] == RECORD.evaluations == [{"env_steps": 300, "student": {"pong": 2.5}}]
    assert scores["training_curve"] == [
        {"env_steps": 100 * i, "seconds": 2.0 * i, "returns": {"pong": float(i)}} for i in (1, 2, 3)
    ]
    rows = list(csv.DictReader((tmp_path / "scores.csv").open()))
    assert [row["task"] for row in rows] == ["pong", "breakout"]
    assert float(rows[1]["student_ratio"]) == 1.25 and float(rows[0]["expert_std"]) == 1.0
    assert (tmp_path / "learning_curves.png").read_bytes().startswith(b"\x89PNG")


def test_that_there_is_no_picture_without_a_record(report, tmp_path):
    names = [path.name for path in replace(report, record=TrainingRecord(())).write(tmp_path)]
    assert names == ["scores.json", "scores.csv"]


def test_that_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "scores.json"
    write_atomically(path, b"old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(DistillError, match=r"scores\.json: No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
