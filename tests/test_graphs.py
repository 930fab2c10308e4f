"""CUDA graphs: on a GPU the passes of a recorded network are those of the plain one; elsewhere nothing is recorded."""

import pytest
import torch

from rosutils import distill, graphs, models, training
from rosutils.data import Batch


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
    model = models.placed(models.create(architecture, 4, seed=1), device, models.precision(torch.device(device)))
    how = {"epochs": epochs, "learning_rate": 0.01, "progress": False}
    with graphs.recorded(model, (16, 3, 40, 40), steps):
        rows = training.fit(model, loader, distill.supervised_loss, **how)
    return [row["loss"] for row in rows], training.predict(model, loader)[0]


def test_off_a_gpu_nothing_is_recorded():
    model = models.create("resnet18", 4, seed=0)
    with graphs.recorded(model, (16, 3, 40, 40), graphs.LEAST):
        assert "forward" not in model.backbone.__dict__
    losses, logits = trained("cpu", graphs.LEAST)
    plain = trained("cpu", 0)
    assert losses == plain[0] and logits.equal(plain[1])


gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@gpu
@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_recorded_passes_give_the_losses_and_logits_of_plain_ones(architecture):
    """On an H100 the bits were the same for all five."""
    (losses, logits), (expected, wanted) = (trained("cuda", steps, architecture) for steps in (graphs.LEAST, 0))
    assert losses == pytest.approx(expected, rel=1e-3)
    torch.testing.assert_close(logits, wanted, rtol=0.01, atol=0.01)


@gpu
def test_no_memory_stays_with_a_recording_that_is_over():
    held = []
    for _ in range(4):
        trained("cuda", graphs.LEAST, epochs=1)
        held.append(torch.cuda.memory_reserved())
    assert max(held[1:]) <= 1.1 * held[0]
