"""Helpers for weight gradients: the bits of one thread and of plain autograd, and nothing lost on the way."""

import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from rosutils import InputError, deferred, models, training
from rosutils.data import Batch


class Batches:
    """Two batches of noise, the same in every epoch."""

    def __init__(self, pixels: int = 32) -> None:
        generator = torch.Generator().manual_seed(0)
        self.batches = [
            Batch(torch.rand(8, 3, pixels, pixels, generator=generator), torch.arange(8) % 5, torch.arange(8), 0)
            for _ in range(2)
        ]

    def set_epoch(self, epoch: int) -> None:
        """No order to fix."""

    def __iter__(self):
        return iter(self.batches)


def trained(architecture: str, threads: int) -> dict[str, torch.Tensor]:
    model = models.create(architecture, 5, seed=0)
    loss = lambda model, batch: F.cross_entropy(model(batch.images), batch.labels)  # noqa: E731
    with deferred.weight_gradients(threads):
        training.fit(model, Batches(), loss, epochs=2, learning_rate=0.02, progress=False)
    return model.state_dict()


@pytest.mark.parametrize("threads", [2, 4])
@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_every_network_ends_with_the_bits_of_one_thread(architecture, threads):
    one, several = trained(architecture, 1), trained(architecture, threads)
    assert all(value.equal(several[name]) for name, value in one.items())


def test_torchs_own_threads_would_not_give_them():
    """What the helpers are for; should torch come to sum alike on any number of threads, they can go."""
    one = trained("mobilenet_v2", 1)
    torch.set_num_threads(2)
    two = trained("mobilenet_v2", 1)
    torch.set_num_threads(1)
    assert not all(value.equal(two[name]) for name, value in one.items())


def stepped(layers: list[nn.Module], images: torch.Tensor, threads: int) -> list[torch.Tensor | None]:
    """The gradients that an optimiser finds in its step, of all parameters and of the images."""
    found: list[torch.Tensor | None] = []
    network = nn.Sequential(*layers)
    for parameter in network.parameters():
        parameter.grad = None
    images = images.clone().requires_grad_()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    optimizer.register_step_pre_hook(lambda *step: found.extend(p.grad for p in network.parameters()))
    with deferred.weight_gradients(threads):
        network(images).square().mean().backward()
        optimizer.step()
    return [*found, images.grad]


def alike(one: list, other: list) -> bool:
    return len(one) == len(other) and all(
        (a is None and b is None) or (a.equal(b) and a.stride() == b.stride()) for a, b in zip(one, other, strict=True)
    )


@settings(deadline=None, max_examples=40)
@given(
    batch=st.integers(1, 5), size=st.integers(5, 12), groups=st.sampled_from([1, 2, 4]), kernel=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 3), padding=st.integers(0, 2), dilation=st.integers(1, 2), last=st.booleans(), bias=st.booleans(),
)  # fmt: skip
def test_gradients_are_those_of_autograd_for_any_convolution(
    batch, size, groups, kernel, stride, padding, dilation, last, bias
):
    if size + 2 * padding <= dilation * (kernel - 1):
        return
    generator = torch.Generator().manual_seed(0)
    layer = nn.Conv2d(4, 8, kernel, stride, padding, dilation, groups, bias)
    images = torch.randn(batch, 4, size, size, generator=generator)
    if last:
        layer, images = layer.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    assert alike(stepped([layer], images, 2), stepped([layer], images, 1))


def test_a_layer_that_is_used_twice_gets_the_sum_of_both():
    layer = nn.Conv2d(3, 3, 3, padding=1, bias=False)
    images = torch.rand(2, 3, 6, 6)
    ours, plain = (stepped([layer, nn.ReLU(), layer], images, threads) for threads in (2, 1))
    assert torch.allclose(ours[0], plain[0], rtol=1e-5) and ours[-1].equal(plain[-1])


@pytest.mark.parametrize("padding", ["same", 1])
def test_frozen_layers_and_padding_in_words_are_left_to_torch(padding):
    layers = [nn.Conv2d(3, 4, 3, padding=padding, bias=False), nn.Conv2d(4, 4, 3, padding=padding, bias=False)]
    layers[1].requires_grad_(False)
    images = torch.rand(2, 3, 6, 6)
    assert alike(stepped(layers, images, 2), stepped(layers, images, 1))


def test_weights_that_are_no_parameters_are_left_to_torch():
    weight, images = torch.rand(4, 3, 3, 3, requires_grad=True), torch.rand(2, 3, 6, 6)
    with deferred.weight_gradients(2):
        F.conv2d(images, weight * 2).sum().backward()
    assert weight.grad is not None


def test_a_weight_gradient_is_computed_beside_the_rest_and_there_in_the_step(monkeypatch):
    threads = []
    plain = torch.ops.aten.convolution_backward

    def noting(*args):
        threads.append((threading.current_thread().name, args[-1][1], torch.get_num_threads()))
        return plain(*args)

    monkeypatch.setattr(torch.ops.aten, "convolution_backward", noting)
    stepped([nn.Conv2d(3, 4, 3, bias=False)], torch.rand(2, 3, 6, 6), 3)
    assert {(name.startswith("weight gradients"), weight) for name, weight, _ in threads} == {
        (True, True),
        (False, False),
    }
    assert {count for *_, count in threads} == {1}


def test_an_error_of_a_helper_stops_the_step(monkeypatch):
    plain = torch.ops.aten.convolution_backward

    def failing(*args):
        if args[-1][1]:
            raise InputError("out of memory")
        return plain(*args)

    monkeypatch.setattr(torch.ops.aten, "convolution_backward", failing)
    with pytest.raises(InputError, match="out of memory"):
        stepped([nn.Conv2d(3, 4, 3, bias=False)], torch.rand(2, 3, 6, 6), 2)


def test_a_second_derivative_is_refused_and_not_wrong():
    layer, images = nn.Conv2d(3, 4, 3, bias=False), torch.rand(2, 3, 6, 6, requires_grad=True)
    with deferred.weight_gradients(2):
        [gradient] = torch.autograd.grad(layer(images).square().sum(), images, create_graph=True)
        with pytest.raises(RuntimeError, match="differentiate twice"):
            gradient.sum().backward()


def test_afterwards_everything_is_as_it_was():
    torch.set_num_threads(2)
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt), deferred.weight_gradients(3):
        assert torch.get_num_threads() == 1
        nn.Conv2d(3, 4, 3, bias=False)(torch.rand(1, 3, 6, 6)).sum().backward()
        raise KeyboardInterrupt
    assert torch.get_num_threads() == 2 and threading.active_count() == before
    torch.set_num_threads(1)
    layer = nn.Conv2d(3, 4, 3, bias=False)
    layer(torch.rand(1, 3, 6, 6)).sum().backward()
    assert layer.weight.grad is not None
