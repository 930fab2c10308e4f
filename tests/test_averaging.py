"""Eq. 1 and the BatchNorm statistics of the averaged weights."""

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from rosutils.averaging import refresh_batchnorm, update_average
from rosutils.data import Batch
from rosutils.models import create


def network(seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2)).to(dtype)


def checkpoints(n, dtype=torch.float64):
    """n networks as they might follow one another; the counters of BatchNorm differ as well."""
    networks = [network(seed, dtype) for seed in range(n)]
    for number, model in enumerate(networks):
        model[1].num_batches_tracked.fill_(7 * number + 3)
        model[1].running_mean.add_(number)
    return networks


def averaged(networks):
    average = copy.deepcopy(network(99, networks[0][0].weight.dtype))
    for n, model in enumerate(networks):
        update_average(average, model, n)
    return average


@pytest.mark.parametrize("n", [1, 2, 5, 40])
def test_eq1_is_the_plain_mean_of_the_checkpoints(n):
    networks = checkpoints(n)
    for name, value in averaged(networks).named_parameters():
        mean = torch.stack([dict(model.named_parameters())[name] for model in networks]).mean(0)
        assert torch.allclose(value, mean, rtol=1e-12, atol=1e-14), name


def test_the_first_checkpoint_replaces_what_was_there():
    smooth, current = network(0), network(1)
    update_average(smooth, current, 0)
    for name, value in smooth.state_dict().items():
        assert torch.equal(value, current.state_dict()[name]), name


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_eq1_equals_torchs_averaged_model(dtype):
    networks = checkpoints(12, dtype)
    theirs = AveragedModel(network(99, dtype))
    for model in networks:
        theirs.update_parameters(model)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    ours = averaged(networks)
    for found, value in zip(ours.parameters(), theirs.module.parameters(), strict=True):
        assert torch.allclose(found, value, rtol=tolerance, atol=tolerance)


def test_buffers_are_those_of_the_last_checkpoint_and_counters_stay_integers():
    networks = checkpoints(5)
    average = averaged(networks)
    for name, value in average.named_buffers():
        last = dict(networks[-1].named_buffers())[name]
        assert value.dtype == last.dtype
        assert torch.equal(value, last), name
    assert average[1].num_batches_tracked == 31


def test_the_model_is_untouched_and_shares_nothing_with_the_average_which_stays_trainable():
    model, average = network(0), network(1)
    before = copy.deepcopy(model.state_dict())
    update_average(average, model, 3)
    assert all(p.requires_grad and p.is_leaf and p.grad_fn is None for p in average.parameters())
    with torch.no_grad():
        for parameter in average.parameters():
            parameter.zero_()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_networks_of_different_shape_are_refused():
    with pytest.raises(ValueError):
        update_average(network(0), nn.Sequential(network(0), nn.Linear(2, 2).double()), 1)


# BatchNorm statistics


def batches(images, size):
    numbers = torch.arange(len(images))
    return [Batch(images[part], numbers[part] % 2, part, 0) for part in numbers.split(size)]


def data(n=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 3 + 2 * torch.randn(n, 3, 8, 8, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("size", [12, 3, 8])
def test_refreshed_statistics_are_those_of_the_data_and_every_image_counts_alike(size):
    """The loader keeps the last smaller batch, so `update_bn` gives its images up to 128 times the weight of the others."""
    images, layer = data(), nn.BatchNorm2d(3).double()
    layer.running_mean.fill_(100.0)
    refresh_batchnorm(layer, batches(images, size))
    within = sum(len(part) * part.var((0, 2, 3)) for part in images.split(size)) / len(images)
    assert torch.allclose(layer.running_mean, images.mean((0, 2, 3)), rtol=1e-12)
    assert torch.allclose(layer.running_var, within, rtol=1e-12)


def test_refreshing_forgets_what_was_there_and_is_repeatable():
    images, one, other = data(), network(0), network(0)
    other[1].running_mean.fill_(1e3)
    other[1].running_var.fill_(1e3)
    refresh_batchnorm(one, batches(images, 4))
    refresh_batchnorm(other, batches(images, 4))
    refresh_batchnorm(other, batches(images, 4))
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_statistics_of_a_deep_layer_are_those_of_the_averaged_weights():
    images, average = data(), averaged(checkpoints(3))
    refresh_batchnorm(average, batches(images, 12))
    activations = average[0](images)
    assert torch.allclose(average[1].running_mean, activations.mean((0, 2, 3)), rtol=1e-10)
    assert torch.allclose(average[1].running_var, activations.var((0, 2, 3)), rtol=1e-10)


@pytest.mark.parametrize("training", [True, False])
def test_refreshing_restores_mode_and_momentum_and_leaves_the_weights(training):
    model = network(0).train(training)
    model[1].momentum = 0.37
    before = [parameter.clone() for parameter in model.parameters()]
    refresh_batchnorm(model, batches(data(), 4))
    assert model.training is training and model[1].training is training
    assert model[1].momentum == 0.37
    for parameter, old in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter, old) and parameter.grad is None


def test_a_network_without_batchnorm_is_left_alone():
    model = nn.Linear(3, 2)
    before = copy.deepcopy(model.state_dict())
    refresh_batchnorm(model, batches(torch.rand(4, 3), 2))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_last_batch_of_one_image_does_not_stop_the_refreshing():
    """At 32 px the last stage of the networks has one pixel, so that one image alone has no variance."""
    images, model = data(5)[:, :, :1, :1], nn.BatchNorm2d(3).double()
    refresh_batchnorm(model, batches(images, 4))
    assert model.running_mean.isfinite().all() and model.running_var.isfinite().all()


def test_refreshing_leaves_the_global_generator_alone():
    """`update_bn` is in train mode, so MobileNet-v2's dropout draws from the global generator."""
    model = create("mobilenet_v2", 2, seed=0)
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    before = torch.get_rng_state()
    refresh_batchnorm(model, batches(images, 4))
    assert torch.equal(before, torch.get_rng_state())
