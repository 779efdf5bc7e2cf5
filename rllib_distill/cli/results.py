"""`rllib record`, which copies the scores of trials, and `rllib results`, which makes a page of them."""

from collections.abc import Sequence
from pathlib import Path

from rllib_distill.cli.ray_session import check_writable, command_line, short
from rllib_distill.errors import DistillError
from rllib_distill.files import write_atomically
from rllib_distill.results import RecordedRun, read_page


def record_trials(trials: Sequence[Path], folder: Path) -> int:
    """Writes a copy of each trial's scores, without the returns of single episodes.

    Args:
        trials: The folders of the trials.
        folder: The folder for the copies, each of which has the name of its trial.

    Returns:
        The exit code.

    Raises:
        DistillError: A trial has no scores, two trials have the same name, or the folder cannot be written;
            then nothing is written.
    """
    copies: dict[str, str] = {}
    for trial in trials:
        path, name = trial / "scores.json", f"{trial.resolve().name}.json"
        if not path.is_file():
            raise DistillError(
                f"{trial} has no scores.json; give folders of trials that ended with a report, such as "
                "results/<experiment>/<trial>."
            )
        if name in copies:
            raise DistillError(f"Two of the trials are called {trial.resolve().name!r}: give each once.")
        copies[name] = RecordedRun.read(path).compact()
    check_writable(folder.resolve(), "--to")
    folder.mkdir(parents=True, exist_ok=True)
    for name, copy in copies.items():
        write_atomically(folder / name, copy.encode())
        print(folder / name)
    return 0


def write_results(file: Path, out: Path) -> int:
    """Writes a page of results and prints the paths of its files.

    Args:
        file: The page's YAML file, see `read_page`.
        out: The path of the page.

    Returns:
        The exit code.

    Raises:
        DistillError: The file or one of its runs is wrong, or a file cannot be written; then nothing is
            written.
    """
    page = read_page(file)
    check_writable(out.resolve().parent, "--out")
    out.parent.mkdir(parents=True, exist_ok=True)
    for path in page.write(out.resolve(), command_line()):
        print(short(path))
    return 0
