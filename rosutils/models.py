"""The five torchvision architectures by name (Section IV-B): images in [0, 1] in, logits out, normalisation inside."""

import gc
import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from rosutils import InputError, modes_kept


logger = logging.getLogger(__name__)

# Attribute path of each network's last linear layer.
ARCHITECTURES = {
    "resnet18": "fc", "resnet34": "fc", "resnet50": "fc", "mobilenet_v2": "classifier.1", "densenet121": "classifier",
}  # fmt: skip

# In float32 on the CPU channels-last is for the two that never lose by it (images/s in training at 40 px, one thread:
# MobileNet 231 to 418, DenseNet 100 to 143, ResNets alike). bfloat16 is for whoever names it (training.precision): it
# halves MobileNet's speed. On CUDA, where tensor cores want both, training passes get both. All else (validation, banks,
# attacks, surfaces) is float32: tau = 0.5 doubles a logit's rounding.
CHANNELS_LAST_ON_CPU = ("mobilenet_v2", "densenet121")

# Up to 32 px the last stage sees a single point, and eight of the nine taps of its 3x3 kernels nothing but padding: 62 % of
# a ResNet-18's weights (tests/test_models.py). From 33 px on none in the ResNets; MedMNIST's 28 px are framed to 40.
SMALLEST_SIDE, FRAMED_SIDE = 33, 40

# CUDA graphs are for runs of so many steps: a shorter one is over before recording has paid.
LEAST_STEPS = 200


class Classifier(nn.Module):
    """A torchvision network behind ImageNet normalisation, its last linear layer named `head`."""

    def __init__(self, backbone: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1), persistent=False)
        self.memory_format, self.precision = torch.contiguous_format, torch.float32

    def prepared(self, images: Tensor) -> Tensor:
        """What the network itself sees of images [B, 1 or 3, H, W] in [0, 1]: normalised, framed, in its layout."""
        if images.shape[1] not in (1, 3):
            raise InputError(f"images have {images.shape[1]} channels; allowed are 1 (grey) and 3 (colour)")
        images = (images.expand(-1, 3, -1, -1) - self.mean) / self.std
        return framed(images).contiguous(memory_format=self.memory_format)

    def features(self, images: Tensor) -> Tensor:
        """Pooled penultimate features [B, F] of images [B, 1 or 3, H, W] in [0, 1]; the precision is the images'."""
        prepared = self.prepared(images)
        with self.in_precision():
            return self.backbone(prepared).to(images.dtype)

    def in_precision(self) -> AbstractContextManager:
        """Where training passes run in a lower precision: there, and nowhere else, weights are cast for each layer."""
        if not self.training or self.precision == torch.float32:
            return nullcontext()
        return torch.autocast(self.head.weight.device.type, self.precision, cache_enabled=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, C]."""
        return self.head(self.features(images))


def framed(images: Tensor) -> Tensor:
    """Images [B, channels, H, W] with every side below 33 px brought to 40 by zeros around them."""
    lacking = [FRAMED_SIDE - side if side < SMALLEST_SIDE else 0 for side in images.shape[-2:]]
    if not any(lacking):
        return images
    down, right = lacking
    return nn.functional.pad(images, (right // 2, right - right // 2, down // 2, down - down // 2))


def create(architecture: str, n_classes: int, *, seed: int, pretraining: str = "none") -> Classifier:
    """A network of the named architecture with C outputs, initialised from `seed` alone.

    `pretraining="imagenet"` downloads torchvision's weights once; raises InputError where that fails.
    """
    if architecture not in ARCHITECTURES:
        raise InputError(f"architecture '{architecture}' is unknown; allowed: {', '.join(ARCHITECTURES)}")
    import torchvision  # here, for it takes seconds: most notebooks look at results and make no network

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = torchvision.models.get_model(architecture, weights=None, num_classes=n_classes)
    if pretraining not in ("none", "imagenet"):
        raise InputError(f"pretraining is {pretraining!r}; allowed: none, imagenet")
    if pretraining == "imagenet":
        _load_imagenet(backbone, architecture)
    head = backbone.get_submodule(ARCHITECTURES[architecture])
    backbone.set_submodule(ARCHITECTURES[architecture], nn.Identity())
    model = Classifier(backbone, head)
    return _channels_last(model) if architecture in CHANNELS_LAST_ON_CPU else model


def _load_imagenet(backbone: nn.Module, architecture: str) -> None:
    """ImageNet weights for everything but the last layer, whose size differs."""
    import torchvision

    try:
        with torch.random.fork_rng(devices=[]):
            published = torchvision.models.get_model(architecture, weights="IMAGENET1K_V1", progress=False)
    except (OSError, RuntimeError) as error:  # no network; a file with another hash, or without a layer
        raise InputError(
            f"training.pretraining is imagenet, but the weights of {architecture} could not be loaded ({error}); "
            f"put the file into {torch.hub.get_dir()}/checkpoints, or set training.pretraining: none"
        ) from None
    head = f"{ARCHITECTURES[architecture]}."
    kept = {name: value for name, value in published.state_dict().items() if not name.startswith(head)}
    backbone.load_state_dict(backbone.state_dict() | kept)


def _channels_last(model: Classifier) -> Classifier:
    model.memory_format = torch.channels_last
    return model.to(memory_format=torch.channels_last)


def placed(model: Classifier, device: torch.device | str, precision: str = "float32") -> Classifier:
    """The network on its device, in the layout that pays there, and with the precision of its training passes."""
    device, model.precision = torch.device(device), getattr(torch, precision)
    model = model.to(device)
    return _channels_last(model) if device.type == "cuda" or precision == "bfloat16" else model


def precision(device: torch.device) -> str:
    """Of training passes where none is named: bfloat16 on CUDA cards that have it (Ampere and later), else float32."""
    here = torch.cuda.is_available()  # of a card that is not, only what it made is looked at
    capable = device.type == "cuda" and (not here or torch.cuda.get_device_capability(device) >= (8, 0))
    return "bfloat16" if capable else "float32"


@contextmanager
def recorded(model: Classifier, shape: Sequence[int], steps: int) -> Iterator[None]:
    """While it lasts, training passes of `model.backbone` over batches of one shape [B, channels, H, W] are replayed.

    They are recorded once as CUDA graphs, for at batch 64 launching kernels takes the time: on CUDA, for LEAST_STEPS or more;
    else nothing is done. Weights, running statistics and gradients are those of the plain passes, and passes in eval mode stay
    plain. Losses, heads and the optimiser's step are no part of the graph, so they may be anything. Where recording fails
    training goes on without it, and a warning says why.
    """
    if next(model.parameters()).device.type != "cuda" or steps < LEAST_STEPS:
        yield
        return
    warn = getattr(torch.autograd.graph, "set_warn_on_accumulate_grad_stream_mismatch", lambda on: None)
    warn(False)  # of gradients that come from the graph's stream: their bits are those of plain passes
    try:
        _record(model, shape)
        yield
    finally:
        warn(True)
        model.backbone.__dict__.pop("forward", None)  # what make_graphed_callables laid over the class's own
        gc.collect()  # its graph and buffers lie in a cycle, and hold gigabytes
        torch.cuda.empty_cache()


def _record(model: Classifier, shape: Sequence[int]) -> None:
    """Record forward and backward passes; the passes that warm up move BatchNorm's statistics, which are put back."""
    device, backbone = next(model.parameters()).device, model.backbone
    with modes_kept(model):
        before = {name: buffer.clone() for name, buffer in backbone.named_buffers()}
        model.train()
        gc.collect()
        gc.disable()  # an old graph that is destroyed in the midst of a recording spoils it
        try:
            with torch.cuda.device(device), model.in_precision():
                sample = model.prepared(torch.rand(tuple(shape), device=device)).detach()
                torch.cuda.make_graphed_callables(backbone, (sample,))
        except RuntimeError as error:
            backbone.__dict__.pop("forward", None)
            logger.warning("CUDA graphs could not be recorded, training is slower without them: %s", error)
        finally:
            gc.enable()
            with torch.no_grad():
                for name, buffer in backbone.named_buffers():
                    buffer.copy_(before[name])
