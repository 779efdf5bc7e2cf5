"""Buffers keep their memory and its order; on a GPU no copy is overtaken by the next minibatch."""

import numpy as np
import pytest
import torch

from rllib_distill.replay.host_buffers import HostBuffers


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (0, 3, 1, 2), (3, 0, 2, 1)])
def test_that_an_array_has_the_dtype_and_the_memory_order_of_its_model(axes):
    model = np.ones([(2, 5, 7, 3)[axis] for axis in axes], np.uint8).transpose(np.argsort(axes))
    buffers = HostBuffers("cpu")
    buffers.turn()
    array = buffers.make("observations", (4, 5, 7, 6), model)
    assert array.shape == (4, 5, 7, 6) and array.dtype == np.uint8 and not array.any()
    assert np.argsort(array.strides).tolist() == np.argsort(model.strides).tolist()
    array[:] = np.arange(6)
    tensor = buffers.to_device("observations")
    assert tensor.dtype == torch.uint8 and (tensor == torch.arange(6)).all()
    assert tensor.stride() == array.strides


def test_that_on_a_processor_turns_write_the_same_memory():
    buffers = HostBuffers("cpu")
    buffers.turn()
    assert buffers.get("rewards") is None
    buffers.make("rewards", (3,), np.zeros(1, np.float32))[:] = 1.0
    tensor = buffers.to_device("rewards")
    buffers.sent()
    buffers.turn()
    buffers.get("rewards")[:] = 2.0
    assert tensor.tolist() == [2.0, 2.0, 2.0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_that_on_a_gpu_a_minibatch_is_not_overwritten_while_it_is_copied():
    buffers, sent = HostBuffers("cuda"), []
    for i in range(6):
        buffers.turn()
        array = buffers.get("rewards")
        if array is None:
            array = buffers.make("rewards", (1_000_000,), np.zeros(1, np.float32))
            assert torch.from_numpy(array).is_pinned()
        array[:] = i
        torch.cuda._sleep(20_000_000)  # the GPU is behind: the copy waits in its queue
        sent.append(buffers.to_device("rewards"))
        buffers.sent()
    assert [tensor.unique().tolist() for tensor in sent] == [[float(i)] for i in range(6)]
