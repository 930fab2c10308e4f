"""Recorded training passes: on a GPU the same numbers as plain ones, elsewhere nothing at all."""

import pytest
import torch

from rosutils import models
from rosutils.graphs import replayed


def test_elsewhere_than_on_cuda_nothing_changes():
    model = models.create("resnet18", 4, seed=0)
    before, forward = {k: v.clone() for k, v in model.state_dict().items()}, model.backbone.forward
    benchmark = torch.backends.cudnn.benchmark
    with replayed(model, (8, 3, 32, 32)):
        assert model.backbone.forward == forward and torch.backends.cudnn.benchmark == benchmark
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_replayed_passes_give_the_gradients_of_plain_ones_and_leave_the_statistics():
    images = torch.rand(8, 3, 32, 32, device="cuda")
    gradients = []
    for graphed in (False, True):
        model = models.placed(models.create("resnet18", 4, seed=0), "cuda").train()
        before = [buffer.clone() for buffer in model.buffers()]
        if graphed:
            with replayed(model, images.shape):
                assert all(a.equal(b) for a, b in zip(before, model.buffers(), strict=True))
                model(images).square().sum().backward()
        else:
            model(images).square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again, rtol=0.05, atol=0.05)
