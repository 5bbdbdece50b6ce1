"""The contrastive loss of SimCLR."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy, normalize

from vicreg._checks import check_number, require
from vicreg.distributed import Batch
from vicreg.functional.collective import full_precision, gathered, summed, whole
from vicreg.functional.terms import check_embedding, widened


class _Fused(torch.autograd.Function):
    """Of the unit rows of both views, one view below the other, with the gradient formed in one go.

    E = exp((Z Z^T - 1) / temperature) without its diagonal is symmetric, since what is subtracted for range is the same
    in every row; so with s its rows' sums the gradient of sum_i log s_i is (E o (1/s_i + 1/s_j)) Z / temperature: one
    product, where a tape would take two, and no other n x n matrix than E.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, temperature: float) -> Tensor:
        n = len(z)
        parts = range(0, n, ROWS)
        kernel = z.new_empty(n, n)
        sums = z.new_empty(n, 1)
        highest = z.new_full((1, 1), -1 / temperature)
        for begin in parts:
            rows = kernel[begin : begin + ROWS]
            torch.addmm(highest, z[begin : begin + ROWS], z.mT, alpha=1 / temperature, out=rows).exp_()
            rows.diagonal(begin).zero_()
            torch.sum(rows, dim=1, keepdim=True, out=sums[begin : begin + ROWS])
        others = z.roll(n // 2, dims=0)
        if ctx.needs_input_grad[0]:
            gradient = torch.empty_like(z)
            inverse = 1 / sums
            for begin in parts:
                rows = kernel[begin : begin + ROWS]
                rows.mul_(inverse[begin : begin + ROWS] + inverse.mT)
                torch.mm(rows, z, out=gradient[begin : begin + ROWS])
            gradient.sub_(others, alpha=2)
            ctx.save_for_backward(gradient.mul_(1 / (n * temperature)))
        positive = torch.linalg.vecdot(z, others).sum()
        value: Tensor = (sums.log().sum() - positive / temperature) / n + 1 / temperature
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * incoming, None


LOWEST_TEMPERATURE = 0.03
"""From here on exp((cosine - 1) / temperature) is far from what float32 cannot hold, whatever the cosine."""

ROWS = 256
"""Rows of the n x n matrix that are worked on at one time, so that they stay near the processor."""


def nt_xent(z_a: Tensor, z_b: Tensor, temperature: float = 0.1, batch: Batch | None = None) -> Tensor:
    """Normalised temperature-scaled cross entropy: which of all other embeddings is that of the same sample?

    Mean over the 2n embeddings of -log( exp(s(i, i+) / temperature) / sum_{k != i} exp(s(i, k) / temperature) ), with
    s the cosine and i+ the same sample's embedding of the other view.

    Source: Chen et al., "SimCLR", ICML 2020, arXiv:2002.05709, equation 1. Cost: O(n^2 d), and n^2 memory; over W
    processes 1/W of it each.

    Args:
        z_a: (n, d) embeddings of one view.
        z_b: (n, d) of the other.
        temperature: Above 0. The paper's best on ImageNet is .1 (table 5), and .5 on CIFAR-10 (appendix B.9).
        batch: The global batch of which these are this process's rows; by default they are the batch.

    Returns:
        A scalar of at least 0; log(2n - 1) where all embeddings are the same.

    Raises:
        TypeError: A view is no floating tensor.
        ValueError: Shapes differ or are not (n, d), or ``temperature`` is out of its range.

    Example:
        >>> import math
        >>> z = torch.ones(4, 3)
        >>> round(nt_xent(z, z).item() - math.log(7), 5)
        0.0
    """
    for name, z in (("z_a", z_a), ("z_b", z_b)):
        check_embedding(name, z, least=0)
    same = z_a.shape == z_b.shape and z_a.ndim == 2
    require(same, "z_a and z_b", "have the same shape (n, d)", f"{tuple(z_a.shape)} and {tuple(z_b.shape)}")
    check_number("temperature", temperature, 0, open_low=True)
    batch = batch or whole(z_a)
    with full_precision(z_a):
        views = [normalize(widened(z), dim=1) for z in (z_a, z_b)]
        if batch.processes == 1 and temperature >= LOWEST_TEMPERATURE:
            loss: Tensor = _Fused.apply(torch.cat(views), temperature)  # type: ignore[no-untyped-call]  # torch's
            return loss
        everyone = torch.cat([gathered(view, batch) for view in views])
        logits = (torch.cat(views) / temperature) @ everyone.mT
        own = torch.arange(batch.own.start, batch.own.stop, device=z_a.device)
        itself, other = torch.cat((own, own + batch.n)), torch.cat((own + batch.n, own))
        logits.scatter_(1, itself[:, None], -torch.inf)
        return summed(cross_entropy(logits, other, reduction="sum"), batch) / (2 * batch.n)
