"""How far embeddings are from an isotropic Gaussian, seen along random directions: SIGReg and VISReg.

A distribution is a Gaussian if its projection on every direction is one (Cramer and Wold), and a projection is one
column of numbers, whose distance to a Gaussian costs little. The directions are an argument: draw new ones for each
batch (:func:`directions`), the same ones on every process.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.distributed as dist
from torch import Generator, Tensor
from torch.nn.functional import normalize

from vicreg._checks import check_integer, check_number, require
from vicreg.distributed import Batch
from vicreg.functional.characteristic import gaussian_gap
from vicreg.functional.collective import centred, full_precision, gathered, summed, whole
from vicreg.functional.terms import check_embedding, widened

STD_EPS = 1e-6
"""Below this a column's deviation is no scale to divide by (VISReg's code)."""


def directions(z: Tensor, slices: int, batch: Batch | None = None, generator: Generator | None = None) -> Tensor:
    """Random directions, unit vectors that are uniform on the sphere: (d, slices).

    They are drawn anew at each call from PyTorch's global generator, of the GPU where ``z`` is on one and of the CPU
    elsewhere, or from a given one; those of the first process serve all.

    Args:
        z: (n, d) embeddings, which are to be projected.
        slices: How many, at least 1.
        batch: The global batch of which ``z`` has this process's rows.
        generator: On the CPU, or on the GPU of ``z``.

    Returns:
        Of the type in which statistics of ``z`` are computed, on its device.

    Example:
        >>> directions(torch.ones(4, 3), 8).norm(dim=0).round(decimals=4)
        tensor([1., 1., 1., 1., 1., 1., 1., 1.])
    """
    check_integer("slices", slices, 1)
    where = generator.device if generator else torch.device(z.device if z.is_cuda else "cpu")
    dtype = torch.float64 if z.dtype == torch.float64 else torch.float32
    drawn = torch.randn(z.shape[-1], slices, generator=generator, device=where, dtype=dtype).to(z.device)
    if batch is not None and batch.processes > 1:
        dist.broadcast(drawn, group=batch.group, group_src=0)
    return normalize(drawn, dim=0)


def epps_pulley(z: Tensor, along: Tensor, knots: int = 17, limit: float = 3.0, batch: Batch | None = None) -> Tensor:
    """Distance of the projections' characteristic functions from a standard Gaussian's: SIGReg.

    The mean over the directions of n int |f(t) - exp(-t^2/2)|^2 exp(-t^2/2) dt from -limit to limit, with
    f(t) = (1/n) sum_i exp(i t x_i) the empirical characteristic function of the projections x. The integrand is even,
    so half of it is evaluated, by the trapezoidal rule.

    It does not see a collapse from afar: its gradient vanishes where all rows are nearly the same.

    Source: Balestriero and LeCun, "LeJEPA", arXiv:2511.08544, section 4; knots and limit as in its authors' code
    (rbalestr-lab/lejepa, ``MINIMAL.md`` at 2f2d970). The test is Epps and Pulley's (Biometrika 70, 1983). Cost:
    O(n d K + n K T) for K directions and T knots, in n K memory; processes exchange 2 K T numbers.

    Args:
        z: (n, d) embeddings.
        along: (d, K) unit directions.
        knots: Points of the trapezoidal rule on [0, limit], at least 2.
        limit: Above 0.
        batch: The global batch of which these are this process's rows; by default they are the batch.

    Returns:
        A scalar of at least 0.

    Raises:
        TypeError: ``z`` is no floating tensor.
        ValueError: Shapes do not fit, or a setting is out of its range.

    Example:
        >>> x = torch.special.ndtri(torch.arange(1, 100)[:, None] / 100)
        >>> epps_pulley(x, torch.ones(1, 1)) < 0.1, epps_pulley(x + 1, torch.ones(1, 1)) > 30
        (tensor(True), tensor(True))
    """
    _check(z, along)
    check_integer("knots", knots, 2)
    check_number("limit", limit, 0, open_low=True)
    batch = batch or whole(z)
    with full_precision(z):
        return gaussian_gap(along.mT @ widened(z).mT, knots, limit, batch)


def scale(z: Tensor, batch: Batch | None = None) -> Tensor:
    """How far the columns' deviations are from 1: mean_j (1 - s_j)^2, with s_j^2 the variance over n (not n - 1).

    Source: "VISReg", arXiv:2606.02572. Cost: O(n d).

    Args:
        z: (n, d) embeddings.
        batch: The global batch of which these are this process's rows; by default they are the batch.

    Raises:
        TypeError: ``z`` is no floating tensor.
        ValueError: Its shape is not (n, d).

    Example:
        >>> round(scale(torch.tensor([[2.0], [-2.0]])).item(), 4)
        1.0
    """
    _check(z)
    batch = batch or whole(z)
    return (1 - _deviations(centred(z, batch), batch)).square().mean()


def shape(z: Tensor, along: Tensor, batch: Batch | None = None) -> Tensor:
    """Squared 2-Wasserstein distance of the standardised projections from a standard Gaussian, mean over directions.

    mean_k mean_i (x_(i)k - q_i)^2, with x_(i)k the sorted projections on direction k of the embeddings, each column
    less its mean and over its deviation, and q_i the Gaussian's quantile at i / (n + 1). No gradient passes through
    the deviations: scale is :func:`scale`'s matter.

    Source: "VISReg", arXiv:2606.02572; the quantiles as in its authors' code (HaiyuWu/visreg at 06f65b1). Cost:
    O(n d K + K n log n) for K directions; over W processes 1/W of it each, which takes gathering the embeddings.

    Args:
        z: (n, d) embeddings.
        along: (d, K) unit directions.
        batch: The global batch of which these are this process's rows; by default they are the batch.

    Raises:
        TypeError: ``z`` is no floating tensor.
        ValueError: Shapes do not fit.

    Example:
        >>> x = torch.special.ndtri(torch.arange(1, 100)[:, None] / 100)
        >>> shape(5 * x + 3, torch.ones(1, 1)) < 0.01
        tensor(True)
    """
    _check(z, along)
    batch = batch or whole(z)
    with full_precision(z):
        x = centred(z, batch)
        x = gathered(x / _deviations(x, batch).detach(), batch)
        slices = along.shape[1]
        begin, end = (slices * index // batch.processes for index in (batch.rank, batch.rank + 1))
        projected = along[:, begin:end].mT @ x.mT  # a direction's are side by side: faster to sort
        levels = torch.arange(1, batch.n + 1, device=x.device, dtype=x.dtype) / (batch.n + 1)
        quantiles = torch.special.ndtri(levels).expand_as(projected)
        wanted = torch.empty_like(projected).scatter_(1, _order(projected.detach()), quantiles)
        return summed((projected - wanted).square().sum(), batch) / (batch.n * slices)


def centre(z: Tensor, batch: Batch | None = None) -> Tensor:
    """How far the columns' means are from 0: mean_j of the mean's square.

    Source: "VISReg", arXiv:2606.02572; the mean over the columns as in its authors' code. Cost: O(n d).

    Args:
        z: (n, d) embeddings.
        batch: The global batch of which these are this process's rows; by default they are the batch.

    Raises:
        TypeError: ``z`` is no floating tensor.
        ValueError: Its shape is not (n, d).

    Example:
        >>> centre(torch.full((4, 3), 2.0)).item()
        4.0
    """
    _check(z)
    batch = batch or whole(z)
    return (summed(widened(z).sum(dim=0), batch) / batch.n).square().mean()


def _order(rows: Tensor) -> Tensor:
    """What sorts each row. NumPy does it many times faster on a CPU that has vector instructions for it."""
    if rows.device.type == "cpu":
        return torch.from_numpy(np.argsort(rows.numpy(), axis=1))
    return rows.argsort(dim=1)


def _deviations(x: Tensor, batch: Batch) -> Tensor:
    return (summed(x.square().sum(dim=0), batch) / batch.n + STD_EPS**2).sqrt()


def _check(z: Tensor, along: Tensor | None = None) -> None:
    check_embedding("z", z, least=0)
    require(z.ndim == 2, "z", "have shape (n, d)", tuple(z.shape), "Flatten or pool it.")
    if along is not None:
        fits = along.ndim == 2 and len(along) == z.shape[1] and along.shape[1] > 0
        require(fits, "along", f"have shape ({z.shape[1]}, slices)", tuple(along.shape))
