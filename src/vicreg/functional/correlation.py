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
from vicreg.functional.collective import full_precision, standardised, summed, whole
from vicreg.functional.moments import squared_products, sum_of_squares
from vicreg.functional.terms import check_embedding, widened

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
        squares: Tensor = _CrossSquares.apply(a, b, batch)  # type: ignore[no-untyped-call]  # torch's
        if d > 2 * n:  # the Gram form has the diagonal in it
            squares = squares - summed((a * b).sum(dim=0), batch).square().sum()
        return squares / n**2


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
        squares: Tensor = _Squares.apply(widened(z), batch)  # type: ignore[no-untyped-call]  # torch's
        return squares / (batch.n * z.shape[1]) ** 2


class _Squares(torch.autograd.Function):
    """Of X^T X less its diagonal, with X the standardised columns: the gradient is formed with the value.

    With s the columns' root mean squares, G the gradient by X, and diag(X^T X) = v, which is n but for columns without
    variance: by the column of z it is (G - X mean(G o X)) / s, since the columns of G have no mean as X has none. The
    products are as in VICReg's covariance term: half a one for the value, and one for the gradient.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, batch: Batch) -> Tensor:
        x = z - batch.mean(z)
        x.sub_(batch.mean(x))
        scale = (batch.sum_((x * x).sum(dim=0)) / batch.n + TINY).rsqrt_()
        x.mul_(scale)
        gradient = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        along = None if gradient is None else gradient[None]
        value = squared_products(x[None], along, 4.0, "highest", batch)
        if x.shape[1] > batch.n:  # the Gram form has the diagonal in it
            diagonal = batch.sum_((x * x).sum(dim=0))
            value = value - diagonal.square().sum()
            if gradient is not None:
                gradient.addcmul_(x, diagonal, value=-4)
        if gradient is not None:
            shares = batch.sum_((gradient * x).sum(dim=0)) / batch.n
            ctx.save_for_backward(gradient.addcmul_(x, shares, value=-1).mul_(scale * batch.lift("mean")))
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor, None]:
        return ctx.saved_tensors[0] * incoming, None


class _CrossSquares(torch.autograd.Function):
    """Of A^T B less its diagonal, or in the Gram form of all of it; the gradient is formed with the value.

    The Gram matrices are symmetric, so that each gradient takes one product, where a tape would take two.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, batch: Batch) -> Tensor:
        if a.shape[1] <= 2 * batch.n:
            products = batch.sum_(a.mT @ b).fill_diagonal_(0)  # a diagonal that is zeroed costs no digits
            value, parts = sum_of_squares(products), (b @ products.mT, a @ products)
        else:
            every_a, every_b = (batch.gathered(one[None])[0] for one in (a, b))
            gram_a, gram_b = a @ every_a.mT, b @ every_b.mT  # this process's rows
            value = batch.sum_(torch.linalg.vecdot(gram_a, gram_b).sum())
            parts = (gram_b @ every_a, gram_a @ every_b)
        ctx.save_for_backward(*parts)
        ctx.factor = 2 * batch.lift("mean")
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor, Tensor, None]:
        a, b = ctx.saved_tensors
        scale = incoming * ctx.factor
        return a * scale, b * scale, None


def _check_pair(z_a: Tensor, z_b: Tensor, eps: float) -> None:
    check_number("eps", eps, 0, open_low=True)
    _check_flat("z_a", z_a)
    _check_flat("z_b", z_b)
    require(z_a.shape == z_b.shape, "z_a and z_b", "have the same shape", f"{tuple(z_a.shape)} and {tuple(z_b.shape)}")


def _check_flat(name: str, z: Tensor) -> None:
    check_embedding(name, z, least=0)
    require(z.ndim == 2, name, "have shape (n, d)", tuple(z.shape), "Flatten or pool it.")
