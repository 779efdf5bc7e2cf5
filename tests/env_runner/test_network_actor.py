"""Stochastic policies that act: what they draw, how probable it was, what they remember."""

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

from rllib_distill.env_runner.actors import ask
from rllib_distill.env_runner.play import play_episodes
from rllib_distill.replay.batch import Trajectories
from tests.env_runner.toy_policies import SPACES, STATE_SIZE, TASKS, ToyPolicies, make_actor, make_envs

MODES = pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
B = 3


def record(actor, envs, steps, *, epsilon=0.0, seed=0):
    """A fragment per task."""
    rng = np.random.default_rng(seed)
    fragments = {task: task_envs.new_fragment(task, 0, steps) for task, task_envs in envs.items()}
    actor.start_recording()
    for t in range(steps):
        actions = ask(actor, envs, epsilon, rng)
        for task, task_envs in envs.items():
            task_envs.step(actions[task], fragments[task], t)
    actor.write(fragments)
    return [fragments[task] for task in TASKS]


@MODES
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_that_a_learner_finds_the_log_probabilities_that_the_actor_had(mode, steps):
    policies, envs = ToyPolicies(), make_envs(mode)
    actor = make_actor(policies)
    borders = set()
    for i in range(60 // steps):
        fragments = record(actor, envs, steps, seed=i)
        trajectories = Trajectories.of(fragments, SPACES)
        torch.testing.assert_close(
            trajectories.behaviour_log_probs, policies.log_probs(trajectories), rtol=1e-4, atol=1e-5
        )
        for fragment in fragments:
            ended = fragment.terminations | fragment.truncations
            borders |= {("first", *row) for row in fragment.first_begins[None].tolist()}
            borders |= {("last", *row) for row in ended[-1:].tolist()}
    assert len(borders) > 6  # episodes ended at fragments' borders, in some environments and not in others


@MODES
def test_that_forgetting_at_the_wrong_time_would_show(mode):
    policies, envs = ToyPolicies(), make_envs(mode)
    actor = make_actor(policies)
    record(actor, envs, 5)
    trajectories = Trajectories.of(record(actor, envs, 20), SPACES)
    assert (trajectories.state != 0).any()
    hopeless = ToyPolicies(forgets=False).log_probs(trajectories)
    assert ((trajectories.behaviour_log_probs - hopeless).abs() > 0.1).float().mean() > 0.3


@MODES
def test_that_begins_are_the_first_observations_of_episodes(mode):
    envs = make_envs(mode)
    for task_envs in envs.values():
        assert task_envs.begins.all()
    actor = make_actor(ToyPolicies())
    for _ in range(30):
        record(actor, envs, 1)
        for task_envs in envs.values():
            assert (task_envs.begins == (task_envs.observations[:, 2] == 0)).all()
    for task_envs in envs.values():
        task_envs.reset()
        assert task_envs.begins.all()


@pytest.mark.parametrize("epsilon", [0.0, 0.3])
@pytest.mark.parametrize("draws", [True, False], ids=["drawn", "greedy"])
def test_that_actions_come_from_the_policy_mixed_with_epsilon_and_that_this_is_recorded(draws, epsilon):
    logits = torch.tensor([[1.0, 5.0, -0.5, 2.0], [0.3, 3.0, 0.1, 0.2]])  # `short` has not the one of 5
    calls, counts = 2000, {task: np.zeros(4) for task in TASKS}

    def forward(observations, tasks, state, begins):
        rows = [logits[TASKS.index(task)] for task in tasks]
        return torch.stack(rows)[:, None].repeat(1, B, 1), state

    actor, envs = make_actor(forward, draws=draws), make_envs(AutoresetMode.NEXT_STEP)
    rng = np.random.default_rng(0)
    fragments = {task: task_envs.new_fragment(task, 0, calls) for task, task_envs in envs.items()}
    actor.start_recording()
    for t in range(calls):
        for task, own in ask(actor, envs, epsilon, rng).items():
            fragments[task].actions[t] = own
            counts[task] += np.bincount(own, minlength=4)
    actor.write(fragments)
    for i, task in enumerate(TASKS):
        own = SPACES.common_actions[task]
        policy = np.exp(logits[i].numpy()[own])
        policy = policy / policy.sum() if draws else (policy == policy.max()).astype(float)
        mixed = (1 - epsilon) * policy + epsilon / len(own)
        expected = mixed * calls * B
        deviation = np.sqrt(expected * (1 - mixed))
        assert (abs(counts[task][: len(own)] - expected) <= 5 * deviation).all()
        assert counts[task].sum() == calls * B
        log_probs = fragments[task].labels["behaviour_log_probs"]
        assert log_probs.dtype == np.float32
        np.testing.assert_allclose(log_probs, np.log(mixed + 1e-300)[fragments[task].actions], rtol=1e-5)


def test_that_a_certain_policy_and_far_logits_are_no_problem():
    def forward(observations, tasks, state, begins):
        return torch.tensor([1e6, -1e6, -1e6, 1e6 - 50.0]).expand(len(tasks), B, 4), state

    actor, envs = make_actor(forward), make_envs(AutoresetMode.NEXT_STEP)
    _, long = record(actor, envs, 20)
    assert (long.actions == 0).all()
    assert np.isfinite(long.labels["behaviour_log_probs"]).all()


def test_that_all_tasks_are_one_forward_of_padded_rows():
    policies, envs = ToyPolicies(), make_envs(AutoresetMode.NEXT_STEP)
    record(make_actor(policies), envs, 4)
    assert policies.asked == [(TASKS, (2, 1, B, 5))] * 4


@MODES
def test_that_a_task_alone_is_played_as_among_others(mode):
    """`play_episodes` stops asking for tasks that are done; the memory of the others goes on."""
    seen = []

    class Watched(ToyPolicies):
        def __call__(self, observations, tasks, state, begins):
            i = tasks.index("long")
            logits, states = super().__call__(observations, tasks, state, begins)
            seen.append((observations[i, 0].clone(), states[i].clone()))
            return logits, states

    actor, envs, rng = make_actor(Watched()), make_envs(mode), np.random.default_rng(0)
    played = play_episodes(envs, lambda active: ask(actor, active, 0.0, rng), 12)
    assert {len(episodes) for episodes in played.values()} == {12}
    assert len({tasks for tasks, _ in actor._forward.asked}) == 2
    state = torch.zeros(B, STATE_SIZE)
    for observations, states in seen:  # one after the other, by hand
        begins = observations[:, 2] == 0
        state = Watched().over_time(observations[None, None], ("long",), state[None], begins[None, None])[1][
            0, 0
        ]
        torch.testing.assert_close(states, state)


def test_that_the_others_memory_waits_where_a_subset_is_asked():
    actor, envs, rng = make_actor(ToyPolicies()), make_envs(AutoresetMode.NEXT_STEP), np.random.default_rng(0)
    ask(actor, envs, 0.0, rng)
    short, long = actor._states.clone()
    ask(actor, {"long": envs["long"]}, 0.0, rng)
    assert (actor._states[0] == short).all()
    assert (actor._states[1] == long).all()  # begun again: the same first observation
    actor.begin_anew()
    assert (actor._states == 0).all()


def test_that_nobody_can_forget_to_tell_it_where_episodes_begin():
    actor, envs, rng = make_actor(ToyPolicies()), make_envs(AutoresetMode.NEXT_STEP), np.random.default_rng(0)
    ask(actor, envs, 0.0, rng)
    with pytest.raises(KeyError, match="short"):
        actor({task: task_envs.observations for task, task_envs in envs.items()}, 0.0, rng)
