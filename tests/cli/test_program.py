"""What the program says about itself, and that it says so at once."""

import subprocess
import sys

from rllib_distill.cli.app import OLD_FLAGS


def test_that_help_loads_nothing_heavy():
    check = (
        "import sys; from rllib_distill.cli.app import run; run(['train', '--help']); "
        "print({'torch', 'ray', 'gymnasium', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert "--storage-path" in done.stdout
    assert done.stdout.splitlines()[-1] == "set()"


def test_that_the_version_is_printed(rllib):
    outcome = rllib("--version")
    assert outcome.code == 0 and outcome.out.startswith("rllib-distill ") and " ray " in outcome.out


def test_that_no_arguments_print_help(rllib):
    outcome = rllib()
    assert outcome.code == 0 and "evaluate" in outcome.out


def test_that_algorithms_are_listed(rllib):
    outcome = rllib("algorithms")
    assert outcome.code == 0 and "ActorMimic, Distral, MultiTaskDQN" in outcome.out and "PPO" in outcome.out


def test_that_no_flag_is_both_refused_and_there(rllib):
    shown = rllib("train", "--help").out + rllib("evaluate", "--help").out
    assert not [flag for flag in OLD_FLAGS if f"{flag} " in shown]
