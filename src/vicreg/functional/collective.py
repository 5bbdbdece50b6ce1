"""Sums and gathers over processes that gradients pass through: a statistic of one global batch, whoever has its rows.

Every process forms the same value from them. In backward the processes' gradients are summed, so that each process
gets, for its own rows, that of the value times the number of processes: what averaging parameter gradients over them,
as DDP does, makes exact (``Batch.lift``). One process alone passes straight through, and can be differentiated again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import batch_norm

from vicreg.distributed import Batch
from vicreg.functional.terms import widened


def whole(x: Tensor) -> Batch:
    """The batch that these rows alone make up.

    Example:
        >>> whole(torch.ones(4, 2)).n
        4
    """
    return Batch((len(x),))


def summed(x: Tensor, batch: Batch) -> Tensor:
    """``x`` summed over the processes.

    Example:
        >>> summed(torch.ones(2), whole(torch.ones(4, 2)))
        tensor([1., 1.])
    """
    return x if batch.processes == 1 else _Summed.apply(x, batch)  # type: ignore[no-untyped-call]  # torch's


def gathered(x: Tensor, batch: Batch) -> Tensor:
    """The rows of all processes, (n, d), from this process's own, (own rows, d).

    Example:
        >>> gathered(torch.ones(4, 2), whole(torch.ones(4, 2))).shape
        torch.Size([4, 2])
    """
    return x if batch.processes == 1 else _Gathered.apply(x, batch)  # type: ignore[no-untyped-call]  # torch's


def centred(z: Tensor, batch: Batch) -> Tensor:
    """``z``, in float32 at least, less its mean over the batch.

    Twice, since one pass leaves that mean's rounding; the second time the mean is a constant, as by then it depends on
    ``z`` no more.

    Example:
        >>> z = torch.tensor([[1.0], [3.0]])
        >>> centred(z, whole(z)).flatten()
        tensor([-1.,  1.])
    """
    x = widened(z)
    x = x - summed(x.sum(dim=0), batch) / batch.n
    return x - batch.mean(x.detach())


def standardised(z: Tensor, eps: float, batch: Batch) -> Tensor:
    """``z``, in float32 at least, less its mean and over the root of its variance (with n) plus ``eps``: batch norm.

    Example:
        >>> z = torch.tensor([[1.0], [5.0]])
        >>> standardised(z, 1e-5, whole(z)).flatten()
        tensor([-1.0000,  1.0000])
    """
    if batch.processes == 1 and batch.n > 1:  # one kernel; it does not mind what constant has been subtracted before
        x = widened(z)
        return batch_norm(x - x.detach().mean(dim=0), None, None, training=True, eps=eps)
    x = centred(z, batch)
    return x / (summed(x.square().sum(dim=0), batch) / batch.n + eps).sqrt()


@contextmanager
def full_precision(z: Tensor) -> Iterator[None]:
    """Autocast does not reach inside."""
    kind = z.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        with torch.autocast(kind, enabled=False):
            yield
    else:
        yield


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, batch: Batch) -> Tensor:
        ctx.batch = batch
        return batch.sum_(x.clone(memory_format=torch.contiguous_format))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor, None]:
        return ctx.batch.sum_(incoming.clone(memory_format=torch.contiguous_format)), None


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, batch: Batch) -> Tensor:
        ctx.batch = batch
        return batch.gathered(x[None])[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor, None]:
        return ctx.batch.sum_(incoming.clone(memory_format=torch.contiguous_format))[ctx.batch.own], None
