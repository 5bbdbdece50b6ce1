"""Gaussian blur, separable, with a deviation of each picture's own.

The kernel ends at three deviations and sums to one, and edges are continued by their last pixel, as Pillow does.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

TRUNCATE = 3.0
"""Radius of the kernel in deviations; beyond it lie 0.3 % of a Gaussian."""

SMALL = 64
"""On a CPU, pictures of up to so many pixels a side are blurred by matrices, all at once."""


def radius(sigma: float) -> int:
    """Pixels on either side that a blur of this deviation reads (as in SciPy, rounded).

    Example:
        >>> radius(2.0), radius(0.1)
        (6, 0)
    """
    return int(TRUNCATE * sigma + 0.5)


def blur_(x: Tensor, sigma: Tensor, chosen: Tensor, most: float) -> Tensor:
    """Blur the chosen pictures in place; the others keep every bit.

    On a CPU only the chosen are worked on; elsewhere all are, by matrices, which asks the device for nothing.

    Args:
        x: (b, c, h, w) floating.
        sigma: (b,) deviations in pixels, above 0.
        chosen: (b,) bool.
        most: An upper bound of sigma, known without asking the device.

    Returns:
        ``x``.

    Example:
        >>> x = torch.zeros(1, 1, 5, 5)
        >>> x[0, 0, 2, 2] = 1.0
        >>> blur_(x, torch.tensor([0.5]), torch.tensor([True]), most=0.5)[0, 0, 2, 1:4]
        tensor([0.0837, 0.6187, 0.0837])
    """
    if x.device.type != "cpu":
        return x.copy_(torch.where(chosen[:, None, None, None], _by_matrices(x, sigma, most), x))
    rows = chosen.nonzero()[:, 0]
    if max(x.shape[2:]) <= SMALL:
        return x.index_copy_(0, rows, _by_matrices(x.index_select(0, rows), sigma[rows], most))
    for row, deviation in zip(rows.tolist(), sigma[rows].tolist(), strict=True):
        _one_(x[row], deviation)
    return x


def kernels(sigma: Tensor, most: float) -> Tensor:
    """One-dimensional kernels, (b, 2 radius(most) + 1), zero beyond their own radius, each summing to one."""
    offsets = torch.arange(-radius(most), radius(most) + 1, device=sigma.device)
    weights = torch.exp(-0.5 * (offsets / sigma[:, None]) ** 2)
    weights = weights * (offsets.abs() <= (TRUNCATE * sigma + 0.5).floor()[:, None])
    return weights / weights.sum(dim=1, keepdim=True)


def _by_matrices(x: Tensor, sigma: Tensor, most: float) -> Tensor:
    weights = kernels(sigma.to(x.dtype), most)
    count, channels, height, width = x.shape
    across = _matrices(weights, width)
    down = across if height == width else _matrices(weights, height)
    x = torch.bmm(x.view(count, channels * height, width), across.mT).view_as(x)
    return torch.matmul(down[:, None], x)


def _matrices(weights: Tensor, side: int) -> Tensor:
    """The kernels as matrices (b, side, side), which continue the edges."""
    reach = weights.shape[1] // 2
    pixels = torch.arange(side, device=weights.device)
    offsets = torch.arange(-reach, reach + 1, device=weights.device)
    source = (pixels[:, None] + offsets[:, None, None]).clamp(0, side - 1)  # (offset, row, 1)
    reads = (source == pixels).to(weights.dtype)
    return (weights @ reads.flatten(1)).view(-1, side, side)


def _one_(x: Tensor, sigma: float) -> None:
    """Blur one picture (c, h, w) in place: sums of shifted copies, which stay in the cache."""
    reach = radius(sigma)
    weights = [math.exp(-0.5 * (k / sigma) ** 2) for k in range(reach + 1)]
    total = weights[0] + 2 * sum(weights[1:])
    for side in (2, 1):
        length = x.shape[side]
        pad = (reach, reach, 0, 0) if side == 2 else (0, 0, reach, reach)
        wide = F.pad(x, pad, mode="replicate")
        torch.mul(x, weights[0] / total, out=x)
        for k in range(1, reach + 1):
            both = wide.narrow(side, reach - k, length) + wide.narrow(side, reach + k, length)
            x.add_(both, alpha=weights[k] / total)
