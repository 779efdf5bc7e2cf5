"""The program run in this process, and experiments small enough for it."""

import json
import logging
import os
from dataclasses import dataclass

import pytest
import yaml

from rllib_distill.cli.app import run
from rllib_distill.experts import Expert, ExpertInfo
from rllib_distill.networks import build_network
from rllib_distill.tasks import TaskSet


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    """The program changes environment variables and log levels and writes below the working folder."""
    levels = {name: logging.getLogger(name).level for name in ("ray", "ray.rllib", "ray.tune")}
    environ = dict(os.environ)
    monkeypatch.chdir(tmp_path)
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    os.environ.clear()
    os.environ.update(environ)


@pytest.fixture
def rllib(capsys):
    """Returns a function that runs the program with arguments."""

    def rllib(*arguments):
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        return Outcome(code, *capsys.readouterr())

    return rllib


@pytest.fixture
def write_file(tmp_path):
    """Returns a function that writes experiments, a mapping or a text, to a YAML file."""

    def write(experiments):
        path = tmp_path / "experiments.yaml"
        path.write_text(
            experiments if isinstance(experiments, str) else yaml.safe_dump(experiments, sort_keys=False)
        )
        return path

    return write


@pytest.fixture
def experts(tmp_path):
    """Task -> relative path of its expert, with random weights."""
    (tmp_path / "experts").mkdir()
    paths = {}
    for name, task in TaskSet.from_config({"pole": "CartPole-v1", "acrobot": "Acrobot-v1"}).items():
        network = {"type": "mlp", "hiddens": [8]}
        info = ExpertInfo.for_task(task, kind="q_values", network=network, made_by={})
        weights = build_network(network, info.observation_shape, info.num_actions).state_dict()
        paths[name] = f"experts/{name}.safetensors"
        Expert(info, weights).save(tmp_path / paths[name])
    return paths


@pytest.fixture
def dqn():
    """Two iterations of MultiTaskDQN."""
    return {
        "run": "MultiTaskDQN",
        "stop": {"training_iteration": 2},
        "report": {"episodes": 3, "epsilon": 0.05, "seed": 1},
        "config": {
            "tasks": {"pole": "CartPole-v1", "acrobot": {"env": "Acrobot-v1", "max_episode_steps": 30}},
            "network": {"type": "mlp", "hiddens": [8]},
            "num_envs_per_task": 2,
            "num_steps_sampled_before_learning_starts": 20,
            "replay_capacity": 200,
            "min_time_s_per_iteration": 0,
            "seed": 7,
        },
    }


@pytest.fixture
def mimic(experts):
    """Two iterations of ActorMimic on one task."""
    return {
        "run": "ActorMimic",
        "stop": {"training_iteration": 2},
        "report": {"episodes": 3},
        "config": {
            "tasks": {"pole": "CartPole-v1"},
            "experts": {"pole": experts["pole"]},
            "network": {"type": "mlp", "hiddens": [8]},
            "num_envs_per_task": 2,
            "num_steps_sampled_before_learning_starts": 20,
            "replay_capacity": 200,
            "min_time_s_per_iteration": 0,
        },
    }


@pytest.fixture
def read_json():
    """Returns a function that reads a JSON file."""
    return lambda path: json.loads(path.read_text())
