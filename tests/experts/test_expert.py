"""Experts: labels, the frozen weights, the native format, and saving whole or not at all."""

import json
import os

import pytest
import torch

from rllib_distill.experts import Expert
from rllib_distill.networks import build_network


def test_label_is_the_network_without_gradient(make_expert, observations):
    expert = make_expert()
    q, features = expert.label(observations)
    expected_q, expected_features = expert.network(observations)
    assert q.shape == (32, 6) and features.shape == (32, 8)
    assert torch.equal(q, expected_q) and torch.equal(features, expected_features)
    assert not q.requires_grad and not features.requires_grad
    assert not any(p.requires_grad for p in expert.network.parameters())
    assert not any(module.training for module in expert.network.modules())


def test_label_does_not_depend_on_how_the_batch_is_split(make_expert, observations):
    expert = make_expert()
    whole = expert.label(observations)
    parts = [expert.label(part) for part in (observations[:1], observations[1:12], observations[12:])]
    for one, split in zip(whole, zip(*parts, strict=True), strict=True):
        torch.testing.assert_close(one, torch.cat(split), rtol=1e-5, atol=1e-6)


def test_labels_leave_the_weights_bit_equal(make_expert, observations):
    expert = make_expert()
    before = {name: tensor.clone() for name, tensor in expert.network.state_dict().items()}
    for _ in range(3):
        expert.label(observations)
    assert all(torch.equal(before[name], tensor) for name, tensor in expert.network.state_dict().items())


def test_an_expert_does_not_follow_the_network_it_was_made_from(make_expert, observations):
    info = make_expert().info
    network = build_network(info.network, info.observation_shape, info.num_actions)
    expert = Expert(info, network.state_dict())
    before, _ = expert.label(observations)
    with torch.no_grad():
        network.head.weight.add_(1.0)
    assert torch.equal(expert.label(observations)[0], before)
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
    batch = torch.randint(0, 2, (3, *shape)).to(getattr(torch, expert.info.observation_dtype))
    for one, other in zip(expert.label(batch), loaded.label(batch), strict=True):
        assert torch.equal(one, other)


def test_the_loaded_convolution_is_channels_last_again(saved):
    assert Expert.load(saved).network.torso.conv.weight.is_contiguous(memory_format=torch.channels_last)


def test_the_json_names_the_format_and_every_key(saved):
    values = json.loads(saved.with_suffix(".json").read_text())
    assert values["format"] == "rllib_distill.expert/1"
    assert values["network"] == {"type": "minatar_cnn", "filters": 4, "hidden": 8}
    assert values["observation_shape"] == [10, 10, 4] and values["num_actions"] == 6


class TestSavingFails:
    """An expert is written whole or not at all, and what was there before stays."""

    @pytest.mark.parametrize("failing_write", [1, 2])
    def test_a_full_disk_changes_nothing(self, make_expert, saved, monkeypatch, failing_write, refused):
        before = {p.name: p.read_bytes() for p in saved.parent.iterdir()}
        sync, calls = os.fsync, []

        def sync_or_fail(file):
            calls.append(file)
            if len(calls) == failing_write:
                raise OSError(28, "No space left on device")
            sync(file)

        monkeypatch.setattr("os.fsync", sync_or_fail)
        with refused(saved.with_suffix(""), "No space left on device"):
            make_expert().save(saved)
        assert {p.name: p.read_bytes() for p in saved.parent.iterdir()} == before

    @pytest.mark.parametrize("taken", ["x.safetensors", "x.json"])
    def test_a_folder_in_the_way_changes_nothing(self, make_expert, tmp_path, taken, refused):
        (tmp_path / taken).mkdir()
        with refused(tmp_path / taken, f"{taken} is a folder"):
            make_expert().save(tmp_path / "x.safetensors")
        assert [p.name for p in tmp_path.iterdir()] == [taken]

    def test_a_file_where_the_folder_should_be(self, make_expert, tmp_path, refused):
        (tmp_path / "file").write_text("mine")
        with refused(tmp_path / "file" / "x.json"):
            make_expert().save(tmp_path / "file" / "x.safetensors")
        assert (tmp_path / "file").read_text() == "mine"

    def test_another_suffix(self, make_expert, tmp_path, refused):
        with refused("x.pt", ".safetensors"):
            make_expert().save(tmp_path / "x.pt")
        assert list(tmp_path.iterdir()) == []
