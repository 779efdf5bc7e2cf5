"""Plays vector envs, so that what they return can be compared step by step."""

import numpy as np


def random_actions(env, steps):
    return np.random.default_rng(0).integers(env.single_action_space.n, size=(steps, env.num_envs))


def play(env, actions, seed=0):
    """Copies of the first observations, then of all that each step returned, `(B, ...)` each."""
    played = [(env.reset(seed=seed)[0].copy(),)]
    for of_step in actions:
        *arrays, infos = env.step(of_step)
        played.append((*(np.array(array) for array in arrays), infos))
    return played


def assert_same(played, others):
    """Of arrays and of the last observations of episodes."""
    np.testing.assert_array_equal(played[0][0], others[0][0])
    for (*arrays, infos), (*same, same_infos) in zip(played[1:], others[1:], strict=True):
        for array, equal in zip(arrays, same, strict=True):
            np.testing.assert_allclose(array, equal)  # gymnasium has rewards in float64
        assert ("final_obs" in infos) == ("final_obs" in same_infos)
        np.testing.assert_array_equal(infos.get("_final_obs"), same_infos.get("_final_obs"))
        for i in np.flatnonzero(arrays[2] | arrays[3]):
            np.testing.assert_array_equal(infos["final_obs"][i], same_infos["final_obs"][i])
