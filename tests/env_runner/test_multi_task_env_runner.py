"""The runner on environments whose observations tell where they come from."""

import numpy as np
import pytest
from ray.rllib.core import COMPONENT_RL_MODULE
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME, WEIGHTS_SEQ_NO

from rllib_distill.env_runner import EpisodeReturns
from rllib_distill.experts import ExpertBank
from tests.env_runner.conftest import greedy_by_hand, read, returns_in
from tests.env_runner.counting_env import NAMED_TASKS as TASKS
from tests.env_runner.counting_env import check_fragment, return_of

SIZES = {"short": 2, "long": 4}


def by_task(samples):
    return {sample.task: sample for sample in samples}


def test_that_fragments_hold_whole_transitions_only(make_runner):
    runner = make_runner()
    before = {}
    for _ in range(4):
        fragments = by_task(runner.sample())
        assert list(fragments) == list(TASKS)
        for task, fragment in fragments.items():
            assert fragment.actions.shape == (8, 3)
            assert fragment.env_runner_index == 0
            check_fragment(fragment, next_step=True)
            if before:
                assert fragment.start == before[task].start + 8
                np.testing.assert_array_equal(fragment.observations[0], before[task].observations[-1])
        before = fragments


@pytest.mark.parametrize("behaviour", ["student", 0.5])
def test_that_seeds_decide_everything(make_runner, behaviour):
    first, same, other = (
        make_runner(seed=seed, behaviour=behaviour, epsilon=0.5).sample(num_timesteps=120)
        for seed in (3, 3, 4)
    )
    for a, b, c in zip(first, same, other, strict=True):
        for name in ("observations", "actions", "rewards", "terminations", "truncations", "valid"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        np.testing.assert_array_equal(a.columns["expert_outputs"], b.columns["expert_outputs"])
        assert (a.observations[..., 0] != c.observations[..., 0]).any()
        assert (a.actions != c.actions).any()
    identities = [set(fragment.observations[..., 0].flat) for fragment in first]
    assert len(set.union(*identities)) == 6  # no two environments play the same episodes


@pytest.mark.parametrize("config", ["actor_mimic", "dqn"])  # one student, a module per task
def test_that_the_module_acts_greedily_on_padded_observations(make_runner, config):
    runner = make_runner(config, epsilon=0.0)
    for fragment in runner.sample():
        np.testing.assert_array_equal(fragment.actions, greedy_by_hand(runner, fragment))
        assert bool(fragment.columns) == (config == "actor_mimic")


def test_that_random_actions_are_random_whatever_epsilon_is(make_runner):
    runner = make_runner(epsilon=0.0)
    fragments = runner.sample(num_timesteps=600, random_actions=True)
    for fragment in fragments:
        shares = np.bincount(fragment.actions.flat) / fragment.actions.size
        np.testing.assert_allclose(shares, 1 / SIZES[fragment.task], atol=0.12)


@pytest.mark.parametrize(("num_timesteps", "rows"), [(1, 1), (6, 1), (7, 2), (600, 100), (None, 8)])
def test_that_num_timesteps_is_rounded_up_to_whole_rows(make_runner, num_timesteps, rows):
    assert [len(fragment) for fragment in make_runner().sample(num_timesteps=num_timesteps)] == [rows, rows]


def test_that_two_amounts_are_refused(make_runner):
    with pytest.raises(ValueError, match="not both"):
        make_runner().sample(num_timesteps=1, num_episodes=1)


def test_that_force_reset_begins_anew_and_leaves_a_gap(make_runner):
    runner = make_runner()
    runner.sample(num_timesteps=12)
    for fragment in runner.sample(num_timesteps=6, force_reset=True):
        assert (fragment.observations[0, :, 2] == 0).all()
        assert fragment.start > 3


def test_that_evaluation_plays_whole_episodes_and_does_not_disturb(make_runner):
    runner = make_runner()
    before = by_task(runner.sample())
    for sample in runner.sample(num_episodes=7):
        assert isinstance(sample, EpisodeReturns)
        assert len(sample.returns) == len(sample.lengths) == 7
        for length, episode_return in zip(sample.lengths, sample.returns, strict=True):
            number = (episode_return - length * (length + 1) / 2) / (100 * length)
            assert episode_return == return_of(int(number), length)
        assert sample.env_steps() == sum(sample.lengths)
    for task, fragment in by_task(runner.sample()).items():
        assert fragment.start > before[task].start + 8  # replay must see the gap
        assert (fragment.observations[0, :, 2] == 0).all()
        check_fragment(fragment, next_step=True)


def test_that_evaluation_uses_its_own_epsilon(make_runner, epsilons):
    runner = make_runner(epsilon=0.5, evaluation_epsilon=0.125)
    cases = (({}, 0.5), ({"num_episodes": 1}, 0.125), ({"explore": False}, 0.125))
    for arguments, epsilon in (*cases, ({"num_episodes": 1, "explore": True}, 0.5)):
        runner.sample(**arguments)
        assert set(epsilons) == {epsilon}
        epsilons.clear()


def test_that_an_evaluation_runner_needs_no_experts_and_never_explores(make_runner, monkeypatch):
    loaded, load = [], ExpertBank.load
    monkeypatch.setattr(ExpertBank, "load", lambda *args: loaded.append(args) or load(*args))
    options = {"epsilon": 1.0, "evaluation_epsilon": 0.0, "behaviour": "expert", "beta": 0.0}
    runner = make_runner(evaluating=True, **options)
    for fragment in runner.sample():
        assert not fragment.columns
        np.testing.assert_array_equal(fragment.actions, greedy_by_hand(runner, fragment))
    assert not loaded
    runner = make_runner(**options)
    runner.sample()
    runner.make_env()
    runner.sample()
    assert len(loaded) == 1


def test_that_epsilon_follows_its_schedule_between_two_syncs_too(make_runner, epsilons):
    runner = make_runner(epsilon=[[0, 1.0], [1000, 0.0]])

    def next_epsilon():
        epsilons.clear()
        steps = sum(fragment.env_steps() for fragment in runner.sample())
        assert len(set(epsilons)) == 1
        return epsilons[0], steps

    (first, steps), (second, more_steps) = next_epsilon(), next_epsilon()
    assert first == 1.0 and second == pytest.approx(1.0 - steps / 1000)
    assert next_epsilon()[0] == pytest.approx(1.0 - (steps + more_steps) / 1000)
    runner.set_state({NUM_ENV_STEPS_SAMPLED_LIFETIME: 900})
    runner.sample(num_episodes=2)  # evaluation's steps don't count
    assert next_epsilon()[0] == pytest.approx(0.1)


def test_that_state_travels(make_runner):
    runner, other = make_runner(seed=0), make_runner(seed=1)
    state = runner.get_state() | {WEIGHTS_SEQ_NO: 5, NUM_ENV_STEPS_SAMPLED_LIFETIME: 77}
    assert state.keys() == {COMPONENT_RL_MODULE, WEIGHTS_SEQ_NO, NUM_ENV_STEPS_SAMPLED_LIFETIME}
    assert all("expert" not in name for name in state[COMPONENT_RL_MODULE]["student"])
    other.set_state(state)
    assert other.get_state()[WEIGHTS_SEQ_NO] == 5
    assert other.num_env_steps_sampled_lifetime == 77
    weights = [runner.module["student"].state_dict() for runner in (runner, other)]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])
    assert other.get_state(not_components=COMPONENT_RL_MODULE).keys() == {NUM_ENV_STEPS_SAMPLED_LIFETIME}


def test_that_weights_of_an_older_checkpoint_are_taken_over_too(make_runner):
    runner, older = make_runner(seed=0), make_runner(seed=1)
    runner.set_state(runner.get_state() | {WEIGHTS_SEQ_NO: 50})
    runner.set_state(older.get_state() | {WEIGHTS_SEQ_NO: 20})
    weights = [r.module["student"].state_dict() for r in (runner, older)]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])
    assert runner.get_state()[WEIGHTS_SEQ_NO] == 20


def test_that_an_epoch_of_evaluation_scores_whole_episodes_only(make_runner):
    runner = make_runner(evaluating=True)
    for num_timesteps, finished in ((6, [True, False]), (240, [True, True])):  # 1 step of each, and 40
        epochs = runner.sample(num_timesteps=num_timesteps)
        assert [epoch.finished for epoch in epochs] == finished
        assert [epoch.env_steps() for epoch in epochs] == [num_timesteps / 2] * 2
        returns = runner.get_metrics().get("agent_episode_returns_mean", {})
        assert set(returns) == {epoch.task for epoch in epochs if epoch.finished}


def test_that_automatic_evaluation_plays_on_from_call_to_call(make_runner):
    runner = make_runner(evaluating=True)
    runner.config.evaluation_duration = "auto"
    for _ in range(3):
        fragments = runner.sample(num_timesteps=12)  # 2 steps of each environment
    assert [len(fragment) for fragment in fragments] == [2, 2]
    assert set(runner.get_metrics()["agent_episode_returns_mean"]) == {"short", "long"}


# -- metrics -----------------------------------------------------------------------------------------------


def test_that_metrics_have_rllibs_keys_and_are_right(make_runner):
    runner = make_runner()
    fragments = by_task(runner.sample())
    value = read(runner.get_metrics())
    for task, fragment in fragments.items():
        assert value("num_agent_steps_sampled", task) == fragment.env_steps()
        assert value("agent_episode_returns_mean", task) == pytest.approx(np.mean(returns_in(fragment)))
    steps = sum(f.env_steps() for f in fragments.values())
    assert value("num_env_steps_sampled") == value("num_env_steps_sampled_lifetime") == steps
    assert value("num_module_steps_sampled", "student") == steps
    ended = sum((f.terminations | f.truncations).sum() for f in fragments.values())
    assert value("num_episodes") == value("num_episodes_lifetime") == ended
    returns = [r for fragment in fragments.values() for r in returns_in(fragment)]
    assert value("episode_return_mean") == pytest.approx(np.mean(returns))
    assert value("module_episode_returns_mean", "student") == pytest.approx(np.mean(returns))
    assert (value("episode_return_min"), value("episode_return_max")) == (min(returns), max(returns))
    assert value("episode_len_min") <= value("episode_len_mean") <= value("episode_len_max")


def test_that_training_means_know_nothing_of_an_evaluation_on_the_same_runner(make_runner):
    runner = make_runner()
    before = by_task(runner.sample())
    runner.get_metrics()
    runner.sample(num_episodes=3)
    runner.get_metrics()
    after = by_task(runner.sample())
    value = read(runner.get_metrics())
    for task in before:
        returns = returns_in(before[task]) + returns_in(after[task])
        assert value("agent_episode_returns_mean", task) == pytest.approx(np.mean(returns))
