"""The program's commands and flags. A command imports its code when it runs, so that `--help` is fast."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from rllib_distill.cli.ray_session import quiet_ray
from rllib_distill.errors import DistillError

# Flags of RLlib's former program that no longer apply: each is refused with a hint on what to use instead.
OLD_FLAGS = {
    "--framework": "torch is the only framework: leave it out.",
    "--trace": "there is no TensorFlow eager tracing any more: leave it out.",
    "--local-mode": "Ray has no local mode any more: leave it out, or use --ray-num-cpus 1.",
    "--local-dir": "use --storage-path.",
    "--upload-dir": "use --storage-path.",
    "--resources-per-trial": "trials take what their config asks for: set num_env_runners, num_learners, "
    "num_cpus_for_main_process and the like with --config.",
    "--ray-ui": "no dashboard is started; start a cluster with `ray start --head` and use --ray-address.",
    "--ray-nodes": "start a cluster and use --ray-address.",
    "--ray-num-nodes": "start a cluster and use --ray-address.",
    "--wandb-key": "use Tune's WandbLoggerCallback from Python.",
    "--wandb-project": "use Tune's WandbLoggerCallback from Python.",
    "--wandb-run-name": "use Tune's WandbLoggerCallback from Python.",
    "--render": "give the task's env_config a render_mode.",
    "--save-info": "use --out FILE.json.",
    "--use-shelve": "use --out FILE.json.",
    "--track-progress": "progress is always shown: leave it out.",
}

app = typer.Typer(name="rllib", add_completion=False, pretty_exceptions_enable=False)
# The UsageError of click; it is found through typer, which may have its own copy of click.
_FlagError: type[Exception] = typer.BadParameter.__mro__[1]


def main() -> None:
    """Runs the program and exits: 0 on success, 1 if a trial failed, 2 for a wrong input, 130 on Ctrl-C."""
    sys.path.insert(0, os.getcwd())  # finds the user's own modules, as `python -m` does
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Runs the program; a mistake in the input is reported in one line on stderr.

    Args:
        arguments: The arguments that follow the program's name on the command line.

    Returns:
        The exit code, as in `main`.
    """
    try:
        _refuse_old_flags(arguments)
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


def _refuse_old_flags(arguments: Sequence[str]) -> None:
    """Raises DistillError at the first flag that no longer exists, and says what to use instead."""
    for argument in arguments:
        flag = argument.partition("=")[0].replace("--no-", "--")
        if flag in OLD_FLAGS:
            raise DistillError(f"{flag} is gone: {OLD_FLAGS[flag]}")


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


_WHAT, _WITHOUT, _RESULTS, _RAY = "What to run", "Without a file", "Checkpoints and results", "Ray"


def _flag(*names: str, help: str, panel: str, shown: str | None = None, min: int | None = None) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, show_default=shown or False, min=min)


@app.command()
def train(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[file EXPERIMENTS.yaml]", help="`file` and a YAML file.")
    ] = None,
    file: Annotated[Path | None, _flag("-f", "--config-file", help="The YAML file.", panel=_WHAT)] = None,
    experiment_name: Annotated[
        str | None,
        _flag(
            "-n", "--experiment-name", help="Experiment to run; without a file, a name for it.", panel=_WHAT
        ),
    ] = None,
    algo: Annotated[
        str | None,
        _flag(
            "-a",
            "-r",
            "--algo",
            "--run",
            help="Algorithm: ActorMimic, PPO, my_package:MyAlgorithm.",
            panel=_WITHOUT,
        ),
    ] = None,
    env: Annotated[
        str | None, _flag("-e", "--env", help="Environment of RLlib's own algorithms.", panel=_WITHOUT)
    ] = None,
    config: Annotated[
        str | None, _flag("-c", "--config", help="JSON of config keys; changes a file's.", panel=_WITHOUT)
    ] = None,
    stop: Annotated[
        str | None, _flag("-s", "--stop", help="JSON of when to stop; replaces a file's.", panel=_WITHOUT)
    ] = None,
    num_samples: Annotated[
        int | None, _flag(help="Trials per configuration.", panel=_WHAT, shown="the file's, or 1", min=1)
    ] = None,
    scheduler: Annotated[str, _flag(help="Tune's trial scheduler.", panel=_WHAT, shown="FIFO")] = "FIFO",
    scheduler_config: Annotated[str, _flag(help="JSON of the scheduler's options.", panel=_WHAT)] = "{}",
    storage_path: Annotated[
        str | None, _flag(help="Folder for results.", panel=_RESULTS, shown="the file's, or ./results")
    ] = None,
    checkpoint_freq: Annotated[
        int | None, _flag(help="Iterations between checkpoints; 0: none.", panel=_RESULTS, min=0)
    ] = None,
    checkpoint_at_end: Annotated[
        bool | None,
        _flag(
            "--checkpoint-at-end/--no-checkpoint-at-end",
            help="Save one at the end.",
            panel=_RESULTS,
            shown="yes",
        ),
    ] = None,
    keep_checkpoints_num: Annotated[
        int | None, _flag(help="Checkpoints to keep.", panel=_RESULTS, min=1)
    ] = None,
    checkpoint_score_attr: Annotated[
        str | None, _flag(help="Key of the result that ranks checkpoints.", panel=_RESULTS)
    ] = None,
    restore: Annotated[str | None, _flag(help="Checkpoint to start from.", panel=_RESULTS)] = None,
    resume: Annotated[bool, _flag("--resume", help="Continue an interrupted run.", panel=_RESULTS)] = False,
    ray_address: Annotated[
        str | None, _flag(help="Address of a running cluster.", panel=_RAY, shown="Ray is started")
    ] = None,
    ray_num_cpus: Annotated[int | None, _flag(help="CPUs to use.", panel=_RAY, shown="all", min=1)] = None,
    ray_num_gpus: Annotated[int | None, _flag(help="GPUs to use.", panel=_RAY, shown="all", min=0)] = None,
    ray_object_store_memory: Annotated[
        int | None, _flag(help="Bytes for shared objects.", panel=_RAY, min=80_000_000)
    ] = None,
    log_info: Annotated[bool, _flag("-v", "--log-info", help="Show Ray's messages.", panel=_RAY)] = False,
    log_debug: Annotated[bool, _flag("-vv", "--log-debug", help="Show debug messages.", panel=_RAY)] = False,
) -> int:
    """Train the experiments of a file, `rllib train file EXPERIMENTS.yaml`, or one that flags describe."""
    from rllib_distill.cli.experiment import TrainOptions, read_specs

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
    specs = read_specs(options)  # before Ray is imported, to report mistakes at once
    with quiet_ray(options.log_level):
        from rllib_distill.cli.train import train_experiments
    return train_experiments(options, specs)


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
    try:
        value = json.loads(text)
    except ValueError as error:
        raise DistillError(f"{flag} is {text!r}, which is not valid JSON ({error}).") from None
    if not isinstance(value, dict):
        raise DistillError(f"{flag} is {text!r}; it must be a JSON mapping, e.g. '{{\"key\": 1}}'.")
    return value


@app.command()
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a checkpoint.", show_default=False)],
    episodes: Annotated[
        int | None, typer.Option(help="Episodes per task and policy.", show_default="100", min=1)
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(help="Steps per task and policy, not episodes; 125000 in the Atari papers.", min=1),
    ] = None,
    epsilon: Annotated[
        float | None,
        typer.Option(
            help="Probability of a random action; 0.05 in the Atari papers.",
            show_default="the config's evaluation_epsilon",
            min=0.0,
            max=1.0,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of environments and random actions.", min=0)] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Also write the scores to this .json or .csv file.")
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="Address of a running cluster; by default Ray is started.")
    ] = None,
    ray_num_cpus: Annotated[int | None, typer.Option(min=1)] = None,
) -> int:
    """Measure the scores of a checkpoint's policies, its experts, and random play."""
    if episodes is not None and steps is not None:
        raise DistillError(
            f"--episodes is {episodes} and --steps is {steps}; give only one: "
            "so many episodes, or those that end within so many steps."
        )
    if out is not None and out.suffix not in (".json", ".csv"):
        raise DistillError(f"--out is {str(out)!r}; the file's name must end in .json or .csv.")
    with quiet_ray():
        from rllib_distill.cli.evaluate import evaluate_checkpoint
        from rllib_distill.cli.experiment import ReportOptions
        from rllib_distill.schema import validate
    given = {"episodes": episodes, "steps": steps, "epsilon": epsilon, "seed": seed}
    options = validate(ReportOptions, {name: value for name, value in given.items() if value is not None})
    ray = {"address": ray_address, "num_cpus": ray_num_cpus}
    return evaluate_checkpoint(checkpoint, options, out=out, ray_options=ray)


@app.command()
def record(
    trials: Annotated[list[Path], typer.Argument(help="Folders of trials.", show_default=False)],
    to: Annotated[Path, typer.Option(help="Folder for the copies.", show_default=False)],
) -> int:
    """Keep a compact copy of the scores of trials, for a page of results."""
    with quiet_ray():
        from rllib_distill.cli.results import record_trials
    return record_trials(trials, to)


@app.command()
def results(
    page: Annotated[
        Path, typer.Argument(metavar="PAGE.yaml", help="File that describes the page.", show_default=False)
    ],
    out: Annotated[
        Path | None, typer.Option(help="Where to write it.", show_default="PAGE.md, beside PAGE.yaml")
    ] = None,
) -> int:
    """Write a page of results, with tables and pictures, from recorded runs."""
    out = page.with_suffix(".md") if out is None else out
    if out.suffix != ".md":
        raise DistillError(f"--out is {str(out)!r}; the file's name must end in .md.")
    with quiet_ray():
        from rllib_distill.cli.results import write_results
    return write_results(page, out)


@app.command()
def algorithms() -> None:
    """List the names that `run:` and `--run` know."""
    from rllib_distill.registry import ALGORITHMS, stock_algorithms

    with quiet_ray():
        stock = stock_algorithms()
    print("rllib_distill:", ", ".join(sorted(ALGORITHMS)))
    print("RLlib:", ", ".join(stock))
    print("Your own: my_package.my_module:MyAlgorithm, found on PYTHONPATH or in this folder")
