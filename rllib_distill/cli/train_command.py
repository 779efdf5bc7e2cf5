"""The flags of `rllib train`, those of RLlib's own program as far as they make sense."""

from pathlib import Path
from typing import Annotated, Any

import typer

from rllib_distill.errors import DistillError

_WHAT, _WITHOUT, _RESULTS, _RAY = "What to run", "Without a file", "Checkpoints and results", "Ray"


def _flag(*names: str, help: str, panel: str, shown: str | None = None, min: int | None = None) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, show_default=shown or False, min=min)


def train(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[file EXPERIMENTS.yaml]", help="`file` and a YAML file.")
    ] = None,
    file: Annotated[Path | None, _flag("-f", "--config-file", help="The YAML file.", panel=_WHAT)] = None,
    experiment_name: Annotated[
        str | None,
        _flag(
            "-n", "--experiment-name", help="Which one of the file; without a file, its name.", panel=_WHAT
        ),
    ] = None,
    algo: Annotated[
        str | None, _flag("-a", "-r", "--algo", "--run", help="Algorithm, e.g. ActorMimic.", panel=_WITHOUT)
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
        int | None, _flag(help="How often to run each.", panel=_WHAT, shown="the file's, or 1", min=1)
    ] = None,
    scheduler: Annotated[str, _flag(help="Tune's trial scheduler.", panel=_WHAT, shown="FIFO")] = "FIFO",
    scheduler_config: Annotated[str, _flag(help="JSON of its options.", panel=_WHAT)] = "{}",
    storage_path: Annotated[
        str | None, _flag(help="Folder for results.", panel=_RESULTS, shown="the file's, or ./results")
    ] = None,
    checkpoint_freq: Annotated[
        int | None, _flag(help="Iterations between checkpoints; 0: none.", panel=_RESULTS, min=0)
    ] = None,
    checkpoint_at_end: Annotated[
        bool | None,
        _flag(
            "--checkpoint-at-end/--no-checkpoint-at-end", help="And at the end.", panel=_RESULTS, shown="yes"
        ),
    ] = None,
    keep_checkpoints_num: Annotated[
        int | None, _flag(help="How many to keep.", panel=_RESULTS, min=1)
    ] = None,
    checkpoint_score_attr: Annotated[
        str | None, _flag(help="Result by which the best are kept.", panel=_RESULTS)
    ] = None,
    restore: Annotated[str | None, _flag(help="Checkpoint to start from.", panel=_RESULTS)] = None,
    resume: Annotated[
        bool, _flag("--resume", help="Go on with what was interrupted.", panel=_RESULTS)
    ] = False,
    ray_address: Annotated[
        str | None, _flag(help="Of a running cluster.", panel=_RAY, shown="Ray is started")
    ] = None,
    ray_num_cpus: Annotated[int | None, _flag(help="CPUs to use.", panel=_RAY, shown="all", min=1)] = None,
    ray_num_gpus: Annotated[int | None, _flag(help="GPUs to use.", panel=_RAY, shown="all", min=0)] = None,
    ray_object_store_memory: Annotated[
        int | None, _flag(help="Bytes for shared objects.", panel=_RAY, min=80_000_000)
    ] = None,
    log_info: Annotated[bool, _flag("-v", "--log-info", help="Show Ray's messages.", panel=_RAY)] = False,
    log_debug: Annotated[bool, _flag("-vv", "--log-debug", help="Show all of them.", panel=_RAY)] = False,
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
