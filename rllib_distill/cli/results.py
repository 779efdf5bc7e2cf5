"""`rllib record` keeps the scores of runs, `rllib results` makes a page of them."""

from collections.abc import Sequence
from pathlib import Path

from rllib_distill.cli.ray_session import check_writable, command_line, short
from rllib_distill.errors import DistillError
from rllib_distill.files import write_atomically
from rllib_distill.results import RecordedRun, read_page


def record_trials(trials: Sequence[Path], folder: Path) -> int:
    """Writes a copy of each trial's scores, without the lists of every episode's return.

    Args:
        trials: Their folders.
        folder: For the copies, each called after its trial.

    Returns:
        The exit code.

    Raises:
        DistillError: A trial has no scores, or two have one name, or the folder can't be written; then
            nothing is written.
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
    """Writes a page.

    Args:
        file: YAML, see `read_page`.
        out: The page.

    Returns:
        The exit code.

    Raises:
        DistillError: What is wrong with the file or its runs; nothing is written.
    """
    page = read_page(file)
    check_writable(out.resolve().parent, "--out")
    out.parent.mkdir(parents=True, exist_ok=True)
    for path in page.write(out.resolve(), command_line()):
        print(short(path))
    return 0
