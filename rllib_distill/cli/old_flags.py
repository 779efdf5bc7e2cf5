"""Flags of RLlib's own program that make no sense any more: each is refused with a reason, none ignored."""

from collections.abc import Sequence

from rllib_distill.errors import DistillError

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


def refuse_old_flags(arguments: Sequence[str]) -> None:
    """Raises DistillError at the first flag that is no longer there, with what to do instead."""
    for argument in arguments:
        flag = argument.partition("=")[0].replace("--no-", "--")
        if flag in OLD_FLAGS:
            raise DistillError(f"{flag} is gone: {OLD_FLAGS[flag]}")
