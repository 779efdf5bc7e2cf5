"""Tiny tasks for Distral, and configs for them."""

from gymnasium.wrappers import TimeLimit

from rllib_distill import DistralConfig, SoftQDistralConfig

ROOMS = {"room_height": 2, "room_width": 2, "corridor_length": 1}
TASKS = {
    name: {"env": "rllib_distill/TwoRooms-v0", "env_config": {"task": i, **ROOMS}, "max_episode_steps": 7}
    for i, name in enumerate(("left", "right"))
}
NETWORK = {"type": "mlp", "hiddens": [8]}


def next_step(env):
    """A wrapper, so that the tasks go through gymnasium's vector env, in NEXT_STEP mode."""
    return TimeLimit(env, 7)


WRAPPED = {name: {**task, "wrappers": [next_step]} for name, task in TASKS.items()}


def small(config, tasks=TASKS):
    return (
        config.multi_task(tasks=tasks, num_envs_per_task=3)
        .env_runners(num_env_runners=0, rollout_fragment_length=10)
        .evaluation(evaluation_duration=4)
        .reporting(min_time_s_per_iteration=0)
        .debugging(seed=0, log_level="ERROR")
    )


def distral(variant="kl_ent_2col", *, tasks=TASKS, network=NETWORK, **training):
    return small(DistralConfig(), tasks).variant(variant).training(network=network, **training)


def soft_q(*, tasks=TASKS, network=NETWORK, **training):
    sizes = {
        "train_batch_size_per_learner": 40,
        "num_steps_sampled_before_learning_starts": 30,
        "replay_capacity": 90,
    }
    return small(SoftQDistralConfig(), tasks).training(network=network, **{**sizes, **training})


def tabular(**training):
    states = {
        name: {**task, "env_config": {**task["env_config"], "observation": "state"}}
        for name, task in TASKS.items()
    }
    return soft_q(
        tasks=states,
        **{"network": {"type": "tabular"}, "optimizer": {"type": "sgd"}, "lr": 0.1, **training},
    )
