"""The program's commands; what they do is imported when they run, so that `--help` answers at once."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from rllib_distill.cli.old_flags import refuse_old_flags
from rllib_distill.cli.train_command import train
from rllib_distill.errors import DistillError

app = typer.Typer(name="rllib", add_completion=False, pretty_exceptions_enable=False)
app.command()(train)
_FlagError: type[Exception] = typer.BadParameter.__mro__[
    1
]  # click's UsageError, of whichever click typer brings


def run(arguments: Sequence[str]) -> int:
    """Runs the program; a user's mistake becomes one line on stderr.

    Args:
        arguments: What follows the program's name.

    Returns:
        The exit code.
    """
    try:
        refuse_old_flags(arguments)
        command = typer.main.get_command(app)
        code = command.main(list(arguments) or ["--help"], prog_name="rllib", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except (_FlagError, DistillError) as error:
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        print("error:", " ".join(message.split()), file=sys.stderr)
        return 2
    except (typer.Abort, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        return 130


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"rllib-distill {version('rllib-distill')}, ray {version('ray')}, torch {version('torch')}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print versions and exit."),
    ] = False,
) -> None:
    """Multi-task reinforcement learning by distillation, on RLlib."""


@app.command()
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a checkpoint.", show_default=False)],
    episodes: Annotated[
        int | None, typer.Option(help="Of every task, by every player.", show_default="100", min=1)
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(help="Instead, what ends within so many steps; 125000 in the Atari papers.", min=1),
    ] = None,
    epsilon: Annotated[
        float | None,
        typer.Option(
            help="Chance of a random action; 0.05 in the Atari papers.",
            show_default="the config's evaluation_epsilon",
            min=0.0,
            max=1.0,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of environments and chance.", min=0)] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Also write the scores to this .json or .csv file.")
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="A running cluster's; by default Ray is started.")
    ] = None,
    ray_num_cpus: Annotated[int | None, typer.Option(min=1)] = None,
) -> int:
    """Play for scores with a checkpoint's policies, its experts, and at random."""
    from rllib_distill.cli.evaluate import evaluate_checkpoint

    how = {"episodes": episodes, "steps": steps, "epsilon": epsilon, "seed": seed}
    ray = {"address": ray_address, "num_cpus": ray_num_cpus}
    return evaluate_checkpoint(checkpoint, how=how, out=out, ray_options=ray)


@app.command()
def record(
    trials: Annotated[list[Path], typer.Argument(help="Folders of trials.", show_default=False)],
    to: Annotated[Path, typer.Option(help="Folder for the copies.", show_default=False)],
) -> int:
    """Keep a compact copy of the scores of trials, for a page of results."""
    from rllib_distill.cli.results import record_trials

    return record_trials(trials, to)


@app.command()
def results(
    page: Annotated[
        Path, typer.Argument(metavar="PAGE.yaml", help="What the page says.", show_default=False)
    ],
    out: Annotated[
        Path | None, typer.Option(help="The page.", show_default="PAGE.md, beside PAGE.yaml")
    ] = None,
) -> int:
    """Write a page of results, with tables and pictures, from recorded runs."""
    from rllib_distill.cli.results import write_results

    return write_results(page, out)


@app.command()
def algorithms() -> None:
    """List the names that `run:` and `--run` know."""
    from rllib_distill.cli.ray_session import quiet_ray

    quiet_ray("ERROR")
    from rllib_distill.registry import ALGORITHMS, stock_algorithms

    print("rllib_distill:", ", ".join(sorted(ALGORITHMS)))
    print("RLlib:", ", ".join(stock_algorithms()))
