"""Expert or student: one of them per game, at the share of the moment, and the idle one rests."""

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rllib_distill.env_runner.actors import Acting, ExpertActor, TakingTurns
from rllib_distill.env_runner.task_envs import TaskEnvs
from rllib_distill.experts import ExpertBank
from rllib_distill.tasks import TaskSet
from tests.env_runner.counting_env import NAMED_TASKS, CountingEnv, LivesEnv, save_random_experts
from tests.env_runner.toy_policies import (
    STATE_SIZE,
    TASKS,
    Always,
    ToyPolicies,
    make_actor,
    make_envs,
    rows_of,
)

MODES = pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
STUDENT, EXPERT = 0, 1  # each takes the action of its number


def taking_turns(share, seed=0, student=None, expert=None):
    student, expert = student or Always(STUDENT), expert or Always(EXPERT)
    return TakingTurns(student, expert, share, np.random.default_rng(seed))


def make(mode, num_envs=6):
    envs = TaskEnvs(SyncVectorEnv([CountingEnv] * num_envs, copy=False, autoreset_mode=mode))
    envs.reset(seed=0)
    return envs


def play(acting, envs, steps):
    """Returns (environment, number of game) -> actions, and the same -> whether the expert acted last."""
    fragment = envs.new_fragment("task", 0, steps)
    by_expert = {}
    for t in range(steps):
        numbers = envs.observations[:, 1].astype(int).tolist()
        acted = acting({"task": envs}, 0.0, np.random.default_rng(0))
        column = acted.columns["task"]["by_expert"]
        assert column.dtype == np.bool_ and (column == (acted.actions["task"] == EXPERT)).all()
        for episode in envs.step(acted.actions["task"], fragment, t):
            by_expert[episode.env, numbers[episode.env]] = bool(column[episode.env])
    actions = {}
    for t, b in zip(*np.nonzero(fragment.valid), strict=True):
        number = int(fragment.observations[t, b, 1])
        actions.setdefault((int(b), number), []).append(int(fragment.actions[t, b]))
    return actions, by_expert, fragment


@MODES
@pytest.mark.parametrize("share", [0.0, 0.25, 0.6, 1.0])
def test_that_an_episode_has_one_actor_and_that_experts_have_their_share(mode, share):
    envs = make(mode)
    actions, by_expert, _ = play(Acting(taking_turns(lambda: share), {"task": envs}), envs, 800)
    assert all(len(set(taken)) == 1 for taken in actions.values())
    assert all(actions[episode][0] == expert for episode, expert in by_expert.items())
    assert len(by_expert) > 1000
    deviation = np.sqrt(share * (1 - share) / len(by_expert))
    assert abs(np.mean(list(by_expert.values())) - share) <= 4 * deviation
    lengths = {len(taken) for episode, taken in actions.items() if episode in by_expert}
    assert lengths == {1, 2, 3, 4, 5}  # so that an episode could have been split


def test_that_who_acts_is_drawn_for_a_game_and_not_for_every_life():
    envs = TaskEnvs(LivesEnv())
    envs.reset(seed=0)
    actions, by_expert, fragment = play(Acting(taking_turns(lambda: 0.5), {"task": envs}), envs, 400)
    lives = fragment.is_first[:-1] & (fragment.observations[:-1, :, 2] > 0)
    assert lives.sum() > 100  # lost in the middle of a game
    assert all(len(set(taken)) == 1 for taken in actions.values())
    assert 0.3 < np.mean(list(by_expert.values())) < 0.7


def test_that_new_games_draw_anew():
    shares, rows, rng = [1.0], {"task": rows_of(np.zeros((6, 1)))}, np.random.default_rng(0)
    acting = Acting(taking_turns(lambda: shares[0]), rows)
    assert (acting(rows, 0.0, rng).actions["task"] == EXPERT).all()
    shares[0] = 0.0
    rows["task"].is_reset[:] = False
    assert (acting(rows, 0.0, rng).actions["task"] == EXPERT).all()
    rows["task"].is_reset[2:4] = True
    told = acting(rows, 0.0, rng)
    assert told.actions["task"].tolist() == [EXPERT, EXPERT, STUDENT, STUDENT, EXPERT, EXPERT]
    before = told.columns["task"]["by_expert"].copy()
    rows["task"].is_reset[:] = True
    assert (acting(rows, 0.0, rng).actions["task"] == STUDENT).all()
    assert (told.columns["task"]["by_expert"] == before).all()  # what was told stays


@pytest.mark.parametrize("student_size", [0, 2])
@pytest.mark.parametrize("expert_size", [0, 3])
def test_that_who_is_not_needed_is_not_asked_unless_it_has_to_remember(student_size, expert_size):
    student, expert = Always(STUDENT, student_size), Always(EXPERT, expert_size)
    sizes, rng = {"a": 1, "b": 2, "c": 5}, np.random.default_rng(0)
    rows = {task: rows_of(np.zeros((num_envs, 1))) for task, num_envs in sizes.items()}
    acting, times = Acting(taking_turns(lambda: 0.5, student=student, expert=expert), rows), 50
    rested = 0
    for _ in range(times):
        acted = acting(rows, 0.0, rng)
        for actor, size in ((student, student_size), (expert, expert_size)):
            needed = tuple(task for task in rows if size or (acted.actions[task] == actor.action).any())
            assert (actor.asked.pop() if needed else ()) == needed
            assert actor.asked == []
            for task in rows:
                assert (f"of_{actor.action}" in acted.columns[task]) == (task in needed)
            rested += len(needed) < 3
    assert (rested > 0) == (student_size == 0 or expert_size == 0)
    for task, num_envs in sizes.items():  # learners go on from the student's
        assert acting.state[task].shape == (num_envs, student_size)
        assert (acting.state[task] == times).all()


def test_that_its_seed_decides_who_acts():
    rows, rng = {"task": rows_of(np.zeros((50, 1)))}, np.random.default_rng(0)
    first, same, other = (
        Acting(taking_turns(lambda: 0.5, seed), rows)(rows, 0.0, rng).actions["task"] for seed in (1, 1, 2)
    )
    assert (first == same).all() and (first != other).any()


@MODES
def test_that_both_remember_what_the_other_did(mode, tmp_path):
    """A recurrent student's and expert's states, as if each had watched every step alone."""
    network = {"type": "mlp", "hiddens": [4], "lstm": 3}
    paths = save_random_experts(tmp_path, NAMED_TASKS, network=network)
    experts = ExpertBank.load(paths, TaskSet.from_config(NAMED_TASKS))
    envs, rng = make_envs(mode), np.random.default_rng(0)
    expert = ExpertActor(experts, ("expert_outputs",))
    acting = Acting(taking_turns(lambda: 0.5, student=make_actor(ToyPolicies()), expert=expert), envs)
    watching = Acting(make_actor(ToyPolicies()), envs)
    steps, turns = 40, set()
    fragments = {task: task_envs.new_fragment(task, 0, steps) for task, task_envs in envs.items()}
    for t in range(steps):
        watching(envs, 0.0, np.random.default_rng(1))
        acted = acting(envs, 0.0, rng)
        for task, task_envs in envs.items():
            assert acting.state[task].shape == (3, STATE_SIZE)
            torch.testing.assert_close(acting.state[task], watching.state[task])
            columns = acted.columns[task]
            assert columns.keys() == {"behaviour_log_probs", "expert_outputs", "by_expert"}
            turns.add(tuple(columns["by_expert"].tolist()))
            fragments[task].write(t, "expert_outputs", columns["expert_outputs"])
            task_envs.step(acted.actions[task], fragments[task], t)
    assert len(turns) > 4
    for task in TASKS:
        fragment = fragments[task]
        label = experts.label(task, fragment.observations[:-1], None, fragment.is_first[:-1])
        np.testing.assert_allclose(fragment.columns["expert_outputs"], label.outputs, rtol=1e-4, atol=1e-5)
