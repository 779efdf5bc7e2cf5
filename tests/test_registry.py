"""Public names and registered names."""

import importlib

import pytest

import rllib_distill
from rllib_distill.errors import DistillError
from rllib_distill.registry import ALGORITHMS, algorithm_class, register


def test_that_every_public_name_is_there():
    for name in rllib_distill.__all__:
        assert getattr(rllib_distill, name) is not None
    assert set(rllib_distill.__all__) <= set(dir(rllib_distill))


def test_that_other_names_are_not():
    with pytest.raises(AttributeError, match="Actormimic"):
        rllib_distill.Actormimic  # noqa: B018


def test_that_the_version_is_the_packages():
    assert rllib_distill.__version__ == importlib.metadata.version("rllib-distill")


def test_that_names_lead_to_classes():
    for name in ALGORITHMS:
        assert algorithm_class(name).__name__ == name
    assert algorithm_class("PPO").__name__ == "PPO"
    with pytest.raises(DistillError, match="'ActorMimic'"):
        algorithm_class("ActorMimik")


@pytest.mark.usefixtures("ray_session")
def test_that_registering_makes_names_usable_and_may_be_repeated():
    from ray.tune.registry import _global_registry, get_trainable_cls

    register()
    register()
    assert all(get_trainable_cls(name) is algorithm_class(name) for name in ALGORITHMS)
    env = _global_registry.get("env_creator", "multi_task")({"tasks": {"pole": "CartPole-v1"}})
    assert env.possible_agents == ["pole"]
    env.close()
