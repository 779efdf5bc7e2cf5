"""Networks that act: what they draw, how probable it was, what they remember."""

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

from rllib_distill.env_runner.actors import Acting
from rllib_distill.env_runner.play import play_episodes
from rllib_distill.replay import Batch
from tests.env_runner.toy_policies import SPACES, STATE_SIZE, TASKS, ToyPolicies, make_actor, make_envs

MODES = pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
B = 3


def record(acting, envs, steps, *, seed=0):
    """A fragment per task, written as env runners do."""
    rng = np.random.default_rng(seed)
    fragments = {task: task_envs.new_fragment(task, 0, steps) for task, task_envs in envs.items()}
    for task, fragment in fragments.items():
        fragment.state = acting.state[task].numpy()
    for t in range(steps):
        acted = acting(envs, 0.0, rng)
        for task, task_envs in envs.items():
            for name, values in acted.columns.get(task, {}).items():
                fragments[task].write(t, name, values)
            task_envs.step(acted.actions[task], fragments[task], t)
    return [fragments[task] for task in TASKS]


@MODES
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_that_a_learner_finds_the_log_probabilities_that_the_actor_had(mode, steps):
    policies, envs = ToyPolicies(), make_envs(mode)
    acting = Acting(make_actor(policies), envs)
    borders = set()
    for i in range(60 // steps):
        fragments = record(acting, envs, steps, seed=i)
        batch = Batch.of_fragments(fragments, SPACES)
        log_probs = batch.columns["behaviour_log_probs"]
        torch.testing.assert_close(log_probs, policies.log_probs(batch), rtol=1e-4, atol=1e-5)
        for fragment in fragments:
            ended = fragment.terminations | fragment.truncations
            borders |= {("first", *fragment.is_first[0].tolist()), ("last", *ended[-1].tolist())}
    assert len(borders) > 6  # episodes ended at fragments' borders, in some environments and not in others


@pytest.mark.parametrize("epsilon", [0.0, 0.3])
@pytest.mark.parametrize("draws", [True, False], ids=["drawn", "greedy"])
def test_that_actions_come_from_the_policy_mixed_with_epsilon_and_that_this_is_recorded(draws, epsilon):
    logits = torch.tensor([[1.0, 5.0, -0.5, 2.0], [0.3, 3.0, 0.1, 0.2]])  # `short` has not the one of 5
    calls, counts = 2000, {task: np.zeros(4) for task in TASKS}

    def forward(observations, tasks, state, is_first):
        rows = [logits[TASKS.index(task)] for task in tasks]
        return torch.stack(rows)[:, None].repeat(1, B, 1), state

    envs = make_envs(AutoresetMode.NEXT_STEP)
    acting = Acting(make_actor(forward, draws=draws), envs)
    rng = np.random.default_rng(0)
    fragments = {task: task_envs.new_fragment(task, 0, calls) for task, task_envs in envs.items()}
    for t in range(calls):
        acted = acting(envs, epsilon, rng)
        for task, own in acted.actions.items():
            fragments[task].actions[t] = own
            counts[task] += np.bincount(own, minlength=4)
            for name, values in acted.columns.get(task, {}).items():
                fragments[task].write(t, name, values)
    for i, task in enumerate(TASKS):
        own = SPACES.common_actions[task]
        policy = np.exp(logits[i].numpy()[own])
        policy = policy / policy.sum() if draws else (policy == policy.max()).astype(float)
        mixed = (1 - epsilon) * policy + epsilon / len(own)
        expected = mixed * calls * B
        deviation = np.sqrt(expected * (1 - mixed))
        assert (abs(counts[task][: len(own)] - expected) <= 5 * deviation).all()
        assert counts[task].sum() == calls * B
        if draws:
            log_probs = fragments[task].columns["behaviour_log_probs"]
            assert log_probs.dtype == np.float32
            np.testing.assert_allclose(log_probs, np.log(mixed)[fragments[task].actions], rtol=1e-5)
        else:  # learners from trajectories draw, and no one else wants to know
            assert not fragments[task].columns


def test_that_a_certain_policy_and_far_logits_are_no_problem():
    def forward(observations, tasks, state, is_first):
        return torch.tensor([1e6, -1e6, -1e6, 1e6 - 50.0]).expand(len(tasks), B, 4), state

    envs = make_envs(AutoresetMode.NEXT_STEP)
    _, long = record(Acting(make_actor(forward), envs), envs, 20)
    assert (long.actions == 0).all()
    assert np.isfinite(long.columns["behaviour_log_probs"]).all()


@MODES
def test_that_a_task_alone_is_played_as_among_others(mode):
    """`play_episodes` stops asking for tasks that are done; the state of the others goes on."""
    seen = []

    class Watched(ToyPolicies):
        def __call__(self, observations, tasks, state, is_first):
            i = tasks.index("long")
            logits, states = super().__call__(observations, tasks, state, is_first)
            seen.append((observations[i, 0].clone(), states[i].clone()))
            return logits, states

    policies, envs, rng = Watched(), make_envs(mode), np.random.default_rng(0)
    played = play_episodes(envs, make_actor(policies), 12, 0.0, rng)
    assert {len(episodes) for episodes in played.values()} == {12}
    assert len(set(policies.asked)) == 2
    state, by_hand = torch.zeros(B, STATE_SIZE), ToyPolicies()
    for observations, states in seen:  # one after the other
        rows = observations[None, None], ("long",), state[None], (observations[:, 2] == 0)[None, None]
        state = by_hand.over_time(*rows)[1][0, 0]
        torch.testing.assert_close(states, state)


def test_that_states_which_were_handed_out_stay_as_they_were():
    """Fragments keep the one from before their first row, without a copy."""
    envs, rng = make_envs(AutoresetMode.SAME_STEP), np.random.default_rng(0)
    acting = Acting(make_actor(ToyPolicies()), envs)
    acting(envs, 0.0, rng)
    for task_envs in envs.values():
        task_envs.is_first = np.zeros(B, np.bool_)
    kept = {task: (state, state.clone()) for task, state in acting.state.items()}
    acting(envs, 0.0, rng)
    for task, (state, copy) in kept.items():
        assert torch.equal(state, copy) and not torch.equal(state, acting.state[task])
