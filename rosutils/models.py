"""The five torchvision architectures by name (Section IV-B): images in [0, 1] in, logits out, normalisation inside."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from rosutils import InputError


# Attribute path of each network's last linear layer.
ARCHITECTURES = {
    "resnet18": "fc", "resnet34": "fc", "resnet50": "fc", "mobilenet_v2": "classifier.1", "densenet121": "classifier",
}  # fmt: skip

# The rule for layout and precision. Images/s in training, batch 64, two threads of a CPU with bfloat16 units (AVX512_BF16),
# at 32 and 64 px: plain, then channels-last, then channels-last in bfloat16:
#   resnet18       910  791 1076    328  358  514        resnet50       319  318  414    110  142  186
#   mobilenet_v2   697 1287  559    385  613  329        densenet121    236  245  297     91  116  162
#   resnet34       444  435  440    167  171  239
# On the CPU channels-last is for the two that never lose by it, and bfloat16 for none: it halves MobileNet's speed, and
# CPUs without such units are slower still. On CUDA, where tensor cores want both, every network gets both in training
# passes; everything else (validation, banks, attacks, surfaces) stays in float32, since tau = 0.5 doubles a logit's
# rounding. Not measured on a GPU yet: benchmarks/gpu.py does.
CHANNELS_LAST_ON_CPU = ("mobilenet_v2", "densenet121")

# The network's stride is 32: smaller images (MedMNIST's 28 px) would vanish before the last stage.
SMALLEST_SIDE = 32


class Classifier(nn.Module):
    """A torchvision network behind ImageNet normalisation, its last linear layer named `head`."""

    def __init__(self, backbone: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1), persistent=False)
        self.memory_format = torch.contiguous_format
        self.precision = torch.float32

    def prepared(self, images: Tensor) -> Tensor:
        """What the network itself sees of images [B, 1 or 3, H, W] in [0, 1]: normalised, framed, in its layout."""
        if images.shape[1] not in (1, 3):
            raise InputError(f"images have {images.shape[1]} channels; allowed are 1 (grey) and 3 (colour)")
        images = (images.expand(-1, 3, -1, -1) - self.mean) / self.std
        lacking = [max(0, SMALLEST_SIDE - side) for side in images.shape[-2:]]
        if any(lacking):
            down, right = lacking
            images = nn.functional.pad(images, (right // 2, right - right // 2, down // 2, down - down // 2))
        return images.contiguous(memory_format=self.memory_format)

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


class MaxPool(nn.MaxPool2d):
    """torch's, with the same bits, by way of channels-last on the CPU: five times faster, a ResNet-18 by an eighth.

    Only where no gradient is wanted: the backward pass would lose in other layers what this one wins.
    """

    def forward(self, images: Tensor) -> Tensor:
        """The largest of each window of images [B, channels, H, W], in their layout."""
        if torch.is_grad_enabled() or images.device.type != "cpu" or not images.is_contiguous():
            return super().forward(images)
        return super().forward(images.contiguous(memory_format=torch.channels_last)).contiguous()


def create(architecture: str, n_classes: int, *, seed: int, pretraining: str = "none") -> Classifier:
    """A network of the named architecture with C outputs, initialised from `seed` alone.

    `pretraining="imagenet"` downloads torchvision's weights once; raises InputError where that fails.
    """
    if architecture not in ARCHITECTURES:
        raise InputError(f"architecture '{architecture}' is unknown; allowed: {', '.join(ARCHITECTURES)}")
    import torchvision  # here, since it takes as long as torch itself: most notebooks look at results and make no network

    path = ARCHITECTURES[architecture]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = torchvision.models.get_model(architecture, weights=None, num_classes=n_classes)
    if pretraining not in ("none", "imagenet"):
        raise InputError(f"pretraining is {pretraining!r}; allowed: none, imagenet")
    if pretraining == "imagenet":
        _load_imagenet(backbone, architecture)
    head = backbone.get_submodule(path)
    parent, _, name = path.rpartition(".")
    setattr(backbone.get_submodule(parent), name, nn.Identity())
    if hasattr(backbone, "maxpool"):
        pool = backbone.maxpool
        backbone.maxpool = MaxPool(pool.kernel_size, pool.stride, pool.padding)
    return _laid_out(Classifier(backbone, head), architecture)


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
    own = backbone.state_dict()
    head = f"{ARCHITECTURES[architecture]}."
    own.update({name: value for name, value in published.state_dict().items() if not name.startswith(head)})
    backbone.load_state_dict(own)


def _laid_out(model: Classifier, architecture: str) -> Classifier:
    """Channels-last on the CPU where it pays."""
    return _channels_last(model) if architecture in CHANNELS_LAST_ON_CPU else model


def _channels_last(model: Classifier) -> Classifier:
    model.memory_format = torch.channels_last
    return model.to(memory_format=torch.channels_last)


def placed(model: Classifier, device: torch.device | str) -> Classifier:
    """The network on its device, in the layout and with the precision of training passes that pay there."""
    device = torch.device(device)
    model.precision = precision(device)
    model = model.to(device)
    return _channels_last(model) if device.type == "cuda" else model


def precision(device: torch.device) -> torch.dtype:
    """Of training passes on a device: bfloat16 on CUDA cards that have it (Ampere and later), else float32."""
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0):
        return torch.bfloat16
    return torch.float32
