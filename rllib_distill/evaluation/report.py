"""The report on a checkpoint: its scores, how it was trained and evaluated, and the files with all this."""

import json
import math
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import pandas as pd
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from rllib_distill.core.experts import ExpertsMixin
from rllib_distill.env_runner.task_envs import DISTILLED, EXPERT, POLICY
from rllib_distill.evaluation.play import (
    MakeActor,
    TrainedPolicies,
    checkpoint_actor,
    expert_actor,
    play_in_parallel,
    random_actor,
)
from rllib_distill.evaluation.plots import learning_curves_png
from rllib_distill.evaluation.scores import (
    RANDOM,
    STUDENT,
    ScoreBoard,
    atari_game,
    score_csv,
)
from rllib_distill.experts import Expert
from rllib_distill.files import json_text, write_all_atomically
from rllib_distill.tasks.atari import ATARI_DEFAULTS
from rllib_distill.tasks.task import TaskSpec

FORMAT = "rllib_distill.scores/1"
_DERIVED = ("env", "env_config", "policies", "simple_optimizer")  # follow from `tasks`, or are of no use
_RULES = ("frame_skip", "noop_max", "repeat_action_probability", "max_num_frames_per_episode")  # of a game
_PACKAGES = ("rllib-distill", "ray", "torch", "numpy", "gymnasium")
_MOST_POINTS = 200  # of a recorded training curve


@dataclass(frozen=True)
class TrainingRecord:
    """The results that Tune logged while a trial trained; empty if there is no log.

    Attributes:
        results: RLlib's results in order, one per training iteration.
        expert_modules: Maps each task to the id of the module that learned as its expert; empty if the
            experts did not learn, or there were none.
    """

    results: tuple[dict[str, Any], ...]
    expert_modules: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, trial_folder: Path, expert_modules: Mapping[str, str] | None = None) -> "TrainingRecord":
        """Reads a trial's `result.json`, which has one JSON mapping per line.

        Args:
            trial_folder: The folder with `result.json` and the trial's checkpoints.
            expert_modules: The attribute of this name; None if it is empty.
        """
        path = trial_folder / "result.json"
        results: list[dict[str, Any]] = []
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                result = json.loads(line)
            except ValueError:
                continue  # the last line is incomplete if the run was killed
            while results and results[-1]["training_iteration"] >= result["training_iteration"]:
                results.pop()  # the trial was resumed from an earlier checkpoint
            results.append(result)
        return cls(tuple(results), dict(expert_modules or {}))

    @property
    def env_steps(self) -> int | None:
        """The number of env steps of all tasks together; None if there is no record."""
        steps = self.results[-1].get("num_env_steps_sampled_lifetime") if self.results else None
        return None if steps is None else int(steps)

    @property
    def seconds(self) -> float | None:
        """The training time in seconds; None if there is no record."""
        return float(self.results[-1]["time_total_s"]) if self.results else None

    def returns(self, task: str) -> tuple[list[float], list[float]]:
        """Returns a task's training curve: numbers of env steps of all tasks together, and mean returns."""
        points = [
            (float(result["num_env_steps_sampled_lifetime"]), mean)
            for result in self.results
            if (mean := _training_returns(result).get(task)) is not None
        ]
        return [steps for steps, _ in points], [mean for _, mean in points]

    @property
    def curve(self) -> list[dict[str, Any]]:
        """The training curves of all tasks, reduced to at most 200 points.

        If there are more than 200 results, the env steps are divided into 200 equal ranges, and the results
        in each range are averaged.

        Returns:
            Points in order, each with `env_steps` (of all tasks together), `seconds` (of training), and
            `returns`, which maps each task with a finished episode to the mean return of its latest ones.
        """
        results = [result for result in self.results if _training_returns(result)]
        returns = pd.DataFrame(map(_training_returns, results))
        steps = pd.Series([float(result["num_env_steps_sampled_lifetime"]) for result in results])
        seconds = pd.Series([float(result["time_total_s"]) for result in results])
        part = pd.Series(range(len(results)))
        if len(results) > _MOST_POINTS:
            first, last = steps.iloc[0], steps.iloc[-1]
            part = ((steps - first) * _MOST_POINTS // max(last - first, 1.0)).clip(upper=_MOST_POINTS - 1)
        means = zip(
            steps.groupby(part).mean(),
            seconds.groupby(part).mean(),
            returns.groupby(part).mean().to_dict("records"),
            strict=True,
        )
        return [
            {
                "env_steps": round(at),
                "seconds": round(trained, 1),
                "returns": {  # rounded to 6 digits to keep the file small
                    task: float(f"{mean:.6g}") for task, mean in of_tasks.items() if not math.isnan(mean)
                },
            }
            for at, trained, of_tasks in means
        ]

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        """The evaluations that RLlib ran during training.

        Returns:
            Evaluations in order, each with `env_steps` (of all tasks together) and mappings of tasks to mean
            returns: `student` (of the student or the tasks' own policies), `experts` if they learned, and
            `distilled` if there is a distilled policy.
        """
        evaluations = []
        for result in self.results:
            evaluation = result.get("evaluation") or {}
            if "num_healthy_workers" not in evaluation:
                continue  # RLlib repeats the last evaluation in iterations that have none of their own
            runners = evaluation.get("env_runners", {})
            modules = runners.get("module_episode_returns_mean", {})
            experts = {
                task: modules[module] for task, module in self.expert_modules.items() if module in modules
            }
            distilled = dict(runners.get("distilled_episode_returns_mean", {}))
            evaluations.append(
                {
                    "env_steps": int(result["num_env_steps_sampled_lifetime"]),
                    "student": dict(runners.get("agent_episode_returns_mean", {})),
                    **({"experts": experts} if self.expert_modules else {}),
                    **({"distilled": distilled} if distilled else {}),
                }
            )
        return evaluations


def _training_returns(result: Mapping[str, Any]) -> dict[str, float]:
    """Maps each task to the mean return of its latest training episodes; tasks without one are left out."""
    means = result.get("env_runners", {}).get("agent_episode_returns_mean", {})
    return {task: float(mean) for task, mean in means.items() if mean is not None and math.isfinite(mean)}


@dataclass(frozen=True)
class Report:
    """The scores of a checkpoint, with what is needed to reproduce them.

    Attributes:
        board: The scores.
        record: The record of the training; empty if there is none beside the checkpoint.
        facts: Checkpoint, algorithm, settings, seeds, versions of packages, and command.
    """

    board: ScoreBoard
    record: TrainingRecord
    facts: Mapping[str, Any]

    def to_json(self) -> str:
        """Returns the whole report as JSON text, with the return of every episode in `returns`."""
        board = self.board
        tasks = {
            task: {
                **{policy: _summary(board, policy, task) for policy in board.policies},
                **({"student_share": board.student_share(task)} if board.measure else {}),
            }
            for task in board.tasks
        }
        total = {"measure": board.measure, "geometric_mean": board.geometric_mean} if board.measure else {}
        training = {"evaluations": self.record.evaluations, "training_curve": self.record.curve}
        return json_text({"format": FORMAT, "tasks": tasks, **total, **self.facts, **training}) + "\n"

    def to_csv(self) -> str:
        """Returns the scores as CSV text, one row per task."""
        return score_csv(self.board)

    def write(self, folder: Path) -> list[Path]:
        """Writes `scores.json`, `scores.csv` and, if the training was recorded, `learning_curves.png`.

        Args:
            folder: The folder to write into.

        Returns:
            The paths of the files.

        Raises:
            DistillError: A file cannot be written; then no file is written.
        """
        contents = {"scores.json": self.to_json().encode(), "scores.csv": self.to_csv().encode()}
        if self.record.results:
            returns = {task: self.record.returns(task) for task in self.board.tasks}
            picture = learning_curves_png(self.board, returns, self.record.evaluations, self._title())
            contents["learning_curves.png"] = picture
        files = {folder / name: content for name, content in contents.items()}
        write_all_atomically(files)
        return list(files)

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
    """Evaluates a checkpoint's policies, random actions, and the experts and distilled policy if it has any.

    Ray must have been started.

    Args:
        checkpoint: The checkpoint's folder.
        episodes: Number of episodes per policy and task.
        steps: Number of steps per policy and task (an epoch, see `play_steps`), instead of `episodes`;
            125,000 in the Atari papers.
        epsilon: Probability of a random action, 0.05 in the Atari papers; None takes the config's
            `evaluation_epsilon`.
        seed: Seed of environments and random actions.
        command: The user's command, which the report mentions.
        on_progress: As in `play_in_parallel`.

    Returns:
        The report.

    Raises:
        DistillError: The checkpoint, or the file of an expert, cannot be read.
    """
    trained = TrainedPolicies(checkpoint)
    config, folder = trained.config, str(checkpoint.resolve())
    epsilon = config.evaluation_epsilon if epsilon is None else epsilon
    policies: dict[str, MakeActor] = {RANDOM: random_actor}
    if config.expert_modules:
        policies[EXPERT] = partial(checkpoint_actor, folder, "expert")
    elif isinstance(config, ExpertsMixin):
        config.load_experts()  # raises an error here rather than in a Ray task
        policies[EXPERT] = partial(expert_actor, dict(cast(Mapping[str, str], config.expert_paths)))
    policies[STUDENT if EXPERT in policies else POLICY] = partial(checkpoint_actor, folder, "policy")
    if config.evaluates_distilled:
        policies[DISTILLED] = partial(checkpoint_actor, folder, "distilled")
    scores = play_in_parallel(
        policies,
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
        "algorithm": trained.algorithm.__name__,
        "checkpoint": folder,
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
    """Finds the tasks whose scores can be compared with those in `RANDOM_AND_HUMAN`.

    They are Atari games without wrappers and with the default rules: other frame skips, no-op starts, sticky
    actions or lengths of episodes would change the scores.

    Args:
        specs: Task -> how it is made.

    Returns:
        Task -> the name of its game in the table, only for such tasks.
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


def note_expected_returns(folder: Path, report: Report) -> None:
    """Adds the measured returns to the expert files that training exported.

    Args:
        folder: The folder of the files `<task>.safetensors`. Tasks without a file are skipped, and so are
            tasks of which no episode ended.
        report: The report on these experts, which are its `policy`, or its `expert` beside a student.

    Raises:
        DistillError: A file cannot be read or written.
    """
    board = report.board
    policy = POLICY if POLICY in board.policies else EXPERT
    for task in board.tasks:
        path = folder / f"{task}.safetensors"
        if path.exists() and not board.is_unfinished(policy, task):
            expert = Expert.load(path)
            expert.info = expert.info.model_copy(
                update={
                    "expected_return": {
                        "mean": board.mean(policy, task),
                        "std": board.std(policy, task),
                        "episodes": board.num_episodes(policy, task),
                        "epsilon": report.facts["evaluation"]["epsilon"],
                    }
                }
            )
            expert.save(path)


def _summary(board: ScoreBoard, policy: str, task: str) -> dict[str, Any]:
    played = board.episodes[policy][task]
    human = board.human_normalised(policy, task)
    return {
        "episodes": board.num_episodes(policy, task),
        "env_steps": played.env_steps(),
        "mean": board.mean(policy, task),
        "std": board.std(policy, task),
        "min": min(played.returns),
        "max": max(played.returns),
        "mean_length": sum(played.lengths) / len(played.lengths),
        **({"human_normalised": human} if human is not None else {}),
        **({"unfinished": True} if board.is_unfinished(policy, task) else {}),
        "returns": list(played.returns),
    }


def _essentials(config: AlgorithmConfig) -> dict[str, Any]:
    """Returns this package's settings, those of RLlib's that differ from the default, and the variant."""
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
