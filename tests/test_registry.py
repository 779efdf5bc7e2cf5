"""Public names and registered names."""

import ast
import importlib
from pathlib import Path

import pytest

import rllib_distill
from rllib_distill.errors import DistillError
from rllib_distill.registry import ALGORITHMS, algorithm_class, register


def test_that_every_public_name_is_there():
    for name in rllib_distill.__all__:
        assert getattr(rllib_distill, name) is not None
    assert set(rllib_distill.__all__) <= set(dir(rllib_distill))


def test_that_type_checkers_see_the_public_names():
    """They do not run `__getattr__`, so the package imports for them what its table says."""
    tree = ast.parse(Path(rllib_distill.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.asname: f"{node.module}.{alias.name}" for node in block.body for alias in node.names}
    names = set(rllib_distill.__all__) - {"__version__"}
    assert seen == {name: f"{rllib_distill.registry.PUBLIC_NAMES[name]}.{name}" for name in names}


def test_that_other_names_are_not():
    with pytest.raises(AttributeError, match="Actormimic"):
        rllib_distill.Actormimic  # noqa: B018


def test_that_the_version_is_the_packages():
    assert rllib_distill.__version__ == importlib.metadata.version("rllib-distill")


def test_that_names_lead_to_classes():
    for name in ALGORITHMS:
        assert algorithm_class(name).__name__ == name
    assert algorithm_class("PPO").__name__ == "PPO"


@pytest.fixture
def user_code(tmp_path, monkeypatch):
    """A module of a user's, on the path."""
    text = "from ray.tune import Trainable\nclass Mine(Trainable): ...\nclass Other: ...\nnumber = 3\n"
    (tmp_path / "users_algorithms.py").write_text(text)
    (tmp_path / "users_broken.py").write_text("import no_such_module\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("user_code")
def test_that_a_module_and_a_name_lead_to_a_users_class():
    found = algorithm_class("users_algorithms:Mine")
    assert (found.__module__, found.__name__) == ("users_algorithms", "Mine")


@pytest.mark.usefixtures("user_code")
def test_that_what_tune_knows_is_known():
    from ray.tune import register_trainable

    register_trainable("users_own_name", importlib.import_module("users_algorithms").Mine)
    assert algorithm_class("users_own_name").__name__ == "Mine"


@pytest.mark.usefixtures("user_code")
@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("ActorMimik", ["'ActorMimik'", "Did you mean 'ActorMimic'", "PPO", "my_module:MyAlgorithm"]),
        (3, ["run is 3", "name"]),
        ("users_algorithm:Mine", ["no module 'users_algorithm'", "PYTHONPATH"]),
        ("users_algorithms.deeper:Mine", ["no module 'users_algorithms.deeper'"]),
        ("users_algorithms:Mime", ["users_algorithms has no 'Mime'", "Did you mean 'Mine'"]),
        ("users_algorithms:number", ["which is 3 (int)", "must be a class"]),
        ("users_algorithms:Other", ["'users_algorithms:Other'", "not an RLlib Algorithm"]),
        ("users_broken:Mine", ["cannot be imported", "no_such_module"]),
        (":Mine", ["a module and a name", "my_package:MyClass"]),
        ("users_algorithms:", ["a module and a name"]),
    ],
)
def test_that_other_names_are_refused(name, parts):
    with pytest.raises(DistillError) as refusal:
        algorithm_class(name)
    assert all(part in str(refusal.value) for part in parts), refusal.value
    assert "\n" not in str(refusal.value)


@pytest.mark.usefixtures("ray_session")
def test_that_registering_makes_names_usable_and_may_be_repeated():
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner
    from ray.tune.registry import get_trainable_cls

    register()
    register()
    assert all(get_trainable_cls(name) is algorithm_class(name) for name in ALGORITHMS)
    config = (
        PPOConfig()
        .environment("multi_task", env_config={"tasks": {"pole": "CartPole-v1"}})
        .multi_agent(policies={"student"}, policy_mapping_fn=lambda task, episode: "student")
    )
    runner = MultiAgentEnvRunner(config=config)
    (episode,) = runner.sample(num_episodes=1, random_actions=True)
    assert episode.agent_ids == {"pole"} and episode.is_done
    runner.stop()
