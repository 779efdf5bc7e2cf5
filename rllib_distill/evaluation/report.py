"""The report on a checkpoint: who scored what, how it was trained, and the files that say so."""

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rllib_distill.core.experts import ExpertConfig
from rllib_distill.evaluation.atari_scores import atari_game
from rllib_distill.evaluation.files import write_atomically
from rllib_distill.evaluation.json_text import json_text
from rllib_distill.evaluation.learning_curves import learning_curves_png
from rllib_distill.evaluation.players import ExpertPlayer, Player, PolicyPlayer, RandomPlayer
from rllib_distill.evaluation.score_board import DISTILLED, EXPERT, POLICY, RANDOM, STUDENT, ScoreBoard
from rllib_distill.evaluation.scores import play_in_parallel
from rllib_distill.evaluation.table import score_csv
from rllib_distill.evaluation.trained_policies import TrainedPolicies
from rllib_distill.evaluation.training_record import TrainingRecord
from rllib_distill.tasks.atari import ATARI_DEFAULTS
from rllib_distill.tasks.task import TaskSpec

FORMAT = "rllib_distill.scores/1"
_DERIVED = ("env", "env_config", "policies", "simple_optimizer")  # from `tasks`, or of no use
_RULES = ("frame_skip", "noop_max", "repeat_action_probability", "max_num_frames_per_episode")
_PACKAGES = ("rllib-distill", "ray", "torch", "numpy", "gymnasium")


@dataclass(frozen=True)
class Report:
    """Scores of a checkpoint, and all that is needed to get them again.

    Attributes:
        board: The scores.
        record: Of the training; empty where none lies beside the checkpoint.
        facts: Checkpoint, algorithm, settings, seeds, versions, command.
    """

    board: ScoreBoard
    record: TrainingRecord
    facts: Mapping[str, Any]

    def to_json(self) -> str:
        """All of it; `returns` lists every episode, `evaluations` and `training_curve` of the training."""
        board = self.board
        tasks = {
            task: {
                **{player: _summary(board, player, task) for player in board.players},
                **({"student_share": board.student_share(task)} if board.measure else {}),
            }
            for task in board.tasks
        }
        total = {"measure": board.measure, "geometric_mean": board.geometric_mean} if board.measure else {}
        training = {"evaluations": self.record.evaluations, "training_curve": self.record.curve}
        return json_text({"format": FORMAT, "tasks": tasks, **total, **self.facts, **training}) + "\n"

    def to_csv(self) -> str:
        """One row per task."""
        return score_csv(self.board)

    def write(self, folder: Path) -> list[Path]:
        """Writes `scores.json`, `scores.csv` and, if the training was recorded, `learning_curves.png`.

        Args:
            folder: Exists.

        Returns:
            The files.
        """
        contents = {"scores.json": self.to_json().encode(), "scores.csv": self.to_csv().encode()}
        if self.record.results:
            contents["learning_curves.png"] = learning_curves_png(self.board, self.record, self._title())
        for name, content in contents.items():
            write_atomically(folder / name, content)
        return [folder / name for name in contents]

    def _title(self) -> str:
        mean, above = self.board.geometric_mean, ", above random play"
        of_what = f"geometric mean{above if self.board.measure == 'normalised' else ''}"
        return str(self.facts["algorithm"]) + (
            f": {mean:.2f} of the experts ({of_what})" if mean is not None else ""
        )


def make_report(
    checkpoint: Path,
    *,
    episodes: int = 100,
    steps: int | None = None,
    epsilon: float | None = None,
    seed: int = 0,
    command: str = "",
    on_progress: Callable[[int, int], None] = lambda done, of: None,
) -> Report:
    """Plays as a checkpoint's policies do, at random, and as its experts or distilled policy if it has any.

    Needs Ray started.

    Args:
        checkpoint: Its folder.
        episodes: Per player and task.
        steps: Instead of so many episodes, an epoch of so many steps; the papers' have 125,000.
        epsilon: Chance of a random action; the papers' is 0.05. None: the config's `evaluation_epsilon`.
        seed: Of environments and chance.
        command: That the user gave, for the record.
        on_progress: Told how many of how many games are finished.

    Raises:
        DistillError: The checkpoint, or an expert of it, cannot be read.
    """
    policies = TrainedPolicies(checkpoint)
    config = policies.config
    epsilon = config.evaluation_epsilon if epsilon is None else epsilon
    players: dict[str, Player] = {RANDOM: RandomPlayer()}
    if config.expert_modules:
        players[EXPERT] = PolicyPlayer(str(checkpoint.resolve()), "experts")
    elif isinstance(config, ExpertConfig):
        config.load_experts()  # raises what is wrong with them, here rather than far away
        players[EXPERT] = ExpertPlayer(dict(cast(Mapping[str, str], config.expert_paths)))
    players[STUDENT if EXPERT in players else POLICY] = PolicyPlayer(str(checkpoint.resolve()))
    if config.evaluates_distilled:
        players[DISTILLED] = PolicyPlayer(str(checkpoint.resolve()), "distilled")
    scores = play_in_parallel(
        players,
        config.task_set,
        num_episodes=episodes if steps is None else None,
        num_steps=steps,
        epsilon=epsilon,
        seed=seed,
        on_progress=on_progress,
    )
    amount = {"episodes": episodes} if steps is None else {"steps": steps}
    record = TrainingRecord.read(checkpoint.parent, config.expert_modules)
    facts = {
        "algorithm": policies.algorithm.__name__,
        "checkpoint": str(checkpoint.resolve()),
        "evaluation": {**amount, "epsilon": epsilon, "seed": seed},
        "training": {"env_steps": record.env_steps, "seconds": record.seconds, "seed": config.seed},
        "config": _essentials(config),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        "command": command,
    }
    games = games_of({name: task.spec for name, task in config.task_set.items()})
    board = ScoreBoard(scores, games=games, epsilon=epsilon, steps=steps)
    return Report(board, record, facts)


def games_of(specs: Mapping[str, TaskSpec]) -> dict[str, str]:
    """Task -> the game of the table in `atari_scores` that it is; tasks that are none are left out.

    Wrapped, with sticky actions or shorter episodes it is another game, with other scores.
    """
    games = {
        name: atari_game(spec.env)
        for name, spec in specs.items()
        if spec.is_atari
        and not spec.wrappers
        and spec.max_episode_steps is None
        and all({**ATARI_DEFAULTS, **spec.env_config}[rule] == ATARI_DEFAULTS[rule] for rule in _RULES)
    }
    return {name: game for name, game in games.items() if game}


def _summary(board: ScoreBoard, player: str, task: str) -> dict[str, Any]:
    played = board.episodes[player][task]
    human = board.human_normalised(player, task)
    return {
        "episodes": board.num_episodes(player, task),
        "env_steps": played.env_steps(),
        "mean": board.mean(player, task),
        "std": board.std(player, task),
        "min": min(played.returns),
        "max": max(played.returns),
        "mean_length": sum(played.lengths) / len(played.lengths),
        **({"human_normalised": human} if human is not None else {}),
        **({"unfinished": True} if board.is_unfinished(player, task) else {}),
        "returns": list(played.returns),
    }


def _essentials(config: AlgorithmConfig) -> dict[str, Any]:
    """Our own settings, and those of RLlib's that are not at their defaults; `variant` sums them up."""
    stock, default = vars(AlgorithmConfig()), vars(type(config)())
    settings = {
        key.removeprefix("_"): value
        for key, value in vars(config).items()
        if (key not in stock or value != default.get(key))
        and key not in _DERIVED
        and isinstance(value, str | int | float | list | tuple | Mapping)
    }
    variant = getattr(config, "variant_name", None)
    return settings if variant is None else {**settings, "variant": variant}
