"""The scores of several policies on several tasks: how they are compared, and tables of them."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
from rich.table import Table

from rllib_distill.env_runner.play import EpochReturns
from rllib_distill.env_runner.task_envs import EXPERT, EpisodeReturns

RANDOM, STUDENT = "random", "student"

Measure = Literal["ratio", "normalised"]
"""`ratio`: student / expert; `normalised`: (student - random) / (expert - random)."""

_HEADINGS = {"ratio": "student / expert", "normalised": "student / expert,\nabove random"}

RANDOM_AND_HUMAN: dict[str, tuple[float, float]] = {
    "alien": (227.8, 7127.7), "amidar": (5.8, 1719.5), "assault": (222.4, 742.0), "asterix": (210.0, 8503.3),
    "asteroids": (719.1, 47388.7), "atlantis": (12850.0, 29028.1), "bank_heist": (14.2, 753.1),
    "battle_zone": (2360.0, 37187.5), "beam_rider": (363.9, 16926.5), "berzerk": (123.7, 2630.4),
    "bowling": (23.1, 160.7), "boxing": (0.1, 12.1), "breakout": (1.7, 30.5), "centipede": (2090.9, 12017.0),
    "chopper_command": (811.0, 7387.8), "crazy_climber": (10780.5, 35829.4), "defender": (2874.5, 18688.9),
    "demon_attack": (152.1, 1971.0), "double_dunk": (-18.6, -16.4), "enduro": (0.0, 860.5),
    "fishing_derby": (-91.7, -38.7), "freeway": (0.0, 29.6), "frostbite": (65.2, 4334.7),
    "gopher": (257.6, 2412.5), "gravitar": (173.0, 3351.4), "hero": (1027.0, 30826.4),
    "ice_hockey": (-11.2, 0.9), "jamesbond": (29.0, 302.8), "kangaroo": (52.0, 3035.0),
    "krull": (1598.0, 2665.5), "kung_fu_master": (258.5, 22736.3), "montezuma_revenge": (0.0, 4753.3),
    "ms_pacman": (307.3, 6951.6), "name_this_game": (2292.3, 8049.0), "phoenix": (761.4, 7242.6),
    "pitfall": (-229.4, 6463.7), "pong": (-20.7, 14.6), "private_eye": (24.9, 69571.3),
    "qbert": (163.9, 13455.0), "riverraid": (1338.5, 17118.0), "road_runner": (11.5, 7845.0),
    "robotank": (2.2, 11.9), "seaquest": (68.4, 42054.7), "skiing": (-17098.1, -4336.9),
    "solaris": (1236.3, 12326.7), "space_invaders": (148.0, 1668.7), "star_gunner": (664.0, 10250.0),
    "surround": (-10.0, 6.5), "tennis": (-23.8, -8.3), "time_pilot": (3568.0, 5229.2),
    "tutankham": (11.4, 167.6), "up_n_down": (533.4, 11693.2), "venture": (0.0, 1187.5),
    "video_pinball": (16256.9, 17667.9), "wizard_of_wor": (563.5, 4756.5), "yars_revenge": (3092.9, 54576.9),
    "zaxxon": (32.5, 9173.3),
}  # fmt: skip
"""Game -> mean score of uniformly random actions, and mean score of a professional human tester.

From the tables for no-op starts of Wang et al. 2016, "Dueling Network Architectures for Deep Reinforcement
Learning" (https://arxiv.org/abs/1511.06581). Badia et al. 2020, "Agent57: Outperforming the Atari Human
Benchmark" (https://arxiv.org/abs/2003.13350, appendix H.4) print the same, except 0 for random play in Video
Pinball. Games last at most 30 minutes, without sticky actions.
"""


@dataclass(frozen=True)
class ScoreBoard:
    """The scores of several policies on the same tasks.

    Attributes:
        episodes: Name of a policy -> task -> the episodes it played. The policies are `random`, and either
            `expert` and `student` or else `policy`; algorithms with a distilled policy have `distilled`, too.
        games: Maps each task that is a game in `RANDOM_AND_HUMAN` to its name there.
        epsilon: Probability of a random action of all policies but `random`; None if it is unknown.
        steps: Length in steps of the epochs that were played; None if a number of episodes was played.
    """

    episodes: Mapping[str, Mapping[str, EpisodeReturns]]
    games: Mapping[str, str] = field(default_factory=dict)
    epsilon: float | None = None
    steps: int | None = None

    @property
    def policies(self) -> tuple[str, ...]:
        """The names of the policies, in the order of the tables' columns."""
        return tuple(self.episodes)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the tasks, in the user's order."""
        return tuple(next(iter(self.episodes.values())))

    def mean(self, policy: str, task: str) -> float:
        """Returns the mean return of a policy's episodes of a task."""
        return float(np.mean(self.episodes[policy][task].returns))

    def std(self, policy: str, task: str) -> float:
        """Returns the standard deviation of these episodes' returns."""
        return float(np.std(self.episodes[policy][task].returns))

    def num_episodes(self, policy: str, task: str) -> int:
        """Returns the number of these episodes."""
        return len(self.episodes[policy][task].returns)

    def is_unfinished(self, policy: str, task: str) -> bool:
        """Tells whether no episode ended within the epoch, so that the score is of unfinished episodes."""
        played = self.episodes[policy][task]
        return isinstance(played, EpochReturns) and not played.finished

    def human_normalised(self, policy: str, task: str) -> float | None:
        """Returns `(mean - random) / (human - random)` with the published scores of `RANDOM_AND_HUMAN`.

        It is None for a task that is not in the table, and for unfinished episodes, since the published
        scores are of whole games.
        """
        if task not in self.games or self.is_unfinished(policy, task):
            return None
        return human_normalised(self.games[task], self.mean(policy, task))

    @property
    def measure(self) -> Measure | None:
        """How student and expert are compared, the same way on all tasks; None if there is no student.

        The measure is `ratio` where scores are positive. Where they are not, a ratio means nothing: if a mean
        return of student or expert is 0 or less, or the return of any policy's episode is below 0 (as in
        Pong, even for good players), the measure is `normalised`, with random play as measured.
        """
        if STUDENT not in self.episodes:
            return None
        scores = [self.mean(policy, task) for policy in (EXPERT, STUDENT) for task in self.tasks]
        lowest = min(min(played.returns) for of in self.episodes.values() for played in of.values())
        return "ratio" if min(scores) > 0 and lowest >= 0 else "normalised"

    def student_share(self, task: str) -> float | None:
        """Returns the student's share of the expert's score by `measure`; None if there is no student.

        It is also None where `share_of_expert` is None, and where the score of any policy is of unfinished
        episodes: half of a game that will be lost can have a good score.
        """
        if self.measure is None or any(self.is_unfinished(policy, task) for policy in self.policies):
            return None
        student, expert, random = (self.mean(policy, task) for policy in (STUDENT, EXPERT, RANDOM))
        return share_of_expert(self.measure, student, expert, random)

    @property
    def geometric_mean(self) -> float | None:
        """The geometric mean of all tasks' shares; None if one is missing or not above 0."""
        return geometric_mean(self.student_share(task) for task in self.tasks)


def share_of_expert(measure: Measure, student: float, expert: float, random: float) -> float | None:
    """Returns `(student - base) / (expert - base)`; None if the expert's return is not above the base.

    Args:
        measure: Sets the base: it is 0 for `ratio` and `random` for `normalised`.
        student: The student's mean return.
        expert: The expert's mean return.
        random: The mean return of random play.
    """
    base = 0.0 if measure == "ratio" else random
    return (student - base) / (expert - base) if expert > base else None


def geometric_mean(shares: Iterable[float | None]) -> float | None:
    """Returns the geometric mean of shares; None if there are none, or one is None, NaN or not above 0."""
    logs = [math.log(share) if share is not None and share > 0 else None for share in shares]
    known = [log for log in logs if log is not None]
    return math.exp(sum(known) / len(known)) if known and len(known) == len(logs) else None


def atari_game(env: Any) -> str | None:
    """Finds the name of a game in `RANDOM_AND_HUMAN`.

    Args:
        env: A gymnasium id such as `"ALE/SpaceInvaders-v5"`, or the name itself.

    Returns:
        The name, such as `"space_invaders"`; None if `env` is not in the table.
    """
    if not isinstance(env, str):
        return None
    of_ale = re.fullmatch(r"(?:.*:)?ALE/(\w+)-v\d+", env)
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", of_ale[1]).lower() if of_ale else env
    return name if name in RANDOM_AND_HUMAN else None


def human_normalised(env: str, score: float) -> float | None:
    """Returns `(score - random) / (human - random)`: 0 is random play, 1 is the human.

    Args:
        env: The game, as in `atari_game`; the result is None if it is not in the table.
        score: The mean return of whole games, of unclipped rewards.
    """
    game = atari_game(env)
    if game is None:
        return None
    random, human = RANDOM_AND_HUMAN[game]
    return (score - random) / (human - random)


def score_table(board: ScoreBoard, title: str = "") -> Table:
    """Makes a table for a terminal: mean returns and, except for random play, standard deviations."""
    table = Table(
        title=title or None,
        title_justify="left",
        title_style="bold",
        caption=_caption(board) or None,
        caption_justify="left",
    )
    table.add_column("task", no_wrap=True)
    for policy in board.policies:
        table.add_column(policy, justify="right")
    if board.measure is not None:
        table.add_column(_HEADINGS[board.measure], justify="right", style="bold")
    for policy in _beside_a_human(board):
        table.add_column(f"{policy},\nhuman-\nnorm.", justify="right")
    for task in board.tasks:
        cells = [_score(board, policy, task) for policy in board.policies]
        share = [_number(board.student_share(task))] if board.measure is not None else []
        human = [_number(board.human_normalised(policy, task)) for policy in _beside_a_human(board)]
        table.add_row(task, *cells, *share, *human)
    if board.measure is not None:
        table.add_section()
        table.add_row("geometric mean", *[""] * len(board.policies), _number(board.geometric_mean))
    return table


def summary_table(boards: Mapping[str, ScoreBoard]) -> Table:
    """Makes a table for a terminal: the geometric mean of each trial (name -> scores), and their mean."""
    means = {trial: board.geometric_mean for trial, board in boards.items()}
    known = [mean for mean in means.values() if mean is not None]
    table = Table("trial", title="all trials", title_justify="left", title_style="bold")
    table.add_column("geometric mean", justify="right", style="bold")
    for trial, mean in means.items():
        table.add_row(trial, _number(mean))
    table.add_section()
    table.add_row("mean ± std", f"{np.mean(known):.3f} ± {np.std(known):.3f}" if known else "-")
    return table


def score_csv(board: ScoreBoard) -> str:
    """Returns the scores as CSV text, one row per task.

    If epochs were played, the column `unfinished` names the policies of which no episode ended.
    """
    rows = [_csv_row(board, task) for task in board.tasks]
    return str(pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"))


def _csv_row(board: ScoreBoard, task: str) -> dict[str, Any]:
    row: dict[str, Any] = {"task": task}
    for policy in board.policies:
        row[f"{policy}_mean"] = _rounded(board.mean(policy, task))
        row[f"{policy}_std"] = _rounded(board.std(policy, task))
        row[f"{policy}_episodes"] = board.num_episodes(policy, task)
    if board.measure is not None:
        row[f"student_{board.measure}"] = _rounded(board.student_share(task))
    for policy in _beside_a_human(board):
        row[f"{policy}_human_normalised"] = _rounded(board.human_normalised(policy, task))
    row["epsilon"] = "" if board.epsilon is None else board.epsilon
    if board.steps is not None:
        row["steps"] = board.steps
        row["unfinished"] = " ".join(policy for policy in board.policies if board.is_unfinished(policy, task))
    return row


def _beside_a_human(board: ScoreBoard) -> list[str]:
    """Returns the policies with human-normalised scores: all but random play, or none without Atari games."""
    return [policy for policy in board.policies if policy != RANDOM] if board.games else []


def _caption(board: ScoreBoard) -> str:
    lines = [_how_it_was_played(board)]
    if any(board.is_unfinished(policy, task) for policy in board.policies for task in board.tasks):
        lines.append("*: not one episode ended; the score, of unfinished episodes, is not compared")
    if board.measure == "normalised":
        lines.append("above random: (student - random) / (expert - random), with random as measured;")
        lines.append("a plain ratio means nothing where scores can be 0 or less")
    if board.games:
        lines.append("human-norm.: human-normalised, (score - random) / (human - random), with both")
        lines.append("from Wang et al. 2016")
    return "\n".join(lines)


def _how_it_was_played(board: ScoreBoard) -> str:
    epsilon = "" if board.epsilon is None else f", epsilon {board.epsilon:g}"
    if board.steps is not None:
        return f"mean ± std over the episodes (n) that ended within {board.steps:,} steps{epsilon}"
    counts = {board.num_episodes(policy, task) for policy in board.policies for task in board.tasks}
    episodes = " to ".join(str(n) for n in sorted({min(counts), max(counts)}))
    return f"mean ± std over {episodes} episodes{epsilon}"


def _score(board: ScoreBoard, policy: str, task: str) -> str:
    mean = f"{board.mean(policy, task):.2f}"
    score = mean if policy == RANDOM else f"{mean} ± {board.std(policy, task):.2f}"
    if board.steps is None:
        return score
    return f"{score} ({board.num_episodes(policy, task)}){'*' if board.is_unfinished(policy, task) else ''}"


def _number(share: float | None) -> str:
    return "-" if share is None else f"{share:.3f}"


def _rounded(value: float | None) -> float | str:
    return "" if value is None else round(value, 6)
