import numpy as np
import pytest
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.utils.pre_checks.env import check_multiagent_environments

from rllib_distill.errors import DistillError
from rllib_distill.tasks.multi_task_env import MultiTaskEnv

MINATAR = {"asterix": "MinAtar/Asterix-v1", "breakout": "MinAtar/Breakout-v1"}
CONTROL = {"pole": "CartPole-v1", "acrobot": {"env": "Acrobot-v1", "max_episode_steps": 20}}


def play(env, seed, episodes=6):
    """Task and observations of some episodes with actions 0, 1, 0, 1, ..."""
    played = []
    for episode in range(episodes):
        observations, _ = env.reset(seed=seed if episode == 0 else None)
        (task,) = env.agents
        trajectory, ended, step = [observations[task]], False, 0
        while not ended and step < 30:
            observations, _, terminated, truncated, _ = env.step({task: step % 2})
            trajectory.append(observations[task])
            ended, step = terminated["__all__"] or truncated["__all__"], step + 1
        played.append((task, np.array(trajectory)))
    return played


@pytest.mark.parametrize("tasks", [MINATAR, CONTROL])
def test_passes_rllibs_env_checker(tasks):
    env = MultiTaskEnv({"tasks": tasks})
    assert env.possible_agents == list(tasks)
    for _ in range(4):
        check_multiagent_environments(env)


def test_each_agent_has_its_tasks_own_spaces():
    env = MultiTaskEnv({"tasks": MINATAR})
    assert env.observation_spaces["breakout"].shape == (10, 10, 4)
    assert [env.get_action_space(task).n for task in MINATAR] == [5, 3]


def test_a_seed_fixes_the_tasks_drawn_and_what_happens_in_them():
    first, again = (play(MultiTaskEnv({"tasks": MINATAR}), seed=1) for _ in range(2))
    assert [task for task, _ in first] == [task for task, _ in again]
    assert {task for task, _ in first} == set(MINATAR)
    for (_, observations), (_, same) in zip(first, again, strict=True):
        np.testing.assert_array_equal(observations, same)


def test_a_repeated_seed_does_not_repeat_the_task():
    env = MultiTaskEnv({"tasks": MINATAR})
    assert {next(iter(env.reset(seed=0)[0])) for _ in range(20)} == set(MINATAR)


def test_tasks_are_drawn_uniformly():
    env = MultiTaskEnv({"tasks": CONTROL})
    env.reset(seed=0)
    drawn = [next(iter(env.reset()[0])) for _ in range(400)]
    assert abs(drawn.count("pole") - 200) < 50  # five standard deviations


def test_truncation_is_not_termination():
    env = MultiTaskEnv({"tasks": {"acrobot": CONTROL["acrobot"]}})
    env.reset(seed=0)
    for _ in range(20):
        _, _, terminated, truncated, _ = env.step({"acrobot": 1})
    assert truncated == {"acrobot": True, "__all__": True}
    assert terminated == {"acrobot": False, "__all__": False}


def test_no_tasks_is_refused():
    with pytest.raises(DistillError, match="MultiTaskEnv has no tasks"):
        MultiTaskEnv({})


@pytest.mark.usefixtures("ray_session")
def test_stock_ppo_trains_a_policy_per_task():
    config = (
        PPOConfig()
        .environment(MultiTaskEnv, env_config={"tasks": CONTROL})
        .env_runners(num_env_runners=0, rollout_fragment_length=200, batch_mode="complete_episodes")
        .multi_agent(policies=set(CONTROL), policy_mapping_fn=lambda task, episode: task)
        .rl_module(model_config={"fcnet_hiddens": [16]})
        .training(train_batch_size=200, minibatch_size=100, num_epochs=1)
        .debugging(seed=0)
    )
    algo = config.build_algo()
    try:
        weights = algo.get_weights()
        result = algo.train()
        assert set(CONTROL) <= set(result["learners"])
        assert set(result["env_runners"]["agent_episode_returns_mean"]) == set(CONTROL)
        for task, before in weights.items():
            after = algo.get_weights()[task]
            assert any((before[name] != after[name]).any() for name in before)
    finally:
        algo.stop()
