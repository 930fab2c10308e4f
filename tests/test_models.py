"""The five architectures: shapes, normalisation, seeds and pre-training."""

import copy
import re
import urllib.error
import urllib.request
from functools import cache

import pytest
import torch
import torchvision
from torch import nn
from torch.optim.swa_utils import update_bn
from torchvision.transforms import functional as vision

from rosutils import InputError, distill, models, training
from rosutils.data import Batch
from rosutils.models import ARCHITECTURES, CHANNELS_LAST_ON_CPU, create, framed, placed, precision


MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
C = 8
every = pytest.mark.parametrize("architecture", ARCHITECTURES)
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@cache
def made(architecture):
    """One network of each kind in eval mode, shared by the tests that only look at it."""
    model = create(architecture, C, seed=0)
    update_bn([images(8, pixels=64, seed=7)], model)  # else the signal of an untrained MobileNet fades to nothing
    with torch.no_grad():  # biases start at zero; a wrong one must show
        model.head.bias.copy_(torch.linspace(-1, 1, C))
    return model.eval()


def images(n=2, *, pixels=32, channels=3, seed=0):
    return torch.rand(n, channels, pixels, pixels, generator=torch.Generator().manual_seed(seed))


def torchvisions(model, architecture):
    """torchvision's own network with the same weights."""
    path = ARCHITECTURES[architecture]
    state = model.backbone.state_dict() | {f"{path}.{name}": value for name, value in model.head.state_dict().items()}
    network = torchvision.models.get_model(architecture, num_classes=model.head.out_features)
    network.load_state_dict(state)
    return network.eval()


@every
@pytest.mark.parametrize("pixels", [28, 32, 64])
@torch.no_grad()
def test_logits_are_b_by_c_and_finite_for_every_size_and_grey_counts_as_the_same_image_in_three_channels(
    architecture, pixels
):
    model, grey = made(architecture), images(pixels=pixels, channels=1)
    for batch in (grey, images(pixels=pixels)):
        logits = model(batch)
        assert logits.shape == (2, C) and logits.dtype == torch.float32 and logits.isfinite().all()
        assert not torch.equal(logits[0], logits[1])
    assert torch.equal(model(grey), model(grey.repeat(1, 3, 1, 1)))


@every
@torch.no_grad()
def test_normalisation_is_inside_but_no_part_of_the_state_and_the_rest_is_torchvisions_network(architecture):
    model, batch = made(architecture), images(pixels=48)
    network = torchvisions(model, architecture)
    expected = network(vision.normalize(batch, MEAN, STD))
    assert torch.allclose(model(batch), expected, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(network(batch), expected, rtol=1e-2, atol=1e-2)
    assert len(model.state_dict()) == len(network.state_dict()) and not {"mean", "std"} & set(model.state_dict())
    features = model.features(batch)
    assert features.shape == (2, model.head.in_features) and torch.equal(model.head(features), model(batch))


@torch.no_grad()
def test_an_image_below_33_pixels_is_surrounded_by_the_mean_colour_up_to_40():
    model = made("resnet18")
    for pixels, start in ((28, 6), (27, 6), (32, 4)):
        small, framed = images(pixels=pixels), torch.tensor(MEAN).view(1, 3, 1, 1).repeat(2, 1, 40, 40)
        framed[..., start : start + pixels, start : start + pixels] = small
        assert torch.allclose(model(small), model(framed), atol=1e-5)
    for sides, seen in (((33, 33), (33, 33)), ((28, 50), (40, 50))):
        assert model.prepared(torch.rand(1, 1, *sides)).shape[-2:] == seen


@every
def test_gradients_reach_every_parameter_and_the_pixels(architecture):
    model, batch = copy.deepcopy(made(architecture)).train(), images(n=2).requires_grad_()
    model(batch).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert batch.grad.any()


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = create("resnet18", C, seed=3).state_dict()
    assert torch.equal(before, torch.get_rng_state())  # the global generator is given back
    torch.manual_seed(6)
    again, other = create("resnet18", C, seed=3).state_dict(), create("resnet18", C, seed=4).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    drawn = [name for name in first if name.endswith(("conv1.weight", "head.weight"))]
    assert drawn and not any(torch.equal(first[name], other[name]) for name in drawn)


# Pre-training


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty folder where torch.hub looks for files, and no network."""

    def refuse(*args, **kwargs):
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def write_weights(folder, architecture, rename=lambda name: name):
    """A small file as torchvision expects it: 1000 classes, each tensor filled with a number of its own."""
    with torch.device("meta"):
        state = torchvision.models.get_model(architecture, num_classes=1000).state_dict()
    filled = {
        name: torch.full((), number + 1, dtype=value.dtype).expand(value.shape)
        for number, (name, value) in enumerate(state.items())
    }
    file = torchvision.models.get_model_weights(architecture).IMAGENET1K_V1.url.rpartition("/")[2]
    torch.save({rename(name): value for name, value in filled.items()}, folder / file)
    return filled


@every
def test_imagenet_weights_are_loaded_everywhere_but_in_the_head(architecture, hub):
    filled = write_weights(hub, architecture)
    if architecture == "densenet121":
        filled = as_published(hub, filled)
    before = torch.get_rng_state()
    model = create(architecture, C, seed=0, pretraining="imagenet")
    assert torch.equal(before, torch.get_rng_state())
    loaded, path = model.backbone.state_dict(), ARCHITECTURES[architecture]
    assert set(filled) - set(loaded) == {f"{path}.weight", f"{path}.bias"}
    for name in set(filled) & set(loaded):
        assert torch.equal(loaded[name], filled[name]), name
    assert model.head.weight.shape == (C, model.head.in_features)
    assert torch.equal(model.head.weight, made(architecture).head.weight)  # from the seed, as without pre-training


def as_published(folder, filled):
    """As the published densenet121-a639ec97.pth: 'denselayer1.norm.1.weight' for 'norm1', and no batch counters."""
    (file,), kept = folder.iterdir(), {k: value for k, value in filled.items() if not k.endswith("num_batches_tracked")}
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", name): value for name, value in kept.items()}
    torch.save(old, file)
    return kept


def test_without_the_file_and_the_network_it_is_an_input_error_that_says_what_to_do(hub):
    assert isinstance(create("resnet18", C, seed=0), nn.Module) and not list(hub.iterdir())  # none was asked for
    with pytest.raises(InputError, match="weights of resnet18 could not be loaded.*no network in tests") as error:
        create("resnet18", C, seed=0, pretraining="imagenet")
    assert str(hub) in str(error.value) and "pretraining: none" in str(error.value)
    write_weights(hub, "resnet18", lambda name: name.replace("layer4", "layer5"))
    with pytest.raises(
        InputError, match="could not be loaded.*\n.*Missing key.*layer4"
    ):  # and does not leave random weights
        create("resnet18", C, seed=0, pretraining="imagenet")


@pytest.mark.parametrize(
    ("says", "call"),
    [
        ("architecture 'vgg16' is unknown.*resnet18.*densenet121", lambda: create("vgg16", C, seed=0)),
        ("ImageNet", lambda: create("resnet18", C, seed=0, pretraining="ImageNet")),
        ("images have 2 channels", lambda: made("resnet18")(images(channels=2))),
    ],
)
def test_what_does_not_fit_is_said(says, call):
    with pytest.raises(InputError, match=says):
        call()


def test_a_download_is_checked_against_its_hash(hub, monkeypatch):
    asked = []

    def download(url, destination, hash_prefix=None, progress=True):
        asked.append(hash_prefix)
        raise OSError("no network in tests")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    with pytest.raises(InputError):
        create("resnet18", C, seed=0, pretraining="imagenet")
    assert asked == ["f37072fd"]


# Layout and precision


def test_on_the_cpu_two_networks_are_channels_last_and_all_that_train_in_bfloat16():
    for architecture in ARCHITECTURES:
        for named, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
            model = placed(create(architecture, C, seed=0), "cpu", named)
            last = next(p for p in model.parameters() if p.ndim == 4 and p.shape[1] > 1)
            expected = architecture in CHANNELS_LAST_ON_CPU or named == "bfloat16"
            assert model.precision == dtype
            assert last.is_contiguous(memory_format=torch.channels_last) == expected


@pytest.mark.parametrize("capability, expected", [((7, 5), "float32"), ((8, 0), "bfloat16")])
def test_cuda_cards_train_in_bfloat16_where_they_have_it(capability, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert precision(torch.device("cuda")) == expected and precision(torch.device("cpu")) == "float32"


def test_a_lower_precision_is_that_of_training_passes_alone():
    model, seen = copy.deepcopy(made("resnet18")), []
    model.precision = torch.bfloat16
    model.backbone.conv1.register_forward_hook(lambda layer, given, out: seen.append(out.dtype))
    for mode, expected in ((True, torch.bfloat16), (False, torch.float32)):
        logits = model.train(mode)(images(4))
        assert seen[-1] == expected and logits.dtype == torch.float32
        logits.sum().backward()
        assert all(p.grad.dtype == torch.float32 for p in model.parameters())


@gpu
@every
def test_on_a_gpu_logits_are_those_of_the_cpu(architecture):
    model, batch = copy.deepcopy(made(architecture)), images(8)
    with torch.no_grad():
        expected, found = model(batch), placed(copy.deepcopy(model), "cuda")(batch.cuda()).cpu()
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)


# Dead weights: they see nothing but padding


def dead_share(architecture, pixels, *, frame=False):
    """The share of convolution and linear weights whose gradient is 0 whatever the images; `frame`d as below 33 px.

    One backward pass finds them exactly: with positive pixels, weights and gradients nothing cancels and no ReLU is off, so
    only geometry makes a gradient 0.
    """
    model = create(architecture, 8, seed=0).double().eval()
    layers = [layer for layer in model.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    for layer in layers:
        nn.init.constant_(layer.weight, 1 / layer.weight[0].numel())
    batch = 1e-3 * (1 + images(1, pixels=pixels)).double()  # small, for residuals add up: above 6 ReLU6 has no slope
    model.head(model.backbone(framed(batch) if frame else batch)).sum().backward()
    dead = sum(int((layer.weight.grad == 0).sum()) for layer in layers)
    return dead / sum(layer.weight.numel() for layer in layers)


@every
@pytest.mark.parametrize("pixels", [32, 33, 64])
def test_no_weight_of_the_resnets_sees_padding_alone_from_33_pixels_on(architecture, pixels):
    stages = {"resnet18": 0.622, "resnet34": 0.524, "resnet50": 0.235, "mobilenet_v2": 0.012, "densenet121": 0.076}
    least = {"densenet121": 61}.get(architecture, 33)  # of its four transitions three halve and drop the odd pixel
    found = dead_share(architecture, pixels)
    assert found == pytest.approx(stages[architecture] if pixels < least else 0, abs=5e-4)


def test_the_share_of_a_resnet18_is_that_of_eight_taps_in_nine_of_its_last_stage():
    """And of five in nine of its first convolution, which looks at a map of 2x2."""
    dead = (3 * 8 * 512 * 512) + 5 * 256 * 512
    assert dead_share("resnet18", 32) == dead / 11_171_008


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
def test_framed_images_leave_no_weight_of_a_resnet_dead(architecture):
    assert dead_share(architecture, 28, frame=True) == 0 < dead_share(architecture, 28)


@pytest.mark.parametrize("architecture", ["resnet18", "mobilenet_v2"])
def test_dead_weights_are_those_that_no_image_moves(architecture):
    """In the network itself, in training, over several images: only what geometry leaves is 0 in all of them."""
    model = copy.deepcopy(made(architecture)).train()
    for seed in range(3):
        noise = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
        model.head(model.backbone(noise)).square().sum().backward()
    weights = [layer.weight for layer in model.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    still = sum(int((weight.grad == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)
    assert still == pytest.approx(dead_share(architecture, 32), abs=1e-3)


# CUDA graphs: on a GPU the passes of a recorded network are those of the plain one; elsewhere nothing is recorded


def trained(
    device: str, steps: int, architecture: str = "resnet18", epochs: int = 2
) -> tuple[list[float], torch.Tensor]:
    """Losses and logits after a few steps on random images, with the passes recorded where `steps` are enough."""
    draws = torch.Generator().manual_seed(0)
    images, labels = torch.rand(32, 3, 40, 40, generator=draws), torch.randint(4, (32,), generator=draws)
    whole = Batch(images.to(device), labels.to(device), torch.arange(32), 0)

    class Few(list):
        def set_epoch(self, epoch):
            pass

    loader = Few(Batch(*(part[rows] for part in whole[:3]), 0) for rows in (slice(0, 16), slice(16, 32)))
    model = placed(create(architecture, 4, seed=1), device, precision(torch.device(device)))
    how = {"epochs": epochs, "learning_rate": 0.01, "progress": False}
    with models.recorded(model, (16, 3, 40, 40), steps):
        rows = training.fit(model, loader, distill.supervised_loss, **how)
    return [row["loss"] for row in rows], training.predict(model, loader)[0]


def test_off_a_gpu_nothing_is_recorded():
    model = create("resnet18", 4, seed=0)
    with models.recorded(model, (16, 3, 40, 40), models.LEAST_STEPS):
        assert "forward" not in model.backbone.__dict__
    losses, logits = trained("cpu", models.LEAST_STEPS)
    plain = trained("cpu", 0)
    assert losses == plain[0] and logits.equal(plain[1])


@gpu
@every
def test_recorded_passes_give_the_losses_and_logits_of_plain_ones(architecture):
    """On an H100 the bits were the same for all five."""
    (losses, logits), (expected, wanted) = (trained("cuda", steps, architecture) for steps in (models.LEAST_STEPS, 0))
    assert losses == pytest.approx(expected, rel=1e-3)
    torch.testing.assert_close(logits, wanted, rtol=0.01, atol=0.01)


@gpu
def test_no_memory_stays_with_a_recording_that_is_over():
    held = []
    for _ in range(4):
        trained("cuda", models.LEAST_STEPS, epochs=1)
        held.append(torch.cuda.memory_reserved())
    assert max(held[1:]) <= 1.1 * held[0]
