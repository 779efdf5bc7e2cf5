"""Schedules by env steps and by progress: the share of the run that is done, whatever its end counts."""

import time

import pytest

from rllib_distill import ActorMimic
from rllib_distill.core.experts import expert_share
from rllib_distill.core.schedules import Elapsed, share_done, value_at
from tests.learners import learner_of

ENV_STEPS = "num_env_steps_sampled_lifetime"
UPDATES = "learners/__all_modules__/num_updates_lifetime"
BY_PROGRESS = [["0%", 1.0], ["50%", 0.5], ["100%", 0.0]]


@pytest.mark.parametrize(("step", "value"), [(0, 1.0), (50, 0.55), (100, 0.1), (10_000, 0.1)])
def test_that_schedules_are_linear_between_their_points(step, value):
    assert value_at([[0, 1.0], [100, 0.1]], Elapsed(step, progress=0.9)) == pytest.approx(value)
    assert value_at(0.3, Elapsed(step)) == 0.3


@pytest.mark.parametrize(("progress", "value"), [(0.0, 1.0), (0.25, 0.55), (0.5, 0.1), (1.0, 0.1)])
def test_that_shares_of_the_run_are_points_as_well(progress, value):
    assert value_at([["0%", 1.0], ["50%", 0.1]], Elapsed(10**6, progress)) == pytest.approx(value)


def test_that_a_half_life_can_be_a_share_of_the_run():
    behaviour = {"type": "exponential", "half_life": "12.5%"}
    assert expert_share(behaviour, Elapsed(10**6, 0.25)) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("stop", "share"),
    [
        ({ENV_STEPS: 200}, 0.25),
        ({ENV_STEPS: 200, UPDATES: 40, "training_iteration": 100}, 0.5),  # the furthest counts
        ({ENV_STEPS: 20}, 1.0),
        ({ENV_STEPS: 200, "env_runners/episode_return_mean": -10.0}, 0.25),  # a return is no progress
        ({"env_runners/episode_return_mean": 10.0}, None),
        ({}, None),
        (None, None),
    ],
)
def test_that_the_share_that_is_done_is_that_of_the_furthest_counter(stop, share):
    counts = {ENV_STEPS: 50, UPDATES: 20, "training_iteration": 3, "env_runners/episode_return_mean": 8.0}
    assert share_done(stop, counts.__getitem__) == share


def learning_rate(algo, module_id="student"):
    ((_, optimizer),) = learner_of(algo).get_optimizers_for_module(module_id)
    return optimizer.param_groups[0]["lr"]


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize(
    ("stop", "shares"),
    [
        ({"training_iteration": 10}, lambda result: (result["training_iteration"] - 1) / 10),
        ({ENV_STEPS: 1000}, lambda result: result[ENV_STEPS] / 1000),
        ({ENV_STEPS: 10**6, UPDATES: 40}, lambda result: None),
        ({"time_total_s": 1.0}, lambda result: None),
    ],
)
def test_that_learning_rates_and_epsilon_follow_progress_after_a_restore_too(
    actor_mimic, epsilons, stop, shares, tmp_path
):
    config = actor_mimic(lr=BY_PROGRESS, epsilon=BY_PROGRESS, stop=stop)
    algo = config.build_algo()
    results = [algo.train() for _ in range(6)]
    if "time_total_s" in stop:  # as if it had been half of the time
        algo.set_state({**algo.get_state(), "time_total_s": 0.5})
        results.append(algo.train())
    assert not any(result["done"] for result in results)
    lr, epsilon = learning_rate(algo), epsilons[-1]
    share = shares(results[-1])
    if share is not None:
        assert lr == pytest.approx(value_at(BY_PROGRESS, Elapsed(0, share)))
    assert 0.05 < lr < 0.95 and epsilon >= lr
    counts, progress = algo.get_state()["counts"], algo.elapsed().progress
    algo.save_to_path(tmp_path)
    algo.stop()

    again = ActorMimic.from_checkpoint(tmp_path)
    assert again.config.stop == stop
    assert again.elapsed().progress >= progress > 0  # of seconds, too, which RLlib forgets
    assert again.get_state()["counts"] == counts  # RLlib's metrics have no number of updates until the next
    result = again.train()
    assert 0 < lr - learning_rate(again) < 0.4
    assert epsilon >= epsilons[-1]
    while not result["done"]:
        result = again.train()
    reached = {**result, UPDATES: result["learners"]["__all_modules__"]["num_updates_lifetime"]}
    assert any(reached[key] >= end for key, end in stop.items())
    again.stop()


@pytest.mark.usefixtures("ray_session")
def test_that_a_counter_of_each_task_is_refused_with_the_way_out(actor_mimic, refused):
    key = "env_runners/num_agent_steps_sampled_lifetime"
    algo = actor_mimic(lr=BY_PROGRESS, stop={key: 10**6}).build_algo()
    with refused(key, f"{key}/"):
        for _ in range(3):
            algo.train()
    algo.stop()


@pytest.mark.usefixtures("ray_session")
def test_that_seconds_count_within_an_iteration(actor_mimic, monkeypatch):
    algo = actor_mimic(lr=BY_PROGRESS, stop={"time_total_s": 100.0}).build_algo()
    algo.set_state({**algo.get_state(), "time_total_s": 25.0})
    assert algo.elapsed().progress == pytest.approx(0.25)
    seen = []

    def step():
        for _ in range(2):
            seen.append((time.monotonic(), algo.elapsed().progress))
            time.sleep(0.2)

    monkeypatch.setattr(algo, "training_step", step)
    result = algo.train()
    (began, first), (ended, second) = seen
    assert 0.25 <= first < second <= result["time_total_s"] / 100
    assert second - first == pytest.approx((ended - began) / 100, rel=0.05)
    algo.stop()


@pytest.mark.usefixtures("ray_session")
def test_that_a_module_may_have_a_schedule_of_its_own(dqn):
    config = dqn(lr=0.1, stop={"training_iteration": 4})
    config.algorithm_config_overrides_per_module = {"long": {"lr": [["0%", 0.5], ["100%", 0.1]]}}
    algo = config.build_algo()
    for _ in range(4):
        algo.train()
    rates = {module_id: learning_rate(algo, module_id) for module_id in ("short", "long")}
    assert rates == pytest.approx({"short": 0.1, "long": 0.2})  # three of four iterations were done
    algo.stop()
