import logging

import pytest

from rllib_distill.experts import ExpertBank
from rllib_distill.tasks import TaskSet

ASTERIX = "tuned_examples/experts/minatar/asterix.safetensors"


def test_that_an_expert_of_another_game_with_equal_shapes_is_accepted_but_said(
    caplog: pytest.LogCaptureFixture,
):
    # Asterix and Breakout both have four channels, and Asterix has all of Breakout's actions.
    with caplog.at_level(logging.WARNING):
        ExpertBank.load({"mine": ASTERIX}, TaskSet.from_config({"mine": "MinAtar/Breakout-v1"}))
    assert "'mine' was made in 'MinAtar/Asterix-v1', but the task is 'MinAtar/Breakout-v1'" in caplog.text


def test_that_the_right_expert_is_taken_without_a_word(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        ExpertBank.load({"own": ASTERIX}, TaskSet.from_config({"own": "MinAtar/Asterix-v1"}))
    assert caplog.text == ""
