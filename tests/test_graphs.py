"""Recorded training passes: on a GPU the same numbers as plain ones, elsewhere nothing at all."""

from contextlib import nullcontext

import pytest
import torch

from rosutils import graphs, models
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


@pytest.fixture
def recorder(monkeypatch):
    """CUDA's recording played on the CPU: passes that warm up, then another forward on the backbone."""
    calls = []

    def record(backbone, samples):
        calls.append((backbone.training, samples[0].shape, samples[0].requires_grad))
        for _ in range(3):
            backbone(*samples)
        backbone.forward = lambda images: images.flatten(1)

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", record)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    return calls


def test_recording_is_in_train_mode_at_the_size_of_the_network_and_leaves_statistics_and_modes(recorder):
    model = models.create("resnet18", 4, seed=0).eval()
    model.backbone.layer1.train()
    modes = [module.training for module in model.modules()]
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    graphs._record(model, (8, 1, 28, 28))  # grey and small: three channels, framed to 32 px
    assert recorder == [(True, (8, 3, 32, 32), False)]
    assert [module.training for module in model.modules()] == modes
    assert all(buffer.equal(before[name]) for name, buffer in model.named_buffers())


def test_where_recording_fails_a_warning_says_so_and_nothing_else_changes(monkeypatch, recorder):
    def fail(backbone, samples):
        backbone(*samples)
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", fail)
    model = models.create("resnet18", 4, seed=0)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with pytest.warns(UserWarning, match="could not be recorded.*when stream is capturing"):
        graphs._record(model, (4, 3, 32, 32))
    assert all(buffer.equal(before[name]) for name, buffer in model.named_buffers())
