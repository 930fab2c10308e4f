"""The teacher-logit bank: each teacher's logits for every view, computed once and shared by all students."""

import torch
from torch import Tensor, nn

from rosutils import InputError
from rosutils.data.loader import send
from rosutils.training import predict


def view_logits(teacher: nn.Module, loader, epochs: int) -> Tensor:
    """One teacher's logits [E, N, C] for each epoch's view of the examples of `loader` (in its order), in eval mode."""
    views = []
    for epoch in range(epochs):
        loader.set_epoch(epoch)
        views.append(predict(teacher, loader)[0])
    return torch.stack(views)


class Bank:
    """Logits [K, E, N, C] of K teachers, looked up by epoch and example number.

    They stay on the host, where a lookup takes microseconds and can be checked without waiting for an accelerator.
    """

    def __init__(self, logits: Tensor, index: Tensor, *, by_turns: bool = False) -> None:
        """`index` [N] holds the example numbers of the third axis of `logits`; `by_turns`: its views come round (see View)."""
        if logits.shape[2] != len(index):
            given = f"{len(index)} example numbers were given"
            raise InputError(f"the bank holds logits of {logits.shape[2]} examples, but {given}")
        self.logits, self.by_turns = logits, by_turns
        self._position = torch.full((int(index.max()) + 1,), -1)
        self._position[index] = torch.arange(len(index))

    def __call__(self, batch) -> Tensor:
        """The teachers' logits [K, B, C] for exactly the views in `batch`; raises InputError for others."""
        known = self._position[batch.index.clamp(max=len(self._position) - 1)]
        outside = (batch.index >= len(self._position)) | (known < 0)
        epoch = batch.epoch % self.logits.shape[1] if self.by_turns else batch.epoch
        if outside.any() or epoch >= self.logits.shape[1]:
            raise InputError(
                f"the bank has no logits for epoch {batch.epoch + 1}, example {batch.index[outside].tolist()[:3]}: it holds "
                f"{self.logits.shape[1]} epochs of {self.logits.shape[2]} examples"
            )
        return send(self.logits[:, epoch, known], batch.images.device)
