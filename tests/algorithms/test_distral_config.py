"""What Distral's configs say, and refuse."""

import pytest

from rllib_distill import DistralConfig, SoftQDistralConfig
from rllib_distill.algorithms.distral.variants import VARIANTS
from tests.algorithms.distral_tasks import TASKS, distral, soft_q, tabular


@pytest.mark.parametrize("name", VARIANTS)
def test_that_a_variant_sets_alpha_and_columns_and_is_known_by_its_name(name):
    config = DistralConfig().multi_task(tasks=TASKS).variant(name)
    config.validate()
    assert (config.alpha, config.parameterization) == VARIANTS[name]
    assert config.variant_name == name


def test_that_files_choose_a_variant_and_may_change_its_alpha():
    config = DistralConfig().update_from_dict({"alpha": 0.3, "variant": "kl_1col", "tasks": TASKS})
    assert (config.alpha, config.parameterization, config.variant_name) == (0.3, "one_column", "kl_ent_1col")


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
        ({"init_from": "nowhere"}, ("nowhere", "no checkpoint with a distilled policy")),
        ({"network": {"type": "mlp", "lstm": 0}}, ("lstm",)),
    ],
)
def test_that_a_wrong_value_is_refused(training, parts, refused):
    with refused(*parts):
        distral(**training).validate()


def test_that_one_policy_for_all_tasks_has_one_objective(refused):
    with refused("beta", "a3c_multitask", "one number"):
        distral("a3c_multitask", beta={"left": 5.0, "right": 1.0}).validate()
    with refused("alpha is 0.5", "'shared'", "must be 0"):
        distral("a3c_multitask", alpha=0.5).validate()


def test_that_an_unknown_variant_names_all(refused):
    with refused("'kl_3col'", "'kl_2col'", "'a3c_multitask'"):
        DistralConfig().variant("kl_3col")


def test_that_tasks_with_other_actions_are_refused(refused):
    games = {"breakout": "MinAtar/Breakout-v1", "asterix": "MinAtar/Asterix-v1"}
    with refused("'breakout' and 'asterix'", "3 (n, l, r)", "5 (n, l, u, r, d)", "-v0"):
        DistralConfig().multi_task(tasks=games).validate()
    all_actions = {name: env.replace("v1", "v0") for name, env in games.items()}
    DistralConfig().multi_task(tasks=all_actions).validate()


def test_that_columns_have_one_kind_of_head(refused):
    config = distral()
    config.heads = "per_task"
    with refused("heads is 'per_task'", "'shared'"):
        config.validate()


def test_that_no_task_is_called_distilled(refused):
    config = DistralConfig().multi_task(tasks={"distilled": TASKS["left"]})
    with refused("'distilled'", "rename"):
        config.validate()


def test_that_keys_of_replay_are_unknown_to_an_algorithm_without(refused):
    with refused("replay_ratio", "Distral"):
        DistralConfig().update_from_dict({"tasks": TASKS, "replay_ratio": 2.0})


@pytest.mark.parametrize(
    ("training", "parts"),
    [
        ({"n_step": 0}, ("n_step", ">= 1")),
        ({"n_step": 11}, ("n_step is 11", "<= 10")),
        ({"distil": "no"}, ("distil", "true or false")),
        ({"train_batch_size_per_learner": 30}, ("30", "multiple of", "20")),
        ({"network": {"type": "mlp", "lstm": 8}}, ("lstm",)),
        ({"target_network_update_freq": 0}, ("target_network_update_freq", ">= 1")),
    ],
)
def test_that_soft_q_refuses_a_wrong_value(training, parts, refused):
    with refused(*parts):
        soft_q(**training).validate()


def test_that_tables_want_plain_gradient_descent(refused):
    with refused("optimizer", "sgd"):
        tabular(optimizer={"type": "adam"}).validate()
    with refused("lr is 1.5", "at most 1"):
        tabular(lr=1.5).validate()
    tabular().validate()


def test_that_defaults_are_valid():
    for config in (DistralConfig(), SoftQDistralConfig()):
        config.multi_task(tasks=TASKS).validate()
