"""The bank of experts: whether they fit their tasks, and labels in each task's own actions."""

import logging

import numpy as np
import pytest
import torch

from rllib_distill.experts import ExpertBank
from rllib_distill.tasks import TaskSet


@pytest.fixture(scope="module")
def tasks():
    """Breakout: 4 channels, actions n, l, r. CartPole: no names for its 2 actions."""
    return TaskSet.from_config({"breakout": "MinAtar/Breakout-v1", "pole": "CartPole-v1"})


@pytest.fixture
def make_experts(make_expert):
    """Returns a function that makes one expert per task; its arguments change their infos."""

    def make(breakout=None, pole=None):
        pole_info = {
            "task": "pole",
            "env": "CartPole-v1",
            "network": {"type": "mlp", "hiddens": [8]},
            "observation_shape": (4,),
            "observation_dtype": "float32",
            "num_actions": 2,
            "action_meanings": None,
        }
        return {"pole": make_expert(**pole_info | (pole or {})), "breakout": make_expert(**(breakout or {}))}

    return make


def test_the_bank_is_a_mapping_in_the_order_of_the_tasks(make_experts, tasks):
    experts = make_experts()
    bank = ExpertBank(experts, tasks)
    assert list(bank) == ["breakout", "pole"] and len(bank) == 2
    assert bank["pole"] is experts["pole"]


def test_loaded_experts_give_the_labels_of_the_saved_ones(make_experts, tasks, tmp_path, observations):
    experts = make_experts()
    for name, expert in experts.items():
        expert.save(tmp_path / f"{name}.safetensors")
    bank = ExpertBank.load({name: str(tmp_path / f"{name}.safetensors") for name in experts}, tasks)
    in_memory = ExpertBank(experts, tasks)
    for loaded, saved in zip(*(b.label("breakout", observations) for b in (bank, in_memory)), strict=True):
        np.testing.assert_array_equal(loaded, saved)


def test_labels_are_numpy_in_the_tasks_own_actions(make_experts, tasks, observations):
    experts = make_experts()
    label = ExpertBank(experts, tasks).label("breakout", observations.numpy())
    theirs = experts["breakout"].label(observations)
    own = [experts["breakout"].info.action_meanings.index(m) for m in tasks["breakout"].action_meanings]
    assert own == [0, 1, 3]  # the minimal action set n, l, r of the full one n, l, u, r, d, f
    np.testing.assert_array_equal(label.outputs, theirs.outputs.numpy()[..., own])
    np.testing.assert_array_equal(label.features, theirs.features.numpy())
    assert label.outputs.shape == (8, 4, 3) and label.outputs.dtype == label.features.dtype == np.float32
    assert label.state.shape == (4, 0)


@pytest.mark.parametrize(
    ("meanings", "columns"), [(("r", "n", "l"), [1, 2, 0]), (None, [0, 1, 2])], ids=["by meaning", "by place"]
)
def test_actions_are_matched_by_meaning_where_they_have_one(
    make_experts, tasks, observations, meanings, columns
):
    experts = make_experts(breakout={"num_actions": 3, "action_meanings": meanings})
    outputs = ExpertBank(experts, tasks).label("breakout", observations).outputs
    theirs = experts["breakout"].label(observations).outputs
    np.testing.assert_array_equal(outputs, theirs.numpy()[..., columns])


def test_a_recurrent_experts_state_goes_from_one_label_to_the_next(
    make_experts, tasks, observations, is_first
):
    recurrent = {"network": {"type": "minatar_cnn", "filters": 4, "hidden": 8, "lstm": 6}}
    bank = ExpertBank(make_experts(breakout=recurrent), tasks)
    firsts = is_first.numpy()
    whole = bank.label("breakout", observations, None, firsts)
    first = bank.label("breakout", observations[:5], None, firsts[:5])
    second = bank.label("breakout", observations[5:], first.state, firsts[5:])
    halves = np.concatenate([first.outputs, second.outputs])
    np.testing.assert_allclose(halves, whole.outputs, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(second.state, whole.state, rtol=1e-5, atol=1e-6)
    assert not np.allclose(
        bank.label("breakout", observations[5:], None, firsts[5:]).outputs, whole.outputs[5:]
    )


@pytest.mark.filterwarnings("error")
def test_labels_of_arrays_and_tensors_agree_and_read_only_arrays_are_taken(
    make_experts, tasks, observations, is_first
):
    bank = ExpertBank(make_experts(), tasks)
    arrays = observations.numpy().copy(), is_first.numpy().copy()
    for array in arrays:
        array.flags.writeable = False  # as arrays from Ray's object store are
    label = bank.label("breakout", arrays[0], None, arrays[1])
    for from_array, from_tensor in zip(label, bank.label("breakout", observations), strict=True):
        np.testing.assert_array_equal(from_array, from_tensor)


def test_no_label_has_a_gradient_and_no_weight_moves(make_experts, tasks, observations):
    bank = ExpertBank(make_experts(), tasks)
    weights = {name: t.clone() for name, t in bank["breakout"].network.state_dict().items()}
    label = bank.label("breakout", observations)
    label.outputs[:] += 1.0
    label.features[:] += 1.0  # labels are the caller's: changing them changes no weight
    assert all(torch.equal(weights[name], t) for name, t in bank["breakout"].network.state_dict().items())
    assert not any(p.requires_grad for p in bank["breakout"].network.parameters())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"observation_shape": (10, 10, 7)}, "(10, 10, 7) bool, but the task's are (10, 10, 4) bool"),
        ({"observation_dtype": "uint8"}, "(10, 10, 4) uint8, but the task's are (10, 10, 4) bool"),
        ({"num_actions": 4, "action_meanings": None}, "4 actions, but the task has 3 actions (n, l, r)"),
        ({"num_actions": 3, "action_meanings": ("n", "u", "d")}, "3 actions (n, u, d), but the task has 3"),
        ({"num_actions": 2, "action_meanings": ("n", "l")}, "2 actions (n, l), but the task has 3"),
    ],
)
def test_an_expert_that_does_not_fit_its_task_is_refused(make_experts, tasks, refused, changes, says):
    with refused(says, "'breakout'"):
        ExpertBank(make_experts(breakout=changes), tasks)


def test_a_wrong_action_count_without_meanings_is_refused(make_experts, tasks, refused):
    with refused("'pole'", "has 3 actions, but the task has 2 actions"):
        ExpertBank(make_experts(pole={"num_actions": 3}), tasks)


def test_a_task_without_expert_is_refused_before_a_file_is_read(tasks, refused):
    with refused("No expert for these tasks: pole"):
        ExpertBank.load({"breakout": "none.safetensors"}, tasks)


def test_an_expert_without_task_is_refused_with_the_nearest_task(tasks, refused):
    paths = {"breakout": "a.safetensors", "pole": "b.safetensors", "brekout": "c.safetensors"}
    with refused("'brekout' belongs to no task. Did you mean 'breakout'"):
        ExpertBank.load(paths, tasks)


def test_experts_that_are_no_mapping_are_refused(tasks, refused):
    with refused("must map each task", "got ['a.safetensors']"):
        ExpertBank.load(["a.safetensors"], tasks)


ASTERIX = "tuned_examples/experts/minatar/asterix.safetensors"


@pytest.mark.parametrize("game", ["Breakout", "Asterix"])
def test_an_expert_of_another_game_with_equal_shapes_is_accepted_but_said(caplog, game):
    # Asterix and Breakout both have four channels, and Asterix has all of Breakout's actions.
    with caplog.at_level(logging.WARNING):
        ExpertBank.load({"mine": ASTERIX}, TaskSet.from_config({"mine": f"MinAtar/{game}-v1"}))
    said = (
        "The expert of task 'mine' was made in 'MinAtar/Asterix-v1', but the task is 'MinAtar/Breakout-v1'."
    )
    assert [record.getMessage() for record in caplog.records] == ([said] if game == "Breakout" else [])
