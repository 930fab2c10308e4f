"""The one training loop: SGD with step decay (Eq. 2, Section IV-B), epoch checkpoints, and prediction."""

import copy
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from rosutils import modes_kept


logger = logging.getLogger(__name__)


def fit(
    model: nn.Module, loader, loss_fn: Callable, *, epochs: int, learning_rate: float, milestones: Sequence[int] = (),
    decay: float = 0.1, momentum: float = 0.9, weight_decay: float = 2e-4, seed: int = 0, checkpoint: Path | None = None,
    checkpoint_seconds: float = 0.0, stateful: Mapping[str, nn.Module] | None = None, after_epoch: Callable | None = None,
    progress: bool = True,
) -> list[dict]:  # fmt: skip
    """Train `model` in place for E epochs and return its history, one row per epoch (Section IV-B, Eq. 2).

    `loss_fn(model, batch)` returns a scalar; `loader.set_epoch(epoch)` (from 0) fixes an epoch's order and views. The
    learning rate falls by `decay` after each of the `milestones` (in finished epochs). `after_epoch(model, epoch)` may return
    columns for the history. With a `checkpoint` path the state of `model`, the optimiser and every module in `stateful`
    is kept after each epoch that ends `checkpoint_seconds` or more after the last was kept, and training resumes from it
    with the same bits; from a damaged one it does not, and begins anew with a warning. Raises FloatingPointError where the
    loss is not finite.
    """
    optimizer = sgd(model, learning_rate=learning_rate, momentum=momentum, weight_decay=weight_decay)
    modules = {"model": model, **(stateful or {})}
    history, kept = _resume(checkpoint, modules, optimizer), time.monotonic()
    bar = tqdm(total=epochs, initial=len(history), unit="epoch", disable=not progress, leave=False)
    for epoch in range(len(history), epochs):
        rate = learning_rate * decay ** sum(epoch >= milestone for milestone in milestones)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loader.set_epoch(epoch)
        loss = _train_epoch(model, loader, loss_fn, optimizer, seed=seed * 100_003 + epoch)
        if not torch.isfinite(torch.tensor(loss)):
            raise FloatingPointError(f"the loss is {loss} in epoch {epoch + 1}, at learning rate {rate:g}")
        columns = after_epoch(model, epoch) if after_epoch else None
        history.append({"epoch": epoch + 1, "learning_rate": rate, "loss": loss, **(columns or {})})
        if checkpoint is not None and time.monotonic() - kept >= checkpoint_seconds:
            _save(checkpoint, modules, optimizer, history)
            kept = time.monotonic()
        bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        bar.update()
    bar.close()
    return history


def sgd(model: nn.Module, *, learning_rate: float, momentum: float, weight_decay: float) -> torch.optim.SGD:
    """Eq. 2 for all parameters, in one pass over memory where that gives the bits of torch's plain SGD.

    At batch 32 and 32 px a plain step takes a fifth of a ResNet-18's time on the CPU, a fused one a third of that. On the
    CPU torch's fused kernel rounds the last elements otherwise where a tensor does not fill its cache lines.
    """
    fused, plain = [], []
    for parameter in model.parameters():
        whole = parameter.dtype == torch.float32 and parameter.numel() % 16 == 0
        fits = parameter.device.type == "cuda" or (parameter.device.type == "cpu" and whole)
        (fused if fits else plain).append(parameter)
    groups = [{"params": params, "fused": params is fused} for params in (fused, plain) if params]
    return torch.optim.SGD(groups, lr=learning_rate, momentum=momentum, weight_decay=weight_decay)


def _train_epoch(model: nn.Module, loader, loss_fn: Callable, optimizer: torch.optim.Optimizer, *, seed: int) -> float:
    """One pass; the mean loss, read once. Dropout draws from the global generator, so it is seeded here and given back."""
    model.train()
    losses = []
    with torch.random.fork_rng({p.device.index for p in model.parameters() if p.is_cuda}):
        torch.manual_seed(seed)
        for batch in loader:
            loss = loss_fn(model, batch)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
    return torch.stack(losses).mean().item()


@torch.inference_mode()
def predict(model: nn.Module, loader: Iterable) -> tuple[Tensor, Tensor]:
    """Logits [N, C] and labels of every example of `loader`, on the CPU; eval mode, the model's mode is restored.

    Raises FloatingPointError for logits that are not finite.
    """
    # without TF32: float32 is to mean float32 on a GPU as well
    with modes_kept(model), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        model.eval()
        pairs = [(model(batch.images), batch.labels) for batch in loader]
    logits, labels = (torch.cat(values).cpu() for values in zip(*pairs, strict=True))
    if not logits.isfinite().all():
        raise FloatingPointError("the network's logits are not finite")
    return logits, labels


class BestModel(nn.Module):
    """The weights of the epoch with the best validation score so far (an option; the default reports the last epoch)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        self.register_buffer("score", torch.tensor(-torch.inf))

    def offer(self, model: nn.Module, score: float) -> None:
        """Keep the weights of `model` where its validation `score` is above the best before it."""
        if score > self.score:
            self.model.load_state_dict(model.state_dict())
            self.score.fill_(score)


def _save(path: Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer, history: list[dict]) -> None:
    tensors = _state(modules)
    for index, parameter in enumerate(modules["model"].parameters()):
        if (buffer := optimizer.state.get(parameter, {}).get("momentum_buffer")) is not None:
            tensors[f"optimizer/{index}"] = buffer
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    told = json.dumps(history)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={"history": told, "sha256": _sha256(tensors, told)})
    with partial.open("rb") as written:
        os.fsync(written.fileno())
    os.replace(partial, path)


def _resume(path: Path | None, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer) -> list[dict]:
    """The history in a checkpoint, with the state of modules and optimiser set to it; [], and nothing set, without a good one."""
    if path is None or not path.is_file():
        return []
    try:
        tensors, history = _read(path, modules)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        logger.warning("the checkpoint %s is damaged (%s): the run begins anew", path, error)
        return []
    for name, module in modules.items():
        module.load_state_dict({key: tensors[f"{name}/{key}"] for key in module.state_dict()})
    for index, parameter in enumerate(modules["model"].parameters()):
        if (buffer := tensors.get(f"optimizer/{index}")) is not None:  # a fused step needs the parameter's own layout
            optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter.detach()).copy_(buffer)
    return history


def _read(path: Path, modules: Mapping[str, nn.Module]) -> tuple[dict[str, Tensor], list[dict]]:
    """Tensors and history of a checkpoint; raises one of several errors where it is not what was written, or of other modules."""
    with safe_open(path, framework="pt") as file:
        told, tensors = file.metadata() or {}, {key: file.get_tensor(key) for key in file.keys()}
    if told.keys() != {"history", "sha256"} or told["sha256"] != _sha256(tensors, told["history"]):
        raise ValueError("its checksum differs")
    state = _state(modules)
    expected = state | {f"optimizer/{number}": value for number, value in enumerate(modules["model"].parameters())}
    if any(
        (expected[name].shape, expected[name].dtype) != (value.shape, value.dtype) for name, value in tensors.items()
    ):
        raise ValueError("it holds tensors of other shapes")
    if lacking := [name for name in state if name not in tensors]:
        raise ValueError(f"it lacks {lacking[0]}")
    return tensors, json.loads(told["history"])


def _state(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    return {f"{name}/{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}


def _sha256(tensors: Mapping[str, Tensor], history: str) -> str:
    sha = hashlib.sha256(history.encode())
    for name, value in sorted(tensors.items()):
        sha.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        sha.update(value.reshape(-1).view(torch.uint8).numpy())
    return sha.hexdigest()
