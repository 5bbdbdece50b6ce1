"""Correlations between the columns of embeddings: the terms of Barlow Twins and VIbCReg.

Products are taken in the cheaper of two forms, which are equal: the matrix of columns, d x d, or for wide embeddings
the Gram matrices of rows, n x n, since the squares of A^T B add up to the inner product of A A^T and B B^T.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vicreg._checks import check_number, require
from vicreg.distributed import Batch
from vicreg.functional.collective import full_precision, gathered, standardised, summed, whole
from vicreg.functional.moments import squared_products
from vicreg.functional.terms import check_embedding

BATCH_NORM_EPS = 1e-5
"""Barlow Twins standardises by batch norm, whose epsilon this is."""

TINY = 1e-24
"""Added to a variance: a column without any has no correlations, and no gradient."""


def cross_diagonal(z_a: Tensor, z_b: Tensor, eps: float = BATCH_NORM_EPS, batch: Batch | None = None) -> Tensor:
    """How far the correlation of each column with itself in the other view is from 1, sum_i (1 - C_ii)^2.

    C = A^T B / n, with A and B the embeddings, each column less its mean and over the root of its variance (with n)
    plus ``eps``.

    Source: Zbontar et al., "Barlow Twins", ICML 2021, arXiv:2103.03230, equation 1: the invariance term. Cost: O(n d).

    Args:
        z_a: (n, d) embeddings of one view.
        z_b: (n, d) of the other.
        eps: Added to each variance, above 0.
        batch: The global batch of which these are this process's rows; by default they are the batch.

    Returns:
        A scalar between 0 and 4 d.

    Raises:
        TypeError: A view is no floating tensor.
        ValueError: Shapes differ or are not (n, d), or ``eps`` is out of its range.

    Example:
        >>> z = torch.tensor([[1.0, 2.0], [-1.0, -2.0]])
        >>> round(cross_diagonal(z, -z).item(), 3)
        8.0
    """
    _check_pair(z_a, z_b, eps)
    batch = batch or whole(z_a)
    a, b = (standardised(z, eps, batch) for z in (z_a, z_b))
    return (1 - summed((a * b).sum(dim=0), batch) / batch.n).square().sum()


def cross_off_diagonal(z_a: Tensor, z_b: Tensor, eps: float = BATCH_NORM_EPS, batch: Batch | None = None) -> Tensor:
    """How far columns correlate with others of the other view, sum_{i != j} C_ij^2; C as in :func:`cross_diagonal`.

    Source: Zbontar et al., arXiv:2103.03230, equation 1: the redundancy reduction term. Cost: O(n d min(d, 2 n)).

    Args:
        z_a: As there.
        z_b: As there.
        eps: As there.
        batch: As there.

    Returns:
        A scalar between 0 and d (d - 1).

    Raises:
        TypeError: As there.
        ValueError: As there.

    Example:
        >>> z = torch.tensor([[1.0, 2.0], [-1.0, -2.0]])
        >>> round(cross_off_diagonal(z, z).item(), 3)
        2.0
    """
    _check_pair(z_a, z_b, eps)
    batch = batch or whole(z_a)
    with full_precision(z_a):
        a, b = (standardised(z, eps, batch) for z in (z_a, z_b))
        n, d = batch.n, z_a.shape[1]
        if d <= 2 * n:
            return _dense(a, b, batch) / n**2
        products = (_gram(a, batch) * _gram(b, batch)).sum()
        diagonal = summed((a * b).sum(dim=0), batch)
        return (summed(products, batch) - diagonal.square().sum()) / n**2


def correlation(z: Tensor, batch: Batch | None = None) -> Tensor:
    """Mean squared correlation between the columns of a view, (1/d^2) sum_{i != j} R_ij^2.

    Unlike the covariance term of VICReg it does not shrink with the columns' scale, which the variance term alone then
    decides. On independent columns its expectation is not 0 but (d - 1) / (d (n - 1)).

    Source: Lee and Aptoula, "VIbCReg", arXiv:2109.00783; the mean over all d^2 entries, the diagonal's being 0, as
    solo-learn's code for it takes it. Cost: O(n d min(n, d)).

    Args:
        z: (n, d) embeddings.
        batch: The global batch of which these are this process's rows; by default they are the batch.

    Returns:
        A scalar between 0 and (d - 1) / d.

    Raises:
        TypeError: ``z`` is no floating tensor.
        ValueError: Its shape is not (n, d).

    Example:
        >>> z = torch.tensor([[1.0, 2.0, 1.0], [-1.0, -2.0, 1.0]])     # the third column is constant
        >>> round(correlation(z).item(), 4)
        0.2222
    """
    _check_flat("z", z)
    batch = batch or whole(z)
    with full_precision(z):
        x = standardised(z, TINY, batch)
        n, d = batch.n, z.shape[1]
        squares: Tensor = _Squares.apply(x, batch)  # type: ignore[no-untyped-call]  # torch's
        if d > n:  # the Gram form has the diagonal in it
            squares = squares - summed(x.square().sum(dim=0), batch).square().sum()
        return squares / (n * d) ** 2


class _Squares(torch.autograd.Function):
    """Of X^T X, as VICReg's covariance term has them: half a product for the value, and one for the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, batch: Batch) -> Tensor:
        gradient = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        ctx.save_for_backward(gradient)
        along = None if gradient is None else gradient[None]
        return squared_products(x[None], along, 4 * batch.lift("mean"), "highest", batch)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor, None]:
        return ctx.saved_tensors[0] * incoming, None


def _dense(a: Tensor, b: Tensor, batch: Batch) -> Tensor:
    """Sum of squares of the off-diagonal entries of A^T B: a diagonal that is zeroed costs no digits."""
    return summed(a.mT @ b, batch).fill_diagonal_(0).square().sum()


def _gram(a: Tensor, batch: Batch) -> Tensor:
    """This process's rows of A A^T."""
    return a @ gathered(a, batch).mT


def _check_pair(z_a: Tensor, z_b: Tensor, eps: float) -> None:
    check_number("eps", eps, 0, open_low=True)
    _check_flat("z_a", z_a)
    _check_flat("z_b", z_b)
    require(z_a.shape == z_b.shape, "z_a and z_b", "have the same shape", f"{tuple(z_a.shape)} and {tuple(z_b.shape)}")


def _check_flat(name: str, z: Tensor) -> None:
    check_embedding(name, z, least=0)
    require(z.ndim == 2, name, "have shape (n, d)", tuple(z.shape), "Flatten or pool it.")
