"""What is shown while trials run."""

import io

import pytest
from rich.console import Console

from rllib_distill.cli.progress import LiveView, TrialProgress, clock, line, picture


def result(iteration, **more):
    return {
        "training_iteration": iteration,
        "num_env_steps_sampled_lifetime": iteration * 1000,
        "time_total_s": iteration * 2.0,
        "learners": {"student": {"total_loss": 0.5}, "__all_modules__": {"num_updates_lifetime": 3}},
        "env_runners": {"agent_episode_returns_mean": {"pong": 20.54, "breakout": float("nan")}},
        **more,
    }


@pytest.fixture
def trial():
    return TrialProgress("mimic", {"training_iteration": 10}, ("pong", "breakout"))


def test_that_a_line_tells_everything(trial):
    trial.update(result(4))
    text = line(trial)
    for part in (
        "mimic  40%",
        "4,000 env steps (500/s)",
        "loss 0.5",
        "return: pong 20.5",
        "0:08 so far",
        "0:12 left",
    ):
        assert part in text
    assert "breakout" not in text  # no episode of it has ended


def test_that_a_picture_fits_in_any_width(trial):
    trial.update(result(4))
    for width in (20, 60, 200):
        console = Console(file=io.StringIO(), width=width, force_terminal=True)
        console.print(picture([trial] * 20, "stopping"))
        assert "12 more trials" in console.file.getvalue()


def test_that_a_pipe_gets_a_line_now_and_then_and_the_last(trial):
    console = Console(file=io.StringIO(), width=200)
    with LiveView(console) as view:
        view.add("0", trial)
        for i in range(1, 6):
            view.update("0", result(i))
        view.update("0", result(10, done=True))
    assert [text.split()[1] for text in console.file.getvalue().splitlines()] == ["10%", "100%"]


def test_that_a_terminal_shows_only_what_runs(trial):
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    with LiveView(console) as view:
        view.add("0", trial)
        view.update("0", result(10, done=True))
        view.add("1", TrialProgress("another", {}, ()))
        view.update("1", result(1))
        console.file.truncate(0)
    assert "another" in console.file.getvalue() and "mimic" not in console.file.getvalue()


def test_that_clocks_are_readable():
    assert [clock(59.6), clock(3723), clock(None)] == ["1:00", "1:02:03", "?"]
