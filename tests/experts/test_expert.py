"""Experts: labels, the frozen weights, the native format, saving whole or not at all, and bad files."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from rllib_distill.experts import Expert
from rllib_distill.networks import build_network

RECURRENT = {"network": {"type": "minatar_cnn", "filters": 4, "hidden": 8, "lstm": 6}}
each_kind = pytest.mark.parametrize("changes", [{}, RECURRENT], ids=["without state", "recurrent"])


def assert_same(label, other):
    for one, same in zip(label, other, strict=True):
        torch.testing.assert_close(one, same, rtol=1e-5, atol=1e-6)


@each_kind
def test_a_label_is_what_the_network_says_without_gradient(make_expert, observations, is_first, changes):
    expert = make_expert(**changes)
    state = torch.randn(4, expert.network.state_size)
    label = expert.label(observations, state, is_first)
    said = expert.network(observations[None], None, state[None], is_first[None])
    assert label.outputs.shape == (8, 4, 6) and torch.equal(label.outputs, said.outputs[0])
    assert torch.equal(label.features, said.features[0]) and torch.equal(label.state, said.states[0, -1])
    assert not any(part.requires_grad for part in label)
    assert not any(p.requires_grad for p in expert.network.parameters())
    assert not any(module.training for module in expert.network.modules())


@each_kind
def test_a_label_over_many_steps_is_that_of_one_step_after_another(
    make_expert, observations, is_first, changes
):
    expert = make_expert(**changes)
    whole = expert.label(observations, None, is_first)
    state, steps = None, []
    for t in range(8):
        steps.append(expert.label(observations[t : t + 1], state, is_first[t : t + 1]))
        state = steps[-1].state
    joined = [torch.cat([getattr(step, name) for step in steps]) for name in ("outputs", "features")]
    assert_same(whole, (*joined, state))


@each_kind
def test_a_label_does_not_depend_on_the_other_environments(make_expert, observations, is_first, changes):
    expert = make_expert(**changes)
    state = torch.randn(4, expert.network.state_size)
    whole = expert.label(observations, state, is_first)
    for b in range(4):
        own = slice(b, b + 1)
        alone = expert.label(observations[:, own], state[own], is_first[:, own])
        assert_same(alone, (whole.outputs[:, own], whole.features[:, own], whole.state[own]))


def test_a_recurrent_expert_forgets_where_an_episode_begins_and_only_there(make_expert, observations):
    expert = make_expert(**RECURRENT)
    is_first = torch.zeros(8, 4, dtype=torch.bool)
    is_first[3, 1] = True
    fresh = expert.label(observations[3:])
    label = expert.label(observations, torch.randn(4, 12), is_first)
    torch.testing.assert_close(label.outputs[3:, 1], fresh.outputs[:, 1])
    assert not torch.isclose(label.outputs[3:, 0], fresh.outputs[:, 0], atol=1e-4).all()


def test_an_expert_does_not_follow_the_network_it_was_made_from(make_expert, observations):
    info = make_expert().info
    network = build_network(info.network, info.observation_shape, info.num_actions)
    expert = Expert(info, network.state_dict())
    before = expert.label(observations).outputs
    with torch.no_grad():
        network.head.weight.add_(1.0)
    assert torch.equal(expert.label(observations).outputs, before)
    assert all(p.requires_grad for p in network.parameters())  # and the network can go on learning


def test_making_an_expert_leaves_torchs_random_state_alone(saved):
    before = torch.get_rng_state()
    Expert.load(saved)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"kind": "logits", "action_meanings": None, "expected_return": None},
        {"network": {"type": "mlp", "hiddens": [8, 4]}, "observation_dtype": "uint8"},
        RECURRENT,
        {"network": {"type": "linear"}, "observation_shape": (5,), "observation_dtype": "float32"},
    ],
)
def test_save_and_load_give_the_same_bits(make_expert, tmp_path, changes):
    expert = make_expert(**changes)
    path = tmp_path / "new" / "folder" / "v1.0.safetensors"
    expert.save(path)
    loaded = Expert.load(str(path))
    assert sorted(p.name for p in path.parent.iterdir()) == ["v1.0.json", "v1.0.safetensors"]
    assert loaded.info == expert.info
    weights = expert.network.state_dict()
    assert list(loaded.network.state_dict()) == list(weights)
    assert all(torch.equal(weights[name], tensor) for name, tensor in loaded.network.state_dict().items())
    shape = expert.info.observation_shape
    batch = torch.randint(0, 2, (3, 2, *shape)).to(getattr(torch, expert.info.observation_dtype))
    for one, other in zip(expert.label(batch), loaded.label(batch), strict=True):
        assert torch.equal(one, other)


def test_the_json_names_the_format_and_every_key(saved):
    values = json.loads(saved.with_suffix(".json").read_text())
    assert values["format"] == "rllib_distill.expert/1"
    assert values["network"] == {"type": "minatar_cnn", "filters": 4, "hidden": 8}
    assert values["observation_shape"] == [10, 10, 4] and values["num_actions"] == 6


# An expert is written whole or not at all, and what was there before stays.


def test_a_disk_that_is_full_after_the_first_file_changes_nothing(make_expert, saved, fill_disk, refused):
    before = {p.name: p.read_bytes() for p in saved.parent.iterdir()}
    fill_disk(after=1)
    with refused(saved.with_suffix(""), "No space left on device"):
        make_expert(made_by={"seed": 1}).save(saved)
    assert {p.name: p.read_bytes() for p in saved.parent.iterdir()} == before


def test_a_file_where_the_folder_should_be(make_expert, tmp_path, refused):
    (tmp_path / "file").write_text("mine")
    with refused(tmp_path / "file" / "x.json"):
        make_expert().save(tmp_path / "file" / "x.safetensors")
    assert (tmp_path / "file").read_text() == "mine"


def test_another_suffix(make_expert, tmp_path, refused):
    with refused("x.pt", ".safetensors"):
        make_expert().save(tmp_path / "x.pt")
    assert list(tmp_path.iterdir()) == []


# Every way an expert's files can be bad ends in one line that names the file and what is wrong with it.


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
        ("observation_shape", [10, 10.5, 4], "observation_shape is [10, 10.5, 4]; it must be a list of int"),
        (
            "observation_shape",
            [10, 0],
            "observation_shape is [10, 0]; it must be a list of integers >= 1",
        ),
        ("observation_shape", 4, "observation_shape is 4; it must be a list of integers >= 1"),
        ("observation_dtype", "float33", "observation_dtype is 'float33'; it must be the name of a numpy"),
        ("num_actions", 0, "num_actions is 0; it must be an integer >= 1"),
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
