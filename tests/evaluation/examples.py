"""Boards of scores, and what RLlib tells after a training iteration, written by hand."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from rllib_distill.env_runner.play import EpochReturns
from rllib_distill.env_runner.task_envs import EpisodeReturns
from rllib_distill.evaluation import ScoreBoard

GAMES = {"pong": "pong"}  # what the other task is called is no game


def board(random=(2.0, 1.0), expert=(10.0, 4.0), student=(9.0, 5.0), **options):
    """Two tasks; each score is the mean of two episodes, 1 apart from it."""
    policies = {"random": random, "expert": expert, "student": student}
    return ScoreBoard(
        {
            policy: {
                task: EpisodeReturns(task, (mean - 1.0, mean + 1.0), (3, 5))
                for task, mean in zip(("pong", "breakout"), means, strict=True)
            }
            for policy, means in policies.items()
        },
        **options,
    )


def with_epochs(scores, unfinished=()):
    """The same, played in epochs of 20 steps; the episodes of the unfinished policies were all cut off."""
    episodes = {
        policy: {
            task: EpochReturns(task, played.returns, played.lengths, 20, policy not in unfinished)
            for task, played in of_policy.items()
        }
        for policy, of_policy in scores.episodes.items()
    }
    return replace(scores, episodes=episodes, steps=20)


def with_distilled(scores):
    """The student as a task policy beside a distilled one that plays as the expert does."""
    episodes = scores.episodes
    policies = {"random": "random", "policy": "student", "distilled": "expert"}
    return replace(scores, episodes={policy: episodes[who] for policy, who in policies.items()})


def evaluated(iteration, fresh=True, **modules):
    """A result with an evaluation; one that RLlib merely repeats lacks the count of workers."""
    returns = {
        "agent_episode_returns_mean": {"pong": float(iteration)},
        "module_episode_returns_mean": modules,
    }
    return {
        "training_iteration": iteration,
        "num_env_steps_sampled_lifetime": 100.0 * iteration,
        "time_total_s": 1.0,
        "evaluation": {"env_runners": returns, **({"num_healthy_workers": 0} if fresh else {})},
    }


def rows_of(observations, is_first=False):
    """What an actor is shown: task -> rows with these observations, all an episode's first, or none."""
    flags = {task: np.full(len(values), is_first) for task, values in observations.items()}
    return {
        task: SimpleNamespace(observations=values, is_first=flags[task], is_reset=flags[task])
        for task, values in observations.items()
    }
