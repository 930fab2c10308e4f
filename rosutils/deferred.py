"""A run on several CPU threads with the bits of one: weight gradients of convolutions are computed beside the rest."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.overrides import TorchFunctionMode


Work = Callable[[], Tensor]


@contextmanager
def weight_gradients(threads: int) -> Iterator[None]:
    """While it lasts, `threads` - 1 helpers compute the weight gradients of convolutions on the CPU.

    Nothing in a backward pass waits for them: they are in `.grad` once an optimiser takes its step, and not before. Given
    several threads of its own, torch splits the sums of a weight gradient and of BatchNorm among them, and the last bits
    depend on their number; here every sum stays on one thread, so they do not. An error of a helper is raised in the step.
    """
    if threads == 1:
        yield
        return
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads - 1, "weight gradients", initializer=torch.set_num_threads, initargs=(1,))
    mode = _Deferring(pool)
    hook = register_optimizer_step_pre_hook(mode.collect)
    torch.set_num_threads(1)
    try:
        with mode:
            yield
    finally:
        hook.remove()
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


class _Deferring(TorchFunctionMode):
    """Puts convolutions that are trained on the CPU in place of torch's."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        super().__init__()
        self.pool = pool
        self.pending: list[tuple[Tensor, Future]] = []

    def __torch_function__(self, function, types, args=(), kwargs=None) -> Any:
        if function is F.conv2d and torch.is_grad_enabled():
            return self._convolution(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))

    def _convolution(self, input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1) -> Tensor:
        options = (stride, padding, dilation, groups)
        trained = weight.is_leaf and weight.requires_grad and weight.device.type == "cpu"
        if not trained or bias is not None or isinstance(padding, str):
            return F.conv2d(input, weight, bias, *options)
        return _Convolution.apply(input, weight, options, self._defer)

    def _defer(self, weight: Tensor, work: Work) -> None:
        self.pending.append((weight, self.pool.submit(work)))

    def collect(self, *step: Any) -> None:
        """Wait for what is pending and put it where autograd would have."""
        pending, self.pending = self.pending, []
        for weight, gradient in pending:
            found = gradient.result()
            weight.grad = found if weight.grad is None else weight.grad + found


class _Convolution(torch.autograd.Function):
    """conv2d without a bias, whose backward pass leaves the weight's part to `defer`."""

    @staticmethod
    def forward(ctx, images: Tensor, weight: Tensor, options: tuple, defer: Callable[[Tensor, Work], None]) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.options, ctx.defer = options, defer
        return F.conv2d(images, weight, None, *options)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple:
        images, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.options
        pair = [
            tuple(value) if isinstance(value, (tuple, list)) else (value, value)
            for value in (stride, padding, dilation)
        ]

        def part(*wanted: bool) -> tuple:
            return torch.ops.aten.convolution_backward(
                gradient, images, weight, None, *pair, False, (0, 0), groups, [*wanted, False]
            )

        ctx.defer(weight, lambda: part(False, True)[1])
        return (part(True, False)[0] if ctx.needs_input_grad[0] else None), None, None, None
