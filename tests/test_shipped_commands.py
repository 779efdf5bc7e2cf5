"""What is shipped runs: the quickstart, every tuned example for an iteration, and the README's Python."""

import re
import subprocess
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
import yaml

from rllib_distill.cli.app import run
from rllib_distill.cli.experiment import Experiment, grid_points, read_experiment_file
from tests.env_runner.counting_env import save_random_experts

pytestmark = pytest.mark.usefixtures("ray_session")
ROOT = Path(__file__).parents[1]
EXPERIMENTS = {}  # of those of one file that differ in tasks and experts alone, the first
for path in sorted(ROOT.glob("tuned_examples/*/*.yaml")):
    seen = []
    for name, spec in read_experiment_file(path).items():
        settings = {key: spec["config"][key] for key in spec["config"].keys() - {"tasks", "experts"}}
        if settings not in seen:
            EXPERIMENTS[f"{path.parent.name}/{path.stem}/{name}"] = Experiment.from_spec(name, spec)
            seen.append(settings)
README = (ROOT / "README.md").read_text()


def quick(config: dict[str, Any]) -> dict[str, Any]:
    """The config with replay buffers, games, waiting and processes cut down to what one update needs.

    In float32, too: without AMX, bfloat16 takes ten times as long.
    """
    small = {"num_env_runners": 0, "min_time_s_per_iteration": 0, "evaluation_interval": None}
    if "mixed_precision" in config:
        small["mixed_precision"] = False
    if "replay_capacity" in config:
        small |= {"replay_capacity": 2_000, "num_steps_sampled_before_learning_starts": 20}
    if "ALE/" in str(config["tasks"]):
        small |= {"num_envs_per_task": 2, "rollout_fragment_length": 4}
        few = list(config["tasks"])[:3]
        config["tasks"] = {task: config["tasks"][task] for task in few}
        if isinstance(config.get("experts"), dict):
            config["experts"] = {task: config["experts"][task] for task in few}
        small["train_batch_size_per_learner"] = len(few)
    for key in ("min_sample_timesteps_per_iteration", "evaluation_duration", "evaluation_duration_unit"):
        config.pop(key, None)
    return {**config, **small}


def write_missing_experts(config: dict[str, Any], folder: Path) -> None:
    """Experts that are the user's to train get random weights."""
    paths = config.get("experts")
    if isinstance(paths, dict) and not all((ROOT / path).exists() for path in paths.values()):
        config["experts"] = save_random_experts(folder, config["tasks"])


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=EXPERIMENTS)
def test_that_a_tuned_example_learns(experiment, tmp_path):
    config = quick(next(iter(grid_points(experiment.config))))
    write_missing_experts(config, tmp_path)
    algo = experiment.algorithm.get_default_config().update_from_dict(config).build_algo()
    try:
        for _ in range(100):
            learners = algo.train()["learners"]
            if learners.get("__all_modules__", {}).get("num_updates_lifetime", 0) > 0:
                break
        else:
            pytest.fail(f"no update in 100 iterations: {learners}")
    finally:
        algo.stop()


def test_that_the_quickstart_ends_with_its_table(tmp_path, capsys):
    """GIVEN the command of `make quickstart` WHEN it is stopped early THEN it still plays and reports."""
    (command,) = (
        line.split()
        for line in subprocess.run(
            ["make", "-n", "quickstart"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.splitlines()
        if "rllib" in line and "pip" not in line
    )
    assert command[:3] == [".venv/bin/rllib", "train", "file"]
    experiments = yaml.safe_load((ROOT / command[3]).read_text())
    (experiment,) = experiments.values()
    experiment["report"] = {**experiment.get("report", {}), "episodes": 1}
    experiment["stop"] = {"training_iteration": 1}
    experiment["config"]["min_time_s_per_iteration"] = 1
    (tmp_path / "quick.yaml").write_text(yaml.safe_dump(experiments))
    with chdir(ROOT):
        code = run(
            ["train", "file", str(tmp_path / "quick.yaml"), "--storage-path", str(tmp_path), *command[4:]]
        )
    out = capsys.readouterr().out
    assert code == 0 and "geometric mean" in out and "expected of this file" in out, out


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_that_the_readmes_python_runs(code, tmp_path, monkeypatch):
    """As it stands, but for fewer iterations, in a folder that has the examples' experts."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tuned_examples").symlink_to(ROOT / "tuned_examples")
    exec(compile(re.sub(r"range\(\d+\)", "range(2)", code), "README.md", "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("text", re.findall(r"```yaml\n([\w-]+:\n  run: .*?)```", README, re.DOTALL))
def test_that_the_readmes_experiments_are_valid(text, tmp_path, monkeypatch):
    from rllib_distill.cli.experiment import check_experiment

    monkeypatch.chdir(ROOT)
    (tmp_path / "readme.yaml").write_text(text)
    for name, spec in read_experiment_file(tmp_path / "readme.yaml").items():
        check_experiment(Experiment.from_spec(name, spec), None)
