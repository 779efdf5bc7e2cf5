"""What Distral's configs say, and refuse."""

from dataclasses import replace
from types import MappingProxyType

import gymnasium as gym
import numpy as np
import pytest
import torch

from rllib_distill import DistralConfig, SoftQDistralConfig
from rllib_distill.algorithms.distral.distral import VARIANTS
from rllib_distill.algorithms.soft_q_distral.tabular import is_tabular
from rllib_distill.core.learner import FragmentData
from rllib_distill.env_runner import MultiTaskEnvRunner
from tests.algorithms.distral_tasks import TASKS, distral, soft_q, tabular
from tests.algorithms.tabular_envs import Walk
from tests.learners import STEP, learner_and_sample


@pytest.mark.parametrize("name", VARIANTS)
def test_that_a_variant_sets_alpha_and_columns_and_is_known_by_its_name(name):
    config = DistralConfig().multi_task(tasks=TASKS).variant(name)
    config.validate()
    assert (config.alpha, config.parameterization) == VARIANTS[name]
    assert config.variant_name == name


def test_that_files_choose_a_variant_and_may_change_its_alpha():
    config = DistralConfig().update_from_dict({"alpha": 0.3, "variant": "kl_ent_1col", "tasks": TASKS})
    assert (config.alpha, config.parameterization, config.variant_name) == (0.3, "one_column", "kl_ent_1col")


@pytest.mark.parametrize("other", [{"alpha": 0.3}, {"parameterization": "two_column"}])
def test_that_nothing_beside_a_variant_makes_another_of_it(other, refused):
    with refused("variant is 'kl_1col'", "'kl_ent_1col'" if "alpha" in other else "'kl_2col'"):
        DistralConfig().update_from_dict({"variant": "kl_1col", **other})


def test_that_modules_follow_the_variant_whatever_is_said_first():
    config = DistralConfig().multi_task(tasks=TASKS)
    assert list(config.policies) == ["left", "right", "distilled"]
    assert list(config.variant("a3c").policies) == ["left", "right"]
    assert list(config.variant("a3c_multitask").policies) == ["distilled"]
    assert config.policy_mapping_fn("left", None) == "distilled"
    assert list(config.variant("kl_2col").policies) == ["left", "right", "distilled"]


@pytest.mark.parametrize(
    ("training", "parts"),
    [
        ({"alpha": -0.1}, ("alpha is -0.1", ">= 0")),
        ({"alpha": 1.5}, ("alpha is 1.5", "<= 1")),
        ({"alpha": "0.5"}, ("alpha", "str")),
        ({"beta": 0}, ("beta is 0", "> 0")),
        ({"beta": -5.0}, ("beta", "> 0")),
        ({"beta": float("inf")}, ("beta",)),
        ({"beta": {"left": 5.0}}, ("beta has no value for 'right'",)),
        ({"beta": {"left": 5.0, "right": -1.0}}, ("beta of task 'right'", "> 0")),
        ({"alpha": {"left": 0.5, "rigth": 0.5}}, ("'rigth', which is no task", "'right'")),
        ({"parameterization": "two_columns"}, ("parameterization", "'two_column'")),
        ({"vf_loss_coeff": -1}, ("vf_loss_coeff", ">= 0")),
        ({"vtrace_clip_rho_threshold": 0}, ("vtrace_clip_rho_threshold", "> 0")),
        ({"epsilon": 0.1}, ("epsilon", "<= 0")),
        ({"init_from": "nowhere"}, ("nowhere", "does not exist", "checkpoint_000000")),
        ({"train_batch_size_per_learner": 60}, ("60", "rollout_fragment_length", "num_envs_per_task")),
        ({"network": {"type": "mlp", "lstm": 0}}, ("lstm",)),
        ({"variant": "kl_3col"}, ("'kl_3col'", "'kl_2col'", "'a3c_multitask'")),
        ({"variant": "a3c_multitask", "beta": {"left": 5.0, "right": 1.0}}, ("beta", "one number")),
        ({"parameterization": "shared"}, ("alpha is 0.5", "'shared'", "must be 0")),
        ({"heads": "per_task"}, ("heads is 'per_task'", "'shared'")),
        ({"tasks": {"distilled": TASKS["left"]}}, ("'distilled'", "rename")),
        ({"training_intensity": 2.0}, ("training_intensity", "Distral")),
    ],
)
def test_that_a_wrong_value_is_refused(training, parts, refused):
    with refused(*parts):
        distral().update_from_dict(training).validate()


def test_that_tasks_with_other_actions_are_refused(refused):
    games = {"breakout": "MinAtar/Breakout-v1", "asterix": "MinAtar/Asterix-v1"}
    with refused("'breakout' and 'asterix'", "3 (n, l, r)", "5 (n, l, u, r, d)", "-v0"):
        DistralConfig().multi_task(tasks=games).validate()
    all_actions = {name: env.replace("v1", "v0") for name, env in games.items()}
    DistralConfig().multi_task(tasks=all_actions).validate()


@pytest.mark.parametrize(
    ("training", "parts"),
    [
        ({"n_step": 0}, ("n_step", ">= 1")),
        ({"n_step": 11, "sequence_length": 10}, ("n_step is 11", "<= 10")),
        ({"n_step": 11}, ("train_batch_size_per_learner is 40", "11 rows", "multiple of 22")),
        ({"sequence_length": 0}, ("sequence_length is 0", ">= 1")),
        ({"burn_in_len": 1}, ("burn_in_len is 1", "<= 0")),
        ({"distil": "no"}, ("distil", "true or false")),
        ({"train_batch_size_per_learner": 30}, ("30", "multiple of", "20")),
        ({"network": {"type": "mlp", "lstm": 8}}, ("lstm",)),
        ({"target_network_update_freq": 0}, ("target_network_update_freq", ">= 1")),
    ],
)
def test_that_soft_q_refuses_a_wrong_value(training, parts, refused):
    with refused(*parts):
        soft_q(**training).validate()


def test_that_soft_qs_backups_may_be_longer_than_fragments():
    config = soft_q(n_step=15, train_batch_size_per_learner=None, replay_capacity=120)
    config.validate()
    assert config.sequences.length == 15 > config.rollout_fragment_length
    assert config.train_batch_size_per_learner % (2 * 15) == 0
    learner, runner = config.build_learner(), MultiTaskEnvRunner(config=config)
    learner.update(training_data=FragmentData([(0, runner.sample())]))
    assert learner.num_transitions == 0  # no sequence can be drawn yet
    learner.update(training_data=FragmentData([(0, runner.sample())]), **STEP)
    assert learner.num_transitions == 2 * 10 * 3 and learner.draw_minibatch().shape == (2, 15, 11)
    runner.stop()


@pytest.mark.parametrize("config", [distral, soft_q])
@pytest.mark.parametrize("tasks", [None, 5])
def test_that_what_is_no_tasks_is_refused_before_their_coefficients(config, tasks, refused):
    with refused(f"tasks is {tasks}", "e.g."):
        config().multi_task(tasks=tasks).validate()


@pytest.mark.parametrize("config", [distral, soft_q])
def test_that_only_evaluation_may_be_greedy(config, refused):
    with refused("explore is False", "evaluation_config"):
        config().env_runners(explore=False).validate()
    greedy = config().evaluation(evaluation_config={"explore": False})
    greedy.validate()
    greedy.get_evaluation_config_object().validate()


def overridden(config, module_id="distilled", **values):
    return config.rl_module(algorithm_config_overrides_per_module={module_id: values})


@pytest.mark.parametrize("config", [distral, soft_q])
def test_that_a_module_has_its_own_steps_and_nothing_else(config, refused):
    own = DistralConfig.overrides(lr=0.002, optimizer={"eps": 1e-5}, grad_clip=None, grad_clip_by="norm")
    valid = overridden(config(), **own)
    valid.validate()
    valid.get_evaluation_config_object().validate()
    with refused("'gamma'", "'distilled'", "lr, optimizer, grad_clip, grad_clip_by"):
        overridden(config(), gamma=0.5).validate()
    with refused("'alpha'", "alpha={task: ...}"):
        overridden(config(), "left", alpha=0.5).validate()


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["left"], ("{distilled: {lr: 0.001}}",)),
        ({"lfet": {"lr": 0.1}}, ("'lfet'", "Did you mean 'left'?")),
        ({"left": 0.1}, ("'left' is 0.1", "mapping")),
        ({"left": {"lr": "1e-3"}}, ("'left'", "lr", "0.001")),
        ({"left": {"lr": [["0%", 0.1], ["100%", 0.0]]}}, ("module 'left': lr", "stop")),
        ({"left": {"optimizer": {"epss": 1}}}, ("'left'", "'epss'", "'eps'")),
        ({"left": {"grad_clip": 0}}, ("'left'", "grad_clip is 0", "> 0")),
    ],
)
def test_that_wrong_overrides_are_refused(overrides, parts, refused):
    with refused("algorithm_config_overrides_per_module", *parts):
        distral().update_from_dict({"algorithm_config_overrides_per_module": overrides}).validate()
    with refused("'distilled'", "left, right"):
        overridden(distral("a3c"), lr=0.1).validate()


def test_that_one_module_alone_may_be_clipped():
    learner, batch = learner_and_sample(overridden(distral(grad_clip=None), "left", grad_clip=1e-6))
    losses = learner.compute_losses(fwd_out=learner.module.forward_train(batch), batch=batch)
    clipped = learner.postprocess_gradients(learner.compute_gradients(losses))
    norms = {
        module_id: max(
            clipped[learner.get_param_ref(p)].norm().item()
            for p in learner.get_parameters(learner.module[module_id])
        )
        for module_id in ("left", "right")
    }
    assert 0 < norms["left"] <= 1.01e-6 < norms["right"]


class Bytes(Walk):
    def __init__(self):
        super().__init__()
        self.observation_space = gym.spaces.Box(0, 1, (6,), np.uint8)


@pytest.mark.parametrize("env", ["CartPole-v1", "MinAtar/Breakout-v1", Bytes, TASKS["left"]])
def test_that_tables_want_one_hot_states(env, refused):
    with refused("observe", "one-hot", "observation: state", "FlattenObservation"):
        tabular(train_batch_size_per_learner=20).multi_task(tasks={"task": env}).validate()


@pytest.mark.parametrize("wrong", [[1, 1, 0], [0, 0, 0], [0, 0.5, 0], [0, 1, 0.5]])
def test_that_a_table_learns_from_no_other_states(wrong, refused, monkeypatch):
    learner, batch = learner_and_sample(tabular())

    def learn_from(observations, valid):
        columns = {**batch.columns, "valid": valid}
        drawn = replace(batch, observations=observations, columns=columns, final=None)
        monkeypatch.setattr(learner, "draw_minibatch", lambda: drawn)
        learner.update(**STEP)

    observations = torch.zeros_like(batch.observations, dtype=torch.float32)
    observations[..., 2] = 1
    valid = torch.ones_like(batch.columns["valid"])
    learn_from(observations, valid)
    table = learner.module["left"].network.head.weight
    assert table[:, 2].any() and not table[:, :2].any() and not table[:, 3:].any()
    observations[0, 1, 0, :3] = torch.tensor(wrong)
    with refused("one-hot", "observation: state"):
        learn_from(observations, valid)
    valid[0, 1, 0] = False  # such a row has no state that would matter
    learn_from(observations, valid)


def test_that_any_mapping_may_be_a_network():
    assert is_tabular(tabular(network=MappingProxyType({"type": "tabular"})))
    assert not is_tabular(tabular(network=None))


def test_that_tables_want_plain_gradient_descent(refused):
    with refused("'left'", "lr", "set lr for all"):
        overridden(tabular(), "left", lr=0.2).validate()
    with refused("optimizer", "sgd"):
        tabular(optimizer={"type": "adam"}).validate()
    with refused("lr is 1.5", "at most 1"):
        tabular(lr=1.5).validate()


def test_that_defaults_are_valid():
    for config in (DistralConfig(), SoftQDistralConfig()):
        config.multi_task(tasks=TASKS).validate()
    tabular().validate()
    soft_q(network={"type": "mlp", "hiddens": [8], "lstm": None}).validate()
