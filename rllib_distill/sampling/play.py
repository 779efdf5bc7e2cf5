"""Whole episodes, for evaluation."""

from collections.abc import Callable, Mapping

from rllib_distill.sampling.actors import Actions, Observations
from rllib_distill.sampling.task_envs import Episode, TaskEnvs


def play_episodes(
    envs: Mapping[str, TaskEnvs], act: Callable[[Observations], Actions], num_episodes: int
) -> dict[str, list[Episode]]:
    """Plays whole episodes of every task, from environments that were just reset.

    Every environment has its quota, the same for all (+ 1 for the first few): to take the first episodes that
    finish anywhere would favour short ones. A task whose quotas are met is stepped no more.

    Args:
        envs: Task -> its environments.
        act: Task -> observations to task -> actions; is asked for the tasks that are not done.
        num_episodes: Per task.

    Returns:
        Task -> `num_episodes` episodes.
    """
    episodes: dict[str, list[Episode]] = {task: [] for task in envs}
    left = {
        task: [num_episodes // e.num_envs + (b < num_episodes % e.num_envs) for b in range(e.num_envs)]
        for task, e in envs.items()
    }
    active = dict(envs) if num_episodes > 0 else {}
    while active:
        actions = act({task: task_envs.observations for task, task_envs in active.items()})
        for task, task_envs in list(active.items()):
            for episode in task_envs.step(actions[task]):
                if left[task][episode.env]:
                    left[task][episode.env] -= 1
                    episodes[task].append(episode)
            if not any(left[task]):
                del active[task]
    return episodes
