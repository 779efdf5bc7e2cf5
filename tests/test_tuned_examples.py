"""Every shipped example is a valid experiment; only experts that are the user's to train may be missing."""

from pathlib import Path

import pytest

from rllib_distill.cli.experiment import Experiment, check_experiment, read_experiment_file
from rllib_distill.errors import DistillError
from rllib_distill.registry import ALGORITHMS

EXAMPLES = sorted(Path("tuned_examples").glob("*/*.yaml"))
MISSING_EXPERTS = {"actor_mimic/atari_paper.yaml", "policy_distillation/atari_paper.yaml"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_that_an_example_is_valid(path):
    assert path.read_text().startswith("# "), "the header says what to expect"
    for name, spec in read_experiment_file(path).items():
        experiment = Experiment.from_spec(name, spec)
        assert experiment.run in ALGORITHMS and experiment.stop
        if f"{path.parent.name}/{path.name}" in MISSING_EXPERTS:
            with pytest.raises(DistillError, match=r"results/atari_experts/\w+\.safetensors"):
                check_experiment(experiment, None)
        else:
            check_experiment(experiment, None)
