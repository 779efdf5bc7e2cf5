"""AtariVectorEnv and AtariEnv against `slow_atari`, an independent oracle, and what else they promise."""

import math
from collections import Counter

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rllib_distill.env_runner.task_envs import TaskEnvs
from rllib_distill.errors import DistillError
from rllib_distill.tasks import TaskSet, TaskSpec

pytest.importorskip("ale_py")

from rllib_distill.tasks.atari import AtariEnv, AtariVectorEnv
from tests.tasks.playing import assert_same, play, random_actions
from tests.tasks.slow_atari import SlowAtari

MINIMAL = {
    "Pong": "NOOP FIRE RIGHT LEFT RIGHTFIRE LEFTFIRE",
    "Breakout": "NOOP FIRE RIGHT LEFT",
    "Freeway": "NOOP UP DOWN",
}
FULL = (
    "NOOP FIRE UP RIGHT LEFT DOWN UPRIGHT UPLEFT DOWNRIGHT DOWNLEFT UPFIRE RIGHTFIRE LEFTFIRE DOWNFIRE "
    "UPRIGHTFIRE UPLEFTFIRE DOWNRIGHTFIRE DOWNLEFTFIRE"
)


def compare_with_oracle(game, steps, seed=0, num_envs=2, **options):
    """Steps both; returns how often what happened."""
    env = AtariVectorEnv(game, num_envs, **options)
    settings = {"frame_stack": 4, "frame_skip": 4, "screen_size": 84, "max_num_frames_per_episode": 108_000}
    oracle_settings = [options.get(name, default) for name, default in settings.items()]
    oracles = [
        SlowAtari(game, *oracle_settings, options.get("full_action_space", False)) for _ in range(num_envs)
    ]
    observations, infos = env.reset(seed=seed)
    for b, oracle in enumerate(oracles):
        oracle.seed(seed + b)
        oracle.reset(noops=infos["episode_frame_number"][b])
        oracle.assert_same(observations[b])
    rng, seen = np.random.default_rng(seed), Counter()
    for _ in range(steps):
        actions = rng.integers(env.single_action_space.n, size=num_envs)
        observations, rewards, terminations, truncations, infos = env.step(actions)
        for b, oracle in enumerate(oracles):
            score, life_lost, over, late = oracle.step(actions[b])
            # A life lost in the very frame that the time is up is an end like a game that is over.
            assert (rewards[b], infos["training_rewards"][b]) == (score, np.sign(score))
            assert terminations[b] == (over or (life_lost and late))
            assert truncations[b] == (late and not terminations[b])
            assert infos["training_terminations"][b] == (over or life_lost)
            if over or late:
                oracle.assert_same(infos["final_obs"][b])
                oracle.reset(noops=infos["episode_frame_number"][b])
            oracle.assert_same(observations[b])
            seen.update(score=score != 0, life=life_lost, over=over, late=late)
    return seen


@pytest.mark.parametrize("game", ["pong", "breakout", "freeway", "seaquest", "space_invaders"])
def test_frames_rewards_and_ends_are_the_oracles(game):
    seen = compare_with_oracle(game, 100)
    assert seen["score"] or game in ("freeway", "seaquest")
    assert seen["life"] or game != "breakout"


@pytest.mark.parametrize(
    ("steps", "options"),
    [
        (60, {"frame_skip": 30}),
        (40, {"frame_skip": 1, "frame_stack": 1, "screen_size": 42}),
        (60, {"frame_skip": 3, "frame_stack": 2, "screen_size": 64, "full_action_space": True}),
        (40, {"frame_skip": 5, "max_num_frames_per_episode": 60}),
        (40, {"frame_skip": 5, "max_num_frames_per_episode": 33, "noop_max": 0}),
    ],
)
def test_options_are_the_oracles_over_ends_of_games(steps, options):
    seen = compare_with_oracle("breakout", steps, seed=5, **options)
    assert (seen["life"] > 4 and seen["over"] > 1) or options["frame_skip"] != 30
    assert bool(seen["late"]) == ("max_num_frames_per_episode" in options)


@pytest.mark.parametrize("name", MINIMAL)
def test_a_task_has_the_papers_spaces_and_ales_names_of_the_actions(name):
    full = {"env": f"ALE/{name}-v5", "env_config": {"full_action_space": True}}
    tasks = TaskSet.from_config({"minimal": f"ALE/{name}-v5", "full": full})
    assert tasks["minimal"].action_meanings == tuple(MINIMAL[name].split())
    assert tasks["full"].action_meanings == tuple(FULL.split())
    for task in tasks.values():
        env = task.spec.make_vector_env(2)
        assert isinstance(env, AtariVectorEnv)
        assert env.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
        assert env.single_action_space.n == task.num_actions == len(task.action_meanings)
        assert task.observation_space == env.single_observation_space
        assert env.observation_space.shape == (2, 84, 84, 4)
        assert env.reset(seed=0)[0] in env.observation_space


def test_games_do_not_depend_on_the_number_of_threads():
    two, one = (AtariVectorEnv("breakout", 2, frame_skip=30, num_threads=n) for n in (2, 1))
    actions = random_actions(one, 25)
    assert_same(play(two, actions), play(one, actions))


@pytest.mark.parametrize("seed", [-1, 2**40])
def test_any_whole_number_is_a_seed(seed):
    env = AtariVectorEnv("pong", 2)
    first = env.reset(seed=seed)[1]["episode_frame_number"]
    np.testing.assert_array_equal(env.reset(seed=seed)[1]["episode_frame_number"], first)


def test_sticky_actions_change_the_games_and_are_seeded_too():
    actions = random_actions(AtariVectorEnv("pong", 1), 30)
    plain, sticky, again = (
        play(AtariVectorEnv("pong", 1, repeat_action_probability=p), actions) for p in (0.0, 0.25, 0.25)
    )
    assert_same(sticky, again)
    np.testing.assert_array_equal(plain[0][0], sticky[0][0])
    assert any((a[0] != b[0]).any() for a, b in zip(plain, sticky, strict=True))


def test_a_game_starts_with_0_to_noop_max_no_ops():
    env = AtariVectorEnv("pong", 8, noop_max=1)
    assert set(env.reset(seed=0)[1]["episode_frame_number"].tolist()) == {0, 1}


def test_learners_see_raw_rewards_and_whole_games_with_the_options_off():
    options = {"reward_clipping": False, "terminal_on_life_loss": False, "frame_skip": 30}
    env = AtariVectorEnv("space_invaders", 1, **options)
    env.reset(seed=0)
    rng, over, scores, lives = np.random.default_rng(0), False, [], []
    while not over:
        _, rewards, (over,), _, infos = env.step(rng.integers(6, size=1))
        assert infos["training_rewards"] == rewards and infos["training_terminations"] == over
        scores.append(rewards[0])
        lives.append(infos["lives"][0])
    assert max(scores) > 1 and set(lives[:-1]) == {3, 2, 1}


def test_no_end_of_a_game_is_taken_for_a_lost_life():
    env = AtariVectorEnv("amidar", 1, frame_skip=30, noop_max=0)  # begins with 0 lives for a moment
    assert env.reset(seed=0)[1]["lives"] == 0
    frames, rng = 0, np.random.default_rng(0)
    for _ in range(300):
        _, _, terminations, _, infos = env.step(rng.integers(env.single_action_space.n, size=1))
        if infos["episode_frame_number"] < frames:
            break
        assert not terminations
        frames = infos["episode_frame_number"]
    assert terminations


@pytest.mark.parametrize(
    ("settings", "length"),
    [
        ({"max_num_frames_per_episode": 40}, 10),
        ({"max_num_frames_per_episode": 42}, 11),
        ({"max_episode_steps": 7}, 7),
        ({"max_episode_steps": 7, "frame_skip": 5}, 7),
        ({"max_episode_steps": 7, "wrappers": ["gymnasium.wrappers.FlattenObservation"]}, 7),
    ],
)
def test_long_episodes_are_truncated_not_terminated(settings, length):
    config = {"env": "ALE/Freeway-v5", "env_config": dict(settings)}
    for key in ("max_episode_steps", "wrappers"):
        if key in settings:
            config[key] = config["env_config"].pop(key)
    env = TaskSpec.from_config("freeway", config).make_vector_env(2)
    assert isinstance(env, SyncVectorEnv) == ("wrappers" in settings)
    played = play(env, random_actions(env, length))[1:]
    assert [step[3].all() for step in played] == [False] * (length - 1) + [True]
    assert not any(step[2].any() or step[4].get("training_terminations", step[2]).any() for step in played)


def test_one_game_is_as_in_the_vector_env_and_ends_with_its_own_last_observation():
    env, games = AtariEnv("breakout", frame_skip=30), AtariVectorEnv("breakout", 1, frame_skip=30)
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(env.reset(seed=3)[0], games.reset(seed=3)[0][0])
    terminated, life_losses = False, 0
    while not terminated:
        action = rng.integers(4)
        observation, reward, terminated, truncated, info = env.step(action)
        stacks, rewards, terminations, truncations, infos = games.step(np.array([action]))
        assert (reward, terminated, truncated) == (rewards[0], terminations[0], truncations[0])
        assert not [name for name in info if name.startswith("training")]  # a wrapper may know better
        np.testing.assert_array_equal(observation, (infos["final_obs"] if terminated else stacks)[0])
        life_losses += bool(infos["training_terminations"][0] and not terminated)
    assert life_losses == 4 and (observation != stacks[0]).any()
    assert env.get_action_meanings() == MINIMAL["Breakout"].split()


def test_passes_gymnasiums_env_checker():
    check_env(AtariEnv("pong"), skip_render_check=True)


class EndsAfterThreeSteps(gym.Wrapper):
    """Its rewards and ends are not the game's."""

    def reset(self, **kwargs):
        self.steps = 0
        return super().reset(**kwargs)

    def step(self, action):
        observation, _, _, truncated, info = super().step(action)
        self.steps += 1
        return observation, 0.01, self.steps == 3, truncated, info


def test_that_learners_see_the_rewards_and_ends_that_a_wrapper_makes():
    spec = TaskSpec.from_config("pong", {"env": "ALE/Pong-v5", "wrappers": [EndsAfterThreeSteps]})
    envs = TaskEnvs(spec.make_vector_env(1))
    envs.reset(seed=0)
    fragment = envs.new_fragment("pong", 0, 4)
    for t in range(4):
        envs.step(np.zeros(1, np.int64), fragment, t)
    np.testing.assert_allclose(fragment.rewards[:3, 0], 0.01)
    assert fragment.terminations[:, 0].tolist() == [False, False, True, False]


@pytest.mark.parametrize(
    ("env", "env_config", "message"),
    [
        ("ALE/Pogn-v5", {}, r"unknown environment id 'ALE/Pogn-v5'\. Did you mean 'ALE/Pong-v5'\?"),
        ("ALE/pong", {}, r"unknown environment id 'ALE/pong'.*'ALE/Pong-v5'"),
        ("ALE/Pong-v5", {"frameskip": 2}, r"unknown Atari option 'frameskip'\. Did you mean 'frame_skip'\?"),
        ("ALE/Pong-v5", {"game": "pong"}, r"unknown Atari option 'game'.*Known: .*noop_max"),
        ("ALE/Pong-v5", {"frame_skip": 0}, r"frame_skip is 0; it must be an integer >= 1 and <= 1000"),
        ("ALE/Pong-v5", {"frame_skip": 2.5}, r"option frame_skip is 2\.5 \(float\); it must be an integer"),
        ("ALE/Pong-v5", {"frame_stack": True}, r"option frame_stack is True \(bool\); it must be an integer"),
        ("ALE/Pong-v5", {"noop_max": -1}, r"noop_max is -1; it must be an integer >= 0 and <= 10000"),
        ("ALE/Pong-v5", {"screen_size": 4}, r"screen_size is 4; it must be an integer >= 8 and <= 1000"),
        ("ALE/Pong-v5", {"frame_stack": 200}, r"frame_stack is 200; it must be an integer >= 1 and <= 64"),
        ("ALE/Pong-v5", {"max_num_frames_per_episode": 10**10}, r"must be an integer >= 1 and <= 2147483647"),
        ("PongNoFrameskip-v4", {}, r"'PongNoFrameskip-v4' .* write 'ALE/Pong-v5'"),
        ("SpaceInvaders-v4", {}, r"'SpaceInvaders-v4' .* write 'ALE/SpaceInvaders-v5'"),
        ("ALE/Pong-v5", {"reward_clipping": 1}, r"option reward_clipping is 1; it must be true or false"),
        ("ALE/Pong-v5", {"repeat_action_probability": 25}, r"is 25; it must be a number >= 0 and < 1"),
        ("ALE/Pong-v5", {"repeat_action_probability": "0"}, r"is '0' \(str\); it must be a number >= 0"),
        ("ALE/Pong-v5", {"repeat_action_probability": math.nan}, r"is nan \(float\); it must be a number"),
    ],
)
@pytest.mark.parametrize("make", [TaskSpec.make_env, lambda task: task.make_vector_env(2)])
def test_bad_options_are_refused_in_one_line(make, env, env_config, message):
    with pytest.raises(DistillError, match=message) as error:
        make(TaskSpec.from_config("task", {"env": env, "env_config": env_config}))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("actions", [[0, 6], [-1, 0]])
def test_an_action_that_the_game_lacks_is_refused(actions):
    env = AtariVectorEnv("pong", 2)
    env.reset(seed=0)
    with pytest.raises(DistillError, match=r"each must be an index in \[0, 5\]"):
        env.step(np.array(actions))  # ALE itself would wait for ever
