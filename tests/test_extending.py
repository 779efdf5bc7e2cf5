"""What docs/extending.md shows runs as it stands there."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from rllib_distill.cli.experiment import Experiment, read_experiment_file

pytestmark = pytest.mark.usefixtures("ray_session")
ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/extending.md").read_text()
FILES = dict(re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", PAGE, flags=re.DOTALL))
EXAMPLES = [name for name in FILES if name.endswith(".yaml")]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where a reader has written all files of the page."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    shutil.copytree(ROOT / "tuned_examples/experts/minatar", tmp_path / "experts")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_that_the_page_has_an_example_of_everything():
    assert len(EXAMPLES) == 5 and len(FILES) == 10


@pytest.mark.parametrize("example", EXAMPLES)
def test_that_an_example_learns(folder, example):
    ((name, spec),) = read_experiment_file(folder / example).items()
    experiment = Experiment.from_spec(name, spec)
    config = experiment.algorithm.get_default_config().update_from_dict(experiment.config)
    if hasattr(config, "training_intensity"):
        config.num_steps_sampled_before_learning_starts = 64
    config.reporting(min_time_s_per_iteration=0).evaluation(evaluation_duration=1)
    algo = config.build_algo()
    try:
        losses = []
        while not losses:
            learners = algo.train()["learners"]
            losses = [of["total_loss"] for of in learners.values() if "total_loss" in of]
        assert np.isfinite(losses).all()
        assert algo.evaluate()["env_runners"]["agent_episode_returns_mean"].keys() == config.tasks.keys()
    finally:
        algo.stop()
