"""The training loop: the SGD step, the schedule, resuming, predicting."""

import copy
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from rosutils import distill, training
from rosutils.augment import View
from rosutils.averaging import update_average
from rosutils.data import Batch, Loader
from rosutils.losses import task_loss
from rosutils.models import create
from rosutils.training import BestModel, fit, predict
from rosutils.weights import ReinforcedSelector, uniform_weights


class Batches:
    """24 images in batches of 8; the order of an epoch depends on the epoch alone."""

    def __init__(self, n=24, size=8, *, pixels=8, shuffled=True):
        generator = torch.Generator().manual_seed(0)
        self.images = torch.rand(n, 3, pixels, pixels, generator=generator)
        self.labels = torch.randint(4, (n,), generator=generator)
        self.size, self.shuffled, self.epoch, self.epochs_set = size, shuffled, 0, []

    def set_epoch(self, epoch):
        self.epoch = epoch
        self.epochs_set.append(epoch)

    def __iter__(self):
        order = torch.arange(len(self.images))
        if self.shuffled:
            order = torch.randperm(len(order), generator=torch.Generator().manual_seed(self.epoch))
        for index in order.split(self.size):
            yield Batch(self.images[index], self.labels[index], index, self.epoch)


def network(seed=0):
    """Convolution, BatchNorm, dropout and a linear layer: all the state that training has."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(4 * 36, 4)
        )


def loss_fn(model, batch):
    return task_loss(model(batch.images), batch.labels).mean()


def trained(model=None, loader=None, loss=loss_fn, **options):
    model = model or network()
    options = {"epochs": 3, "learning_rate": 0.05, "progress": False} | options
    return model, fit(model, loader or Batches(), loss, **options)


def same_state(one, other):
    other = other.state_dict()
    return all(torch.equal(value, other[name]) for name, value in one.state_dict().items())


class Scalar(nn.Module):
    """One parameter, so that a step can be taken by hand."""

    def __init__(self, value):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(value, dtype=torch.float64))


# Eq. 2 and the schedule


def test_eq2_is_the_step_of_sgd_with_momentum_and_weight_decay_by_hand():
    model = Scalar(2.0)
    fit(
        model, Batches(), lambda m, batch: 3 * m.w**2, epochs=2, learning_rate=0.01, milestones=[1], momentum=0.9,
        weight_decay=0.02, progress=False,
    )  # fmt: skip
    w, velocity = 2.0, 0.0
    for rate in [0.01] * 3 + [0.001] * 3:  # three batches in each epoch
        gradient = 6 * w + 0.02 * w
        velocity = 0.9 * velocity + gradient
        w = w - rate * velocity
    assert model.w.item() == pytest.approx(w, rel=1e-13)


def test_the_rate_falls_by_ten_after_epochs_25_and_40():
    _, history = trained(Scalar(1.0), loss=lambda m, batch: m.w, epochs=50, learning_rate=0.1, milestones=[25, 40])
    rates = [row["learning_rate"] for row in history]
    assert rates == pytest.approx([0.1] * 25 + [0.01] * 15 + [0.001] * 10)


def test_the_rate_told_is_the_rate_applied_and_that_of_torchs_scheduler():
    model, trace = Scalar(0.0), []
    _, history = trained(
        model, Batches(8), lambda m, batch: m.w, epochs=6, learning_rate=0.5, milestones=[2, 4], decay=0.2, momentum=0,
        weight_decay=0, after_epoch=lambda m, epoch: trace.append(m.w.item()),
    )  # fmt: skip
    theirs = torch.optim.SGD(Scalar(0.0).parameters(), lr=0.5)
    schedule, expected = torch.optim.lr_scheduler.MultiStepLR(theirs, [2, 4], gamma=0.2), []
    for _ in range(6):
        expected.append(theirs.param_groups[0]["lr"])
        theirs.step()
        schedule.step()
    assert [row["learning_rate"] for row in history] == pytest.approx(expected, rel=1e-12)
    assert trace == pytest.approx(-np.cumsum(expected), rel=1e-12)  # one batch an epoch, the gradient is 1


def test_the_history_has_a_row_for_each_epoch_with_the_mean_loss_and_the_columns_of_after_epoch():
    losses, loader = [], Batches()

    def recording(model, batch):
        assert model.training  # in every epoch, although after_epoch evaluates
        losses.append(loss_fn(model, batch))
        return losses[-1]

    def after_epoch(model, epoch):
        model.eval()
        return {"validation_f1": epoch / 10} if epoch else None

    _, history = trained(network().eval(), loader, recording, after_epoch=after_epoch)
    assert [row["epoch"] for row in history] == [1, 2, 3] and loader.epochs_set == [0, 1, 2]
    expected = torch.stack(losses).view(3, 3).mean(1).tolist()
    assert [row["loss"] for row in history] == pytest.approx(expected, rel=1e-5)
    assert [row.get("validation_f1") for row in history] == [None, 0.1, 0.2]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_loss_that_is_not_finite_stops_training_and_says_what_to_do(value, tmp_path):
    def breaks(model, batch):
        return loss_fn(model, batch) * (value if batch.epoch == 1 and 0 in batch.index else 1)

    path = tmp_path / "run.safetensors"
    with pytest.raises(FloatingPointError, match=r"in epoch 2, at learning rate 0.05"):
        trained(loss=breaks, checkpoint=path)
    kept = network()
    assert [row["epoch"] for row in fit(kept, Batches(), loss_fn, epochs=1, learning_rate=0.05, checkpoint=path)] == [1]
    assert all(parameter.isfinite().all() for parameter in kept.parameters())  # the broken epoch was not kept


# Randomness


def test_the_same_seed_gives_the_same_bits_and_another_other_dropout():
    one, first = trained(seed=1)
    torch.manual_seed(1234)
    again, second = trained(seed=1)
    other, _ = trained(seed=2)
    assert same_state(one, again) and first == second
    assert not same_state(one, other)


def test_dropout_is_drawn_anew_in_each_batch_and_each_epoch_and_the_global_generator_is_given_back():
    seen, before = [], torch.get_rng_state()

    def masks(model, batch):
        seen.append(nn.functional.dropout(torch.ones(64), 0.5))
        return loss_fn(model, batch)

    trained(loss=masks)
    assert len({tuple(mask.tolist()) for mask in seen}) == 9
    assert torch.equal(before, torch.get_rng_state())
    with pytest.raises(ZeroDivisionError):
        trained(loss=lambda m, batch: loss_fn(m, batch) / (1 // 0))
    assert torch.equal(before, torch.get_rng_state())


# Checkpoints


def averaging(average):
    return lambda model, epoch: update_average(average, model, epoch) or {"note": epoch * 0.1}


def test_a_checkpoint_is_left_out_where_the_last_is_young(tmp_path, monkeypatch):
    # the start, the ends of epochs, the time of a checkpoint
    clock, saved = iter([0.0, 1.0, 3.0, 3.5, 4.0, 6.0, 6.5]), []
    monkeypatch.setattr(training, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(training, "_save", lambda path, modules, optimizer, history: saved.append(len(history)))
    trained(checkpoint=tmp_path / "run.safetensors", checkpoint_seconds=2.0, epochs=4)
    assert saved == [2, 4]


def tensors(path):
    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}


def resumable(path, loss=loss_fn, *, epochs=4, make=network, loader=None):
    """A training with everything that has a state: momentum, BatchNorm, dropout and an average beside the model."""
    model, average = make(), make(9)
    history = fit(
        model, loader or Batches(), loss, epochs=epochs, learning_rate=0.05, milestones=[1, 3], seed=3, checkpoint=path,
        stateful={"average": average}, after_epoch=averaging(average), progress=False,
    )  # fmt: skip
    return model, average, history


def interrupt_in(epoch):
    """A loss that is interrupted in the middle of an epoch, as by Ctrl-C."""
    steps = iter(range(100))

    def loss(model, batch):
        if batch.epoch == epoch and next(steps) == 1:
            raise KeyboardInterrupt
        return loss_fn(model, batch)

    return loss


@pytest.mark.parametrize("epoch", range(4))
def test_a_run_interrupted_in_any_epoch_ends_bit_identical_to_an_unbroken_one(epoch, tmp_path):
    unbroken, average, history = resumable(tmp_path / "unbroken.safetensors")
    path = tmp_path / "broken.safetensors"
    with pytest.raises(KeyboardInterrupt):
        resumable(path, interrupt_in(epoch))
    assert path.is_file() == (epoch > 0)
    loader = Batches()
    resumed, resumed_average, rows = resumable(path, loader=loader)
    assert loader.epochs_set == list(range(epoch, 4))  # finished epochs are not repeated
    assert rows == history
    assert same_state(unbroken, resumed) and same_state(average, resumed_average)
    expected, found = tensors(tmp_path / "unbroken.safetensors"), tensors(path)
    assert any(key.startswith("optimizer/") for key in expected)
    assert set(expected) == set(found)
    assert all(torch.equal(value, found[key]) for key, value in expected.items())  # momentum as well
    again, _, rows = resumable(path, lambda model, batch: 1 / 0)  # a finished run is not trained again
    assert rows == history and same_state(unbroken, again)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_real_network_in_either_memory_layout_resumes_with_the_same_bits(layout, tmp_path):
    def make(seed=0):
        model = create("mobilenet_v2", 4, seed=seed).to(memory_format=layout)
        model.memory_format = layout
        return model

    options = {"epochs": 2, "make": make, "loader": Batches(8, 4, pixels=32)}
    unbroken, average, history = resumable(None, **options)
    path = tmp_path / "run.safetensors"
    with pytest.raises(KeyboardInterrupt):
        resumable(path, interrupt_in(1), **options)
    resumed, resumed_average, rows = resumable(path, **options)
    assert rows == history and same_state(unbroken, resumed) and same_state(average, resumed_average)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_resuming_works_with_and_without_momentum_and_frozen_parameters_stay(momentum, tmp_path):
    def run(**options):
        model = network()
        model[0].requires_grad_(False)
        return trained(model, momentum=momentum, **options)[0]

    whole, path = run(), tmp_path / "deeper" / "run.safetensors"
    run(checkpoint=path, epochs=1)
    assert same_state(whole, run(checkpoint=path))
    assert torch.equal(whole[0].weight, network()[0].weight)


def test_the_checkpoint_is_safetensors_with_the_history_in_it_and_momentum_by_the_parameters_of_the_model(tmp_path):
    path = tmp_path / "run.safetensors"
    model, average, history = resumable(path)
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["history"]) == history
    kept = tensors(path)
    for name, module in (("model", model), ("average", average)):
        for key, value in module.state_dict().items():
            assert torch.equal(kept[f"{name}/{key}"], value) and kept[f"{name}/{key}"].dtype == value.dtype
    shapes = {f"optimizer/{number}": p.shape for number, p in enumerate(model.parameters())}
    assert {key: value.shape for key, value in kept.items() if key.startswith("optimizer/")} == shapes
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.safetensors"]


def test_a_crash_while_the_checkpoint_is_written_leaves_the_one_before(tmp_path, monkeypatch):
    path = tmp_path / "run.safetensors"
    resumable(path, epochs=2)
    before = path.read_bytes()

    def crash(tensors, filename, metadata=None):
        filename.write_bytes(b"half a file")
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(training, "save_file", crash)
        with pytest.raises(OSError, match="disk full"):
            resumable(path)
    assert path.read_bytes() == before
    assert same_state(resumable(None)[0], resumable(path)[0])


# Predicting


def test_predict_is_in_eval_mode_and_leaves_model_and_generator_as_they_were():
    model, _ = trained(epochs=1)
    model[1].eval()  # a BatchNorm that its owner froze stays frozen
    before, drawn, loader = copy.deepcopy(model.state_dict()), torch.get_rng_state(), Batches(shuffled=False)
    logits, labels = predict(model, loader)
    with pytest.raises(RuntimeError):
        predict(model, [Batch(torch.ones(1, 3), torch.ones(1), torch.arange(1), 0)])
    assert [module.training for module in model] == [True, False, True, True, True, True] and model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(drawn, torch.get_rng_state())
    expected = copy.deepcopy(model).eval()(loader.images).detach()
    assert torch.allclose(logits, expected, atol=1e-5) and not logits.requires_grad
    assert torch.equal(labels, loader.labels)


def test_predict_keeps_the_order_of_the_loader_and_the_last_smaller_batch():
    model, loader = network(), Batches(21)
    logits, labels = predict(model, loader)
    order = torch.cat([batch.index for batch in loader])
    assert not torch.equal(order, torch.arange(21)) and torch.equal(labels, loader.labels[order])
    assert torch.allclose(logits, model.eval()(loader.images[order]).detach(), atol=1e-5)


# The best epoch


def test_the_best_model_keeps_a_copy_of_the_weights_of_the_best_score_and_of_the_first_of_equals():
    models = [network(seed) for seed in range(4)]
    best = BestModel(network(9))
    for model, score in zip(models, [0.3, 0.5, 0.5, 0.4], strict=True):
        best.offer(model, score)
    nn.init.zeros_(models[1][0].weight)
    assert same_state(best.model, network(1)) and best.score.item() == 0.5


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "foreign", "other names", "history"])
def test_a_damaged_checkpoint_is_told_and_the_run_begins_anew_with_the_same_bits(tmp_path, caplog, damage):
    """One flipped bit of a weight is another run: 96 % of them gave other numbers, which were then checksummed as good."""
    path = tmp_path / "run.safetensors"
    unbroken, *_ = resumable(None)
    resumable(path, epochs=2)
    whole, start = path.read_bytes(), 8 + int.from_bytes(path.read_bytes()[:8], "little")
    damaged = {"cut": whole[: len(whole) // 2], "empty": b"", "foreign": b"\0" * 7}
    damaged["other names"] = whole.replace(b'"model/0.weight"', b'"model/9.weight"')
    damaged["history"] = whole.replace(b'\\"epoch\\": 1', b'\\"epoch\\": 3')
    flips = [bytes([*whole[:n], whole[n] ^ 1, *whole[n + 1 :]]) for n in range(start, len(whole), len(whole) // 12)]
    for content in flips if damage == "flip" else [damaged[damage]]:
        assert content != whole
        path.write_bytes(content)
        caplog.clear()
        resumed, *_ = resumable(path)
        assert same_state(unbroken, resumed) and "run.safetensors is damaged" in caplog.text


def test_a_checkpoint_without_a_checksum_or_a_tensor_is_begun_anew(tmp_path, caplog):
    path = tmp_path / "run.safetensors"
    unbroken, *_ = resumable(None)
    *_, history = resumable(path, epochs=2)
    whole, told = tensors(path), json.dumps(history)
    save_file(whole, path, metadata={"history": told})
    resumed, *_ = resumable(path)
    assert same_state(unbroken, resumed) and "its checksum differs" in caplog.text
    lacking = {name: value for name, value in whole.items() if name != "model/0.weight"}
    save_file(lacking, path, metadata={"history": told, "sha256": training._sha256(lacking, told)})
    resumed, *_ = resumable(path)
    assert same_state(unbroken, resumed) and "it lacks model/0.weight" in caplog.text


# The optimiser step


def layouts():
    """Tensors that fill their cache lines and others that do not, in both memory layouts."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = nn.Sequential(
            nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.Conv2d(32, 5, 3), nn.Flatten(), nn.Linear(80, 7)
        )
    return [plain, copy.deepcopy(plain).to(memory_format=torch.channels_last)]


@pytest.mark.parametrize("momentum, weight_decay", [(0.9, 2e-4), (0.9, 0.0), (0.0, 2e-4)])
def test_the_fused_step_has_the_bits_of_torchs_plain_one(momentum, weight_decay):
    for ours in layouts():
        theirs = copy.deepcopy(ours)
        options = {"momentum": momentum, "weight_decay": weight_decay}
        steps = [
            training.sgd(ours, learning_rate=0.1, **options),
            torch.optim.SGD(theirs.parameters(), lr=0.1, **options),
        ]
        assert {group["fused"] for group in steps[0].param_groups} == {True, False}
        for seed in range(6):
            generator = torch.Generator().manual_seed(seed)
            for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
                gradient = torch.randn(one.shape, generator=generator) * 10 ** (seed - 3)
                one.grad, other.grad = (torch.empty_like(p).copy_(gradient) for p in (one.detach(), other.detach()))
            for optimizer in steps:
                optimizer.step()
        assert same_state(ours, theirs)


# Nothing waits for an accelerator: on the meta device a tensor has no values that could be read


def test_an_epoch_reads_the_device_once(small_task, bank_and_teachers, make_net, monkeypatch):
    bank, _, _ = bank_and_teachers
    view, train = View(seed=1, pad=1, flips=("horizontal",)), small_task.split["train"]
    loader = Loader(small_task, train, batch_size=16, shuffle_seed=9, view=view, device="meta")
    read = []
    monkeypatch.setattr(torch.Tensor, "item", lambda tensor: read.append(tensor.device.type) or 0.5)
    options = {"temperature": 0.5, "alpha": 0.9, "multilabel": small_task.multilabel}
    selector = ReinforcedSelector(54, 4).to("meta")
    losses = [
        distill.supervised_loss,
        distill.DistillationLoss(bank, distill.ExponentialWeights(3, seed=0), **options),
        distill.DistillationLoss(bank, distill.fixed(uniform_weights(3)), **options),
        distill.ReinforcedLoss(bank, selector, seed=0, **options),
    ]
    for loss in losses:
        read.clear()
        fit(make_net(4, seed=0, dropout=0.5).to("meta"), loader, loss, epochs=2, learning_rate=0.1, progress=False)
        assert read == ["meta", "meta"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_no_step_waits(small_task, make_net):
    class Watched(Loader):
        def __iter__(self):
            torch.cuda.set_sync_debug_mode("error")
            yield from super().__iter__()
            torch.cuda.set_sync_debug_mode("default")

    view = View(seed=1, pad=1, flips=("horizontal",))
    loader = Watched(small_task, small_task.split["train"], batch_size=16, shuffle_seed=9, view=view, device="cuda")
    model = make_net(4, seed=0, dropout=0.5).cuda()
    history = fit(model, loader, distill.supervised_loss, epochs=3, learning_rate=0.1, progress=False)
    assert len(history) == 3
