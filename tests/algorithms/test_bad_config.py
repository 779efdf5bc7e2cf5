"""Every mistake in a config is one line that says what is wrong and what is allowed."""

import gymnasium as gym
import numpy as np
import pytest

from rllib_distill import DistralConfig
from rllib_distill.algorithms.actor_mimic import ActorMimicConfig
from rllib_distill.errors import DistillError
from rllib_distill.experts import Expert
from tests.env_runner.counting_env import NAMED_TASKS, save_random_experts

NAN = float("nan")
ANY_ALGORITHM = [
    ("lr", -0.1, "lr"),
    ("lr", "1e-3", "0.001"),  # YAML reads 1e-3 as text
    ("lr", [[0, 0.1], [10, "x"]], "lr"),
    ("lr", [], "lr"),
    ("gamma", 1.5, "<= 1"),
    ("gamma", None, "NoneType"),
    ("training_intensity", 0, "> 0"),
    ("replay_capacity", 1e5, "an integer"),
    ("replay_capacity", 10, "replay_capacity"),
    ("num_envs_per_task", 0, ">= 1"),
    ("num_envs_per_task", "8", "str"),
    ("rollout_fragment_length", "auto", "an integer"),
    ("rollout_fragment_length", 0, ">= 1"),
    ("train_batch_size_per_learner", 13, "multiple of 2"),
    ("train_batch_size_per_learner", 0, ">= 1"),
    ("train_batch_size_per_learner", True, "bool"),
    ("num_steps_sampled_before_learning_starts", 10_000, "replay_capacity"),
    ("num_steps_sampled_before_learning_starts", 0, ">= 1"),
    ("epsilon", 1.5, "<= 1"),
    ("epsilon", [[0, 1.0], [0.5]], "epsilon"),
    ("epsilon", [[10, 1.0], [0, 0.5]], "ascend"),
    ("epsilon", [[0, 2.0]], "<= 1"),
    ("epsilon", "high", "epsilon"),
    ("evaluation_epsilon", -1, ">= 0"),
    ("optimizer", {"type": "adamm"}, "'adam'"),
    ("optimizer", {"type": "adam", "epss": 1}, "'eps'"),
    ("network", {"type": "mpl"}, "'mlp'"),
    ("network", {"type": "mlp", "hidden": [8]}, "'hiddens'"),
    ("network", "mlp", "mapping"),
    ("heads", "both", "'per_task'"),
    ("one_task_per_minibatch", "yes", "true or false"),
    ("mixed_precision", 1, "true or false"),
    ("num_env_runners", "2", "num_env_runners"),
    ("num_env_runners", -1, "num_env_runners"),
    ("num_learners", "2", "num_learners"),
    ("lr", [["0%", 0.1], ["100%", 0.0]], "stop"),
    ("lr", [["0", 0.1], ["100%", 0.0]], "'50%'"),
    ("lr", [["0%", 0.1], ["110%", 0.0]], "'110%'"),
    ("lr", [[0, 0.1], ["100%", 0.0]], "all shares"),
    ("epsilon", [["0%", 1.0], ["100%", 0.0]], "epsilon changes by shares"),
    ("epsilon", [["50%", 1.0], ["5%", 0.0]], "ascend"),
    ("stop", 100, "training_iteration"),
    ("stop", {"num_env_step_sampled_lifetime": 100}, "num_env_steps_sampled_lifetime"),
    ("stop", {"training_iteration": "100"}, "100.0"),
    ("stop", {"training_iteration": 0}, "> 0"),
    ("grad_clip", "40", "40.0"),
    ("grad_clip", -1, "> 0"),
    ("grad_clip_by", "size", "'global_norm'"),
    ("max_requests_in_flight_per_env_runner", 0, ">= 1"),
    ("max_requests_in_flight_per_env_runner", 1.5, "an integer"),
]
ACTOR_MIMIC = [
    ("tau", 0, "> 0"),
    ("tau", {"short": 0.1}, "no value for 'long'"),
    ("tau", {"short": 0.1, "lnog": 0.1}, "'lnog', which is no task"),
    ("tau", {"short": 0.1, "long": 0}, "tau of task 'long'"),
    ("tau", -1.0, "> 0"),
    ("tau", NAN, "> 0"),
    ("tau", "low", "str"),
    ("beta", -0.01, ">= 0"),
    ("beta", None, "NoneType"),
    ("behaviour", "teacher", "'expert'"),
    ("behaviour", 1.5, "<= 1"),
    ("behaviour", [[0, 1.0], [10, -0.1]], ">= 0"),
    ("behaviour", {"type": "exponential", "initial": 2}, "<= 1"),
    ("behaviour", {"type": "exponential", "half_life": 0}, "> 0"),
    ("behaviour", {"type": "exponential", "halflife": 9}, "'half_life'"),
    ("behaviour", {"type": "cosine"}, "exponential"),
    ("behaviour", {"type": "exponential", "half_life": "x%"}, "'x%'"),
    ("behaviour", {"type": "exponential", "half_life": "0%"}, "'0%'"),
    ("behaviour", {"type": "exponential", "half_life": "10%"}, "behaviour changes by shares"),
    ("behaviour", None, "'student', 'expert'"),
    ("behaviour", True, "'student', 'expert'"),
]
POLICY_DISTILLATION = [
    ("tau", 0, "> 0"),
    ("loss", "l2", "'mse'"),
    ("objective", "rl", "'distillation'"),
    ("rl_coeff", -1, ">= 0"),
    ("imitation_coeff", "dagger", "'qdagger'"),
    ("imitation_coeff", "qdagger", "rl_coeff"),
    ("imitation_coeff", [[0, -1.0]], ">= 0"),
    ("imitation_coeff", [["0%", 1.0], ["100%", 0.0]], "imitation_coeff changes by shares"),
    ("online_expert", "worst", "'best'"),
    ("behaviour", [[0, 1.2], [10, 0.0]], "<= 1"),
    ("experts", "offline", "'online'"),
    ("objective", "expected_entropy_regularised", "'student'"),
    ("n_step", 0, ">= 1"),
]
DQN = [
    ("tau", 0, "> 0"),
    ("tau", 1.5, "<= 1"),
    ("huber_delta", 0, "> 0"),
    ("double_q", "yes", "double_q"),
    ("shared", "yes", "true or false"),
    ("target_network_update_freq", 0, ">= 1"),
]


def test_that_unknown_settings_are_answered_with_the_nearest_known():
    for config in (DistralConfig(), ActorMimicConfig()):
        with pytest.raises(DistillError, match=r"Unknown key 'betta' in .* Did you mean 'beta'"):
            config.training(betta=1.0)


def test_that_rllibs_names_of_our_settings_are_told_from_ours():
    config = DistralConfig().multi_task(tasks={"cart": "CartPole-v1"})
    with pytest.raises(DistillError, match=r"model_config is \{'use_lstm': True\}; .* set e\.g\. network"):
        config.copy().rl_module(model_config={"use_lstm": True}).validate()
    with pytest.raises(DistillError, match=r"num_envs_per_env_runner is 4; .* num_envs_per_task \(16\)"):
        config.env_runners(num_envs_per_env_runner=4).validate()


@pytest.mark.parametrize(("key", "value", "allowed"), ANY_ALGORITHM + ACTOR_MIMIC)
def test_that_a_bad_value_of_actor_mimic_is_refused(actor_mimic, refused, key, value, allowed):
    config = actor_mimic()
    with refused(key, allowed):
        config.update_from_dict({key: value})
        config.validate()


@pytest.mark.parametrize(("key", "value", "allowed"), POLICY_DISTILLATION)
def test_that_a_bad_value_of_policy_distillation_is_refused(distillation, refused, key, value, allowed):
    with refused(key if key != "objective" or value == "rl" else "behaviour", allowed):
        distillation().update_from_dict({key: value}).validate()


@pytest.mark.parametrize(("key", "value", "allowed"), DQN)
def test_that_a_bad_value_of_dqn_is_refused(dqn, refused, key, value, allowed):
    with refused(key, allowed):
        dqn().update_from_dict({key: value}).validate()


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("betta", "beta"),
        ("expert", "experts"),
        ("task", "tasks"),
        ("num_envs_per_tasks", "num_envs_per_task"),
        ("learning_rate", ""),
    ],
)
def test_that_an_unknown_key_is_refused_with_the_nearest_known(refused, key, near):
    with refused(f"'{key}'", "ActorMimic", f"'{near}" if near else "Did you mean"):
        ActorMimicConfig().update_from_dict({key: 1})


def test_that_the_old_api_stack_is_refused(refused):
    with refused("new API stack"):
        ActorMimicConfig().update_from_dict({"enable_rl_module_and_learner": False})


@pytest.mark.parametrize(
    ("tasks", "says"),
    [
        ({}, "at least one"),
        (["CartPole-v1"], "CartPole-v1"),
        (None, "None"),
        ({"pole": "CartPol-v1"}, "CartPole-v1"),
        ({"pole": {"env": "CartPole-v1", "wrapper": []}}, "wrappers"),
        ({"pole": "Pendulum-v1"}, "Discrete"),
    ],
)
def test_that_bad_tasks_are_refused(refused, tasks, says):
    with refused(says):
        ActorMimicConfig().multi_task(tasks=tasks).validate()
    with refused(says):
        ActorMimicConfig().update_from_dict({"tasks": tasks}).validate()


def test_that_a_config_without_tasks_is_refused(refused):
    with refused("tasks"):
        ActorMimicConfig().validate()


class Image(gym.Env):
    """Observes what no vector can be padded to."""

    observation_space = gym.spaces.Box(0, 1, (4, 4, 1), np.float32)
    action_space = gym.spaces.Discrete(2)


def test_that_tasks_that_cannot_share_a_student_are_refused(actor_mimic, refused, paths):
    tasks = {"short": NAMED_TASKS["short"], "image": Image}
    with refused("'short'", "'image'", "(3,)", "(4, 4, 1)"):
        actor_mimic().multi_task(tasks=tasks).experts({"short": paths["short"], "image": "x"}).validate()


def test_that_experts_must_fit_their_tasks(actor_mimic, refused, paths, tmp_path):
    with refused("long"):
        actor_mimic().experts({"short": paths["short"]}).validate()
    with refused("third"):
        actor_mimic().experts({**paths, "third": paths["long"]}).validate()
    with refused("nowhere.safetensors"):
        actor_mimic().experts({**paths, "long": "nowhere.safetensors"}).validate()
    with refused("'long'", "observations"):
        actor_mimic().experts({**paths, "long": paths["short"]}).validate()
    with refused("map each task", "['short', 'long']"):
        actor_mimic().experts(list(paths)).validate()
    with refused("map each task", "'online'"):  # only Policy Distillation's experts may still learn
        actor_mimic().experts("online").validate()
    other = {"short": {**NAMED_TASKS["short"], "env_config": {"size": 3, "meanings": "xy"}}}
    with refused("'short'", "actions"):
        actor_mimic().experts(paths | save_random_experts(tmp_path, other)).validate()
    truncated = tmp_path / "short.safetensors"
    truncated.write_bytes(truncated.read_bytes()[:-9])
    with refused("truncated"):
        actor_mimic().experts({**paths, "short": truncated}).validate()


def test_that_policy_distillation_wants_experts_that_know_what_it_asks_of_them(
    distillation, refused, bank, paths, tmp_path
):
    logits = Expert(
        bank["short"].info.model_copy(update={"kind": "logits"}), bank["short"].network.state_dict()
    )
    logits.save(tmp_path / "logits.safetensors")
    experts = {**paths, "short": tmp_path / "logits.safetensors"}
    with refused("mse", "'short'", "logits"):
        distillation(loss="mse").experts(experts).validate()
    distillation(loss="nll").experts(experts).validate()
    unknown = Expert(
        bank["long"].info.model_copy(update={"expected_return": None}), bank["long"].network.state_dict()
    )
    unknown.save(tmp_path / "unknown.safetensors")
    with refused("qdagger", "'long'", "expected_return"):
        distillation(rl_coeff=1.0, imitation_coeff="qdagger").experts(
            {**paths, "long": tmp_path / "unknown.safetensors"}, behaviour="student"
        ).validate()


def test_that_an_expert_that_cannot_act_in_its_task_is_refused_as_the_actor(
    distillation, refused, paths, tmp_path
):
    fewer = {"long": {**NAMED_TASKS["long"], "env_config": {"size": 5, "meanings": "nud"}}}
    with refused("'long'", "3 actions", "4 actions"):
        distillation().experts(
            {**paths, **save_random_experts(tmp_path, fewer)}, behaviour="expert"
        ).validate()


def test_that_a_task_may_not_be_called_as_the_student_is(online, refused):
    with refused("'student'", "call the task otherwise"):
        online().multi_task(tasks={"student": NAMED_TASKS["short"]}).validate()


@pytest.mark.parametrize(
    ("training", "says"),
    [
        ({"epsilon": 0.05}, ("epsilon", "0.05", "must be 0")),
        ({"loss": "mse"}, ("loss", "'kl'")),
        ({"rl_coeff": 1.0}, ("rl_coeff", "must be 0")),
    ],
)
def test_that_the_on_policy_objective_refuses_what_it_would_ignore(distillation, refused, training, says):
    config = distillation(objective="expected_entropy_regularised", epsilon=0.0).experts(behaviour=0.0)
    config.validate()
    with refused(*says):
        config.copy().training(**training).validate()


def test_that_settings_under_which_nothing_would_be_learned_are_refused(distillation, online, refused):
    with refused("imitation_coeff", "rl_coeff", "both 0"):
        distillation(imitation_coeff=0).validate()
    with refused("qdagger", "behaviour", "[[0, 1.0], [100000, 0.0]]"):
        distillation(rl_coeff=1.0, imitation_coeff="qdagger").validate()
    with refused("online_expert", "'current'"):
        online().experts(behaviour="student").validate()
    online().experts(behaviour="student", online_expert="current").validate()


def test_that_separate_dqns_draw_side_by_side_whatever_one_task_per_minibatch_says(dqn):
    config = dqn(one_task_per_minibatch=True)
    config.validate()
    assert not config.minibatch_is_of_one_task
