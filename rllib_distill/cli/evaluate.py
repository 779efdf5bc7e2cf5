"""`rllib evaluate`: scores of a checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rllib_distill.cli.ray_session import command_line, quiet_ray, ray_session
from rllib_distill.errors import DistillError


def evaluate_checkpoint(
    checkpoint: Path, *, how: Mapping[str, Any], out: Path | None, ray_options: Mapping[str, Any]
) -> int:
    """Plays and prints the table.

    Args:
        checkpoint: Its folder.
        how: Episodes or steps, epsilon and seed; None is the default.
        out: File for the scores, .json or .csv; None writes nothing.
        ray_options: Of `ray.init`.

    Returns:
        The exit code.

    Raises:
        DistillError: The checkpoint cannot be read, or `out` not be written, or both amounts are given.
    """
    given = {key: value for key, value in how.items() if value is not None}
    if "episodes" in given and "steps" in given:
        raise DistillError(
            f"--episodes is {given['episodes']} and --steps is {given['steps']}; give only one: "
            "so many episodes, or those that end within so many steps."
        )
    if out is not None and out.suffix not in (".json", ".csv"):
        raise DistillError(f"--out is {str(out)!r}; the file's name must end in .json or .csv.")
    quiet_ray("ERROR")
    from rllib_distill.cli.check import check_writable
    from rllib_distill.cli.experiment import ReportOptions
    from rllib_distill.cli.live_view import make_console
    from rllib_distill.cli.reporting import play_with_progress
    from rllib_distill.evaluation.policies import TrainedPolicies
    from rllib_distill.evaluation.scores import score_table
    from rllib_distill.files import write_atomically

    quiet_ray("ERROR")  # importing Ray sets its log levels anew
    TrainedPolicies(checkpoint).config.validate()  # what is wrong with it, before Ray is started
    if out is not None:
        check_writable(out.resolve().parent)
    console = make_console()
    with ray_session(ray_options):
        report = play_with_progress(console, checkpoint, ReportOptions(**given), command_line())
    console.print(score_table(report.board))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        text = report.to_json() if out.suffix == ".json" else report.to_csv()
        write_atomically(out, text.encode())
        console.print(f"written: {out}", soft_wrap=True)
    return 0
