"""Expert or student: one of them per episode, at the share of the moment, and the idle one rests."""

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rllib_distill.env_runner.actors import Behaviour
from rllib_distill.env_runner.task_envs import TaskEnvs
from tests.env_runner.counting_env import CountingEnv

MODES = pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
STUDENT, EXPERT = 0, 1  # each takes the action of its number


class Always:
    """Always takes the same action, and remembers for which tasks it was asked to."""

    def __init__(self, action):
        self.action, self.asked = action, []

    def __call__(self, observations, epsilon, rng):
        self.asked.append(tuple(observations))
        return {task: np.full(len(rows), self.action) for task, rows in observations.items()}


def behave(share, seed=0):
    return Behaviour(Always(STUDENT), Always(EXPERT), share, np.random.default_rng(seed))


def make_envs(mode, num_envs=6):
    envs = TaskEnvs(SyncVectorEnv([CountingEnv] * num_envs, copy=False, autoreset_mode=mode))
    envs.reset(seed=0)
    return envs


def play(behaviour, envs, steps):
    """Returns (environment, number of episode) -> actions, and the same -> whether the expert acted."""
    fragment = envs.new_fragment("task", 0, steps)
    by_expert = {}
    for t in range(steps):
        numbers = envs.observations[:, 1].astype(int).tolist()
        actions = behaviour({"task": envs.observations}, 0.0, np.random.default_rng(0))
        for episode in envs.step(actions["task"], fragment, t):
            by_expert[episode.env, numbers[episode.env]] = behaviour.end_episode("task", episode.env)
    actions = {}
    for t, b in zip(*np.nonzero(fragment.valid), strict=True):
        number = int(fragment.observations[t, b, 1])
        actions.setdefault((int(b), number), []).append(int(fragment.actions[t, b]))
    return actions, by_expert


@MODES
@pytest.mark.parametrize("share", [0.0, 0.25, 0.6, 1.0])
def test_that_an_episode_has_one_actor_and_that_experts_have_their_share(mode, share):
    actions, by_expert = play(behave(lambda: share), make_envs(mode), 800)
    assert all(len(set(taken)) == 1 for taken in actions.values())
    assert all(actions[episode][0] == expert for episode, expert in by_expert.items())
    assert len(by_expert) > 1000
    deviation = np.sqrt(share * (1 - share) / len(by_expert))
    assert abs(np.mean(list(by_expert.values())) - share) <= 4 * deviation
    lengths = {len(taken) for episode, taken in actions.items() if episode in by_expert}
    assert lengths == {1, 2, 3, 4, 5}  # so that an episode could have been split


@MODES
def test_that_what_an_expert_began_it_ends_though_the_share_has_fallen(mode):
    shares = [1.0]
    behaviour, envs = behave(lambda: shares[0]), make_envs(mode)
    behaviour({"task": envs.observations}, 0.0, np.random.default_rng(0))
    shares[0] = 0.0
    actions, by_expert = play(behaviour, envs, 40)
    first = {(b, 1) for b in range(6)}
    assert all(set(actions[episode]) == {EXPERT if episode in first else STUDENT} for episode in actions)
    assert {episode for episode, expert in by_expert.items() if expert} == first


def test_that_new_environments_draw_anew():
    shares = [1.0]
    behaviour, rows = behave(lambda: shares[0]), {"task": np.zeros((6, 1))}
    rng = np.random.default_rng(0)
    assert (behaviour(rows, 0.0, rng)["task"] == EXPERT).all()
    shares[0] = 0.0
    assert (behaviour(rows, 0.0, rng)["task"] == EXPERT).all()
    behaviour.begin_anew()
    assert (behaviour(rows, 0.0, rng)["task"] == STUDENT).all()


def test_that_nobody_is_asked_for_a_task_in_which_the_other_has_all_rows():
    behaviour = behave(lambda: 0.5)
    rows = {"a": np.zeros((1, 1)), "b": np.zeros((2, 1)), "c": np.zeros((5, 1))}
    for _ in range(50):
        actions = behaviour(rows, 0.0, np.random.default_rng(0))
        for actor in (behaviour._student, behaviour._expert):
            needed = tuple(task for task in rows if (actions[task] == actor.action).any())
            assert actor.asked.pop() == needed
        behaviour.begin_anew()


def test_that_its_seed_decides_who_acts():
    rows = {"task": np.zeros((50, 1))}
    first, same, other = (
        behave(lambda: 0.5, seed)(rows, 0.0, np.random.default_rng(0))["task"] for seed in (1, 1, 2)
    )
    assert (first == same).all() and (first != other).any()
