"""Commands and their flags; what they do is imported when they run, so that `--help` answers at once."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import click
import typer

from rllib_distill.cli.old_flags import OLD_FLAGS, refuse_old_flags
from rllib_distill.errors import DistillError

app = typer.Typer(
    name="rllib",
    help="Multi-task reinforcement learning by distillation, on RLlib.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def run(arguments: Sequence[str]) -> int:
    """Runs the program; a user's mistake becomes one line on stderr.

    Args:
        arguments: What follows the program's name.

    Returns:
        The exit code.
    """
    try:
        refuse_old_flags(arguments)
        code = typer.main.get_command(app).main(list(arguments), prog_name="rllib", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message())
        return 0
    except click.ClickException as error:
        return _fail(error.format_message())
    except DistillError as error:
        return _fail(str(error))
    except (click.Abort, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        return 130


def _fail(message: str) -> int:
    print("error:", " ".join(message.split()), file=sys.stderr)
    return 2


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"rllib-distill {version('rllib-distill')}, ray {version('ray')}, torch {version('torch')}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print versions and exit.")
    ] = False,
) -> None:
    """Multi-task reinforcement learning by distillation, on RLlib."""


_FILE, _RUN, _CHECKPOINTS, _RAY = "What to run", "Without a file", "Checkpoints and results", "Ray"


@app.command(no_args_is_help=True)
def train(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[file EXPERIMENTS.yaml]", help="`file` and a YAML file.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("-f", "--config-file", help="The YAML file.", rich_help_panel=_FILE)
    ] = None,
    experiment_name: Annotated[
        str | None,
        typer.Option(
            "-n", "--experiment-name", help="Which experiment of the file; without a file, its name.",
            rich_help_panel=_FILE, show_default="all; 'default'",
        ),
    ] = None,
    algo: Annotated[
        str | None,
        typer.Option("-a", "-r", "--algo", "--run", help="Algorithm, e.g. ActorMimic.", rich_help_panel=_RUN),
    ] = None,
    env: Annotated[
        str | None, typer.Option("-e", "--env", help="Environment, for RLlib's own algorithms.", rich_help_panel=_RUN)
    ] = None,
    config: Annotated[
        str | None,
        typer.Option("-c", "--config", help="JSON of config keys; with a file, changes to it.", rich_help_panel=_RUN),
    ] = None,
    stop: Annotated[
        str | None,
        typer.Option("-s", "--stop", help="JSON of when to stop; replaces the file's.", rich_help_panel=_RUN),
    ] = None,
    num_samples: Annotated[
        int | None, typer.Option(help="How often to run each experiment.", min=1, show_default="the file's, or 1")
    ] = None,
    scheduler: Annotated[str, typer.Option(help="Tune's trial scheduler.")] = "FIFO",
    scheduler_config: Annotated[str, typer.Option(help="JSON of its options.")] = "{}",
    storage_path: Annotated[
        str | None,
        typer.Option(help="Folder for results.", rich_help_panel=_CHECKPOINTS, show_default="the file's, or ./results"),
    ] = None,
    checkpoint_freq: Annotated[
        int | None,
        typer.Option(help="Training iterations between checkpoints; 0: none.", min=0, rich_help_panel=_CHECKPOINTS),
    ] = None,
    checkpoint_at_end: Annotated[
        bool | None, typer.Option(help="Save one when done.", rich_help_panel=_CHECKPOINTS, show_default="yes")
    ] = None,
    keep_checkpoints_num: Annotated[
        int | None, typer.Option(help="How many to keep.", min=1, rich_help_panel=_CHECKPOINTS)
    ] = None,
    checkpoint_score_attr: Annotated[
        str | None, typer.Option(help="By which result the best are kept.", rich_help_panel=_CHECKPOINTS)
    ] = None,
    restore: Annotated[
        str | None, typer.Option(help="Checkpoint to start from.", rich_help_panel=_CHECKPOINTS)
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with what was interrupted.", rich_help_panel=_CHECKPOINTS)
    ] = False,
    ray_address: Annotated[
        str | None, typer.Option(help="A running cluster's; by default Ray is started.", rich_help_panel=_RAY)
    ] = None,
    ray_num_cpus: Annotated[int | None, typer.Option(min=1, rich_help_panel=_RAY)] = None,
    ray_num_gpus: Annotated[int | None, typer.Option(min=0, rich_help_panel=_RAY)] = None,
    ray_object_store_memory: Annotated[
        int | None, typer.Option(help="Bytes.", min=80_000_000, rich_help_panel=_RAY)
    ] = None,
    log_info: Annotated[bool, typer.Option("-v", "--log-info", help="Show Ray's messages.")] = False,
    log_debug: Annotated[bool, typer.Option("-vv", "--log-debug", help="Show all of them.")] = False,
) -> int:
    """Train what a YAML file says: `rllib train file EXPERIMENTS.yaml`, or what the flags say."""
    from rllib_distill.cli.train import TrainOptions, train_experiments

    options = TrainOptions(
        file=_experiments_file(words or [], file),
        experiment_name=experiment_name,
        run=algo,
        env=env,
        config=_json("--config", config),
        stop=_json("--stop", stop),
        num_samples=num_samples,
        scheduler=scheduler,
        scheduler_config=_json("--scheduler-config", scheduler_config) or {},
        storage_path=storage_path,
        checkpoint_config={
            "checkpoint_frequency": checkpoint_freq,
            "checkpoint_at_end": checkpoint_at_end,
            "num_to_keep": keep_checkpoints_num,
            "checkpoint_score_attribute": checkpoint_score_attr,
        },
        restore=restore,
        resume=resume,
        ray={
            "address": ray_address,
            "num_cpus": ray_num_cpus,
            "num_gpus": ray_num_gpus,
            "object_store_memory": ray_object_store_memory,
        },
        log_level="DEBUG" if log_debug else "INFO" if log_info else "ERROR",
    )
    return train_experiments(options)


@app.command(no_args_is_help=True)
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a checkpoint.", show_default=False)],
    episodes: Annotated[int, typer.Option(help="Of every task, by every player.", min=1)] = 100,
    epsilon: Annotated[float, typer.Option(help="Chance of a random action.", min=0.0, max=1.0)] = 0.01,
    seed: Annotated[int, typer.Option(help="Of environments and chance.", min=0)] = 0,
    out: Annotated[Path | None, typer.Option(help="Also write the scores to this .json or .csv file.")] = None,
    ray_address: Annotated[str | None, typer.Option(help="A running cluster's; by default Ray is started.")] = None,
    ray_num_cpus: Annotated[int | None, typer.Option(min=1)] = None,
) -> int:
    """Play whole episodes with a checkpoint's policies, its experts, and at random."""
    from rllib_distill.cli.evaluate import evaluate_checkpoint

    ray = {"address": ray_address, "num_cpus": ray_num_cpus}
    return evaluate_checkpoint(checkpoint, episodes=episodes, epsilon=epsilon, seed=seed, out=out, ray_options=ray)


@app.command()
def algorithms() -> None:
    """List the names that `run:` and `--run` know."""
    from rllib_distill.cli.ray_session import quiet_ray

    quiet_ray("ERROR")
    from rllib_distill.registry import ALGORITHMS, stock_algorithms

    print("rllib_distill:", ", ".join(sorted(ALGORITHMS)))
    print("RLlib:", ", ".join(stock_algorithms()))


def _experiments_file(words: list[str], option: Path | None) -> Path | None:
    if not words:
        return option
    if words[0] != "file" or len(words) != 2 or option is not None:
        raise DistillError(
            f"Cannot read `rllib train {' '.join(words)}`; write `rllib train file EXPERIMENTS.yaml` "
            "or `rllib train --run NAME --config JSON --stop JSON`."
        )
    return Path(words[1])


def _json(flag: str, text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    import json

    try:
        value = json.loads(text)
    except ValueError as error:
        raise DistillError(f"{flag} is {text!r}, which is not valid JSON ({error}).") from None
    if not isinstance(value, dict):
        raise DistillError(f"{flag} is {text!r}; it must be a JSON mapping, e.g. '{{\"key\": 1}}'.")
    return value


__all__ = ["OLD_FLAGS", "app", "run"]
