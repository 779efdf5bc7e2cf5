"""Every shipped example is a valid experiment; only experts that are the user's to train may be missing."""

from pathlib import Path

import pytest
import yaml
from ray.tune.search.variant_generator import generate_variants

from rllib_distill.algorithms.common.expert_config import ExpertConfig
from rllib_distill.errors import DistillError
from rllib_distill.registry import ALGORITHMS, algorithm_class

EXAMPLES = sorted(Path("tuned_examples").glob("*/*.yaml"))
MISSING_EXPERTS = {"actor_mimic/atari_paper.yaml", "policy_distillation/atari_paper.yaml"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_that_an_example_is_valid(path):
    text = path.read_text()
    assert text.startswith("#"), "the header says what to expect"
    for name, experiment in yaml.safe_load(text).items():
        assert experiment["run"] in ALGORITHMS and experiment["stop"], name
        for _, settings in generate_variants(experiment["config"]):  # every trial of a grid search
            config = algorithm_class(experiment["run"]).get_default_config()
            config.update_from_dict(settings)
            if f"{path.parent.name}/{path.name}" in MISSING_EXPERTS:
                assert isinstance(config, ExpertConfig)
                with pytest.raises(DistillError, match=r"results/atari_experts/\w+\.safetensors"):
                    config.validate()
            else:
                config.validate()
