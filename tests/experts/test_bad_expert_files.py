"""Every way an expert's files can be bad ends in one line that names the file and what is wrong with it."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from rllib_distill.experts import Expert


def test_missing_weights(tmp_path, refused):
    with refused(tmp_path / "none.safetensors", "No such file"):
        Expert.load(tmp_path / "none.safetensors")


def test_missing_json(saved, refused):
    saved.with_suffix(".json").unlink()
    with refused(saved.with_suffix(".json"), "No such file"):
        Expert.load(saved)


@pytest.mark.parametrize("path", ["x.pt", 3, None])
def test_a_path_that_is_no_safetensors_file(path, refused):
    with refused(path, ".safetensors"):
        Expert.load(path)


def test_a_folder(tmp_path, refused):
    (tmp_path / "x.safetensors").mkdir()
    with refused("x.safetensors", "directory"):
        Expert.load(tmp_path / "x.safetensors")


@pytest.mark.parametrize("kept", [0, 7, 100, 0.5, -1])
def test_truncated_weights(saved, kept, refused):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with refused(saved, "truncated"):
        Expert.load(saved)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not valid JSON"),
        (b'{"format": "rllib_dis', "not valid JSON"),
        (b"\xff\xfe\x00", "not valid JSON"),
        (b"[1, 2]", "JSON mapping; got a list"),
        (b"{}", "unknown 'format' None"),
        (b'{"format": "rllib_distill.expert/2"}', "unknown 'format' 'rllib_distill.expert/2'"),
    ],
)
def test_a_json_of_another_kind(saved, content, says, refused):
    saved.with_suffix(".json").write_bytes(content)
    with refused(saved.with_suffix(".json"), says):
        Expert.load(saved)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("num_action", 3, "unknown key 'num_action'. Did you mean 'num_actions'"),
        ("task", None, "task is None; it must be text"),
        ("env", 3, "env is 3; it must be text"),
        ("kind", "policy", "kind is 'policy'; it must be 'q_values' or 'logits'"),
        ("network", "mlp", "network is 'mlp'; it must be a mapping"),
        ("observation_shape", [10, 10.5, 4], "observation_shape is [10, 10.5, 4]; it must be a list of pos"),
        (
            "observation_shape",
            [10, 0],
            "observation_shape is [10, 0]; it must be a list of positive integers",
        ),
        ("observation_shape", 4, "observation_shape is 4; it must be a list of positive integers"),
        ("observation_dtype", "float33", "observation_dtype is 'float33'; it must be the name of a numpy"),
        ("num_actions", 0, "num_actions is 0; it must be a positive integer"),
        ("action_meanings", ["n", "l"], "it must be null or a list of 6 distinct texts"),
        ("action_meanings", ["n"] * 6, "it must be null or a list of 6 distinct texts"),
        ("preprocessing", [], "preprocessing is []; it must be a mapping"),
        ("expected_return", {"mean": 3}, "expected_return is {'mean': 3}; it must be null or a map"),
        ("expected_return", dict.fromkeys(("mean", "std", "episodes", "epsilon"), "high"), "to numbers"),
        ("made_by", "me", "made_by is 'me'; it must be a mapping"),
    ],
)
def test_a_wrong_value_in_the_json(saved, key, value, says, refused):
    path = saved.with_suffix(".json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with refused(path, says):
        Expert.load(saved)


def test_a_missing_key_in_the_json(saved, refused):
    path = saved.with_suffix(".json")
    values = json.loads(path.read_text())
    del values["kind"]
    path.write_text(json.dumps(values))
    with refused(path, "'kind' is missing"):
        Expert.load(saved)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("network", {"type": "resnet"}, "Unknown network type 'resnet'"),
        ("network", {"type": "mlp"}, "missing ['torso.layers.0.bias'"),
        ("network", {"type": "minatar_cnn", "filters": 4, "hidden": 9}, "'torso.hidden.weight'"),
        ("network", {"type": "minatar_cnn", "filters": 4, "hidden": 10**12}, "'torso.hidden.weight'"),
        ("observation_shape", [10, 10, 7], "'torso.conv.weight' does not fit the network: expected (4, 7,"),
        ("num_actions", 5, "it must be null or a list of 5 distinct"),
    ],
)
def test_weights_that_are_not_those_of_the_json(saved, key, value, says, refused):
    path = saved.with_suffix(".json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with refused(saved.stem, says):
        Expert.load(saved)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda w: w.pop("head.bias"), "missing ['head.bias'], unknown []"),
        (lambda w: w.update(extra=torch.zeros(1)), "missing [], unknown ['extra']"),
        (lambda w: w.update({"head.bias": torch.zeros(3)}), "expected (6,) torch.float32, got (3,)"),
        (lambda w: w.update({"head.bias": w["head.bias"].half()}), "got (6,) torch.float16"),
        (lambda w: w.update({"head.bias": torch.full((6,), torch.nan)}), "not finite"),
    ],
)
def test_wrong_tensors(saved, change, says, refused):
    weights = load_file(saved)
    change(weights)
    save_file(weights, saved)
    with refused(saved, says):
        Expert.load(saved)
