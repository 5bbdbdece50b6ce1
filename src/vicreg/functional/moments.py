"""Sums of squared products of columns, with their gradient: all that is costly in the loss.

With Zc centred, (n, d), and M = Zc^T Zc the wanted sum is that over M's off-diagonal entries. Its gradient is
4 Zc (M with its diagonal 0). For d > n the Gram matrix P = Zc Zc^T stands in for M: sum M_ij^2 = sum P_ij^2, with the
diagonal of M in it, and the gradient is 4 P Zc.

Both are one computation on Y (m rows, m the smaller of n and d; Zc^T or Zc): the symmetric Y Y^T, of which the upper
triangle will do, and its product with Y. It goes in bands of rows, each used for value and gradient at once and then
forgotten, so that next to Y and its gradient only one band is in memory.

Over several processes, which share the rows: for d <= n each adds its own rows' part to every band, and the bands are
summed. For d > n the rows are gathered, each process forms two bands of the Gram matrix, which together cost the same
for each, the matrix is summed and each takes the gradient of its own rows: 3/4 of its share of the products without
regard to symmetry.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from vicreg.distributed import Batch

Precision: TypeAlias = Literal["highest", "high", "medium"]

BAND = 512
"""Rows of a band: wide enough for products at full speed, narrow enough that the saved half of the triangle shows."""


def squared_products(x: Tensor, gradient: Tensor | None, factor: float, precision: Precision, batch: Batch) -> Tensor:
    """The sum over all locations of the squares of M's off-diagonal entries, or for d > n of all its entries.

    Args:
        x: (t, own rows, d) centred, of t locations.
        gradient: (t, own rows, d); ``factor`` / 4 times the sum's gradient is added to it.
        factor: See there.
        precision: ``"medium"`` multiplies in bfloat16 where ``x`` is float32.
        batch: The global batch, of n rows.

    Example:
        >>> x = torch.tensor([[[1.0, 2.0], [-1.0, -2.0]]])     # M = [[2, 4], [4, 8]]
        >>> squared_products(x, None, 1.0, "highest", Batch((2,)))
        tensor(32.)
    """
    if x.shape[-1] <= batch.n:
        flipped = None if gradient is None else gradient.mT
        return _banded(x.mT, flipped, factor, precision, lambda band: _without_diagonal(batch.sum_(band)))
    if batch.processes > 1:
        return _shared_gram(x, gradient, factor, precision, batch)
    return _banded(x, gradient, factor, precision, lambda band: band)


def _banded(
    y: Tensor, gradient: Tensor | None, factor: float, precision: Precision, finish: Callable[[Tensor], Tensor]
) -> Tensor:
    """Sum of squares of Y Y^T as ``finish`` leaves its bands, which begin at the diagonal."""
    operand = _operand(y, precision)
    m = y.shape[-2]
    terms = []
    for begin in range(0, m, BAND):
        end = min(begin + BAND, m)
        rows, onward = _rows(operand, begin, end), _rows(operand, begin, m)
        band = finish(_product(rows, onward.mT, y.dtype))
        block = band if end == m else band[..., : end - begin]
        terms.append(sum_of_squares(block))
        if gradient is not None:
            _add_product(_rows(gradient, begin, end), band, onward, factor)
        if end < m:
            beyond = band[..., end - begin :]
            terms.append(sum_of_squares(beyond) * 2)
            if gradient is not None:
                _add_product(_rows(gradient, end, m), beyond.mT, rows, factor)
    return sum(terms[1:], terms[0])


def _rows(y: Tensor, begin: int, end: int) -> Tensor:
    """These rows; without the cost of a view where they are all, which small batches feel."""
    return y if end - begin == y.shape[-2] else y[..., begin:end, :]


def _shared_gram(x: Tensor, gradient: Tensor | None, factor: float, precision: Precision, batch: Batch) -> Tensor:
    """Sum of squares of the Gram matrix of all processes' rows, each forming its share of it."""
    y = _operand(batch.gathered(x), precision)
    gram = x.new_zeros(len(x), batch.n, batch.n)
    last = 2 * batch.processes - 1
    for index in (batch.rank, last - batch.rank):  # one wide, one narrow: as much work for every process
        begin, end = (batch.n * i // (last + 1) for i in (index, index + 1))
        gram[..., begin:end, begin:] = _product(y[..., begin:end, :], y[..., begin:, :].mT, x.dtype)
        gram[..., begin:end, begin:end] /= 2
    batch.sum_(gram)
    own = gram[..., batch.own, :] + gram[..., batch.own].mT
    if gradient is not None:
        _add_product(gradient, own, y, factor)
    return batch.sum_(sum_of_squares(own))


def _without_diagonal(band: Tensor) -> Tensor:
    """A diagonal that is zeroed costs no digits; one that is subtracted does."""
    band.diagonal(dim1=-2, dim2=-1).zero_()
    return band


def sum_of_squares(matrices: Tensor) -> Tensor:
    """Of all entries, row by row: no second matrix, and none of the 1e-3 by which one long float32 sum can be off."""
    norms: Tensor = torch.linalg.vector_norm(matrices, dim=-1)
    return norms.square().sum()


def _operand(y: Tensor, precision: Precision) -> Tensor:
    return y.bfloat16() if precision == "medium" and y.dtype == torch.float32 else y


def _product(left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
    product = torch.bmm(left, right)
    return product if product.dtype == dtype else product.to(dtype)


def _add_product(total: Tensor, left: Tensor, right: Tensor, factor: float) -> None:
    if right.dtype == total.dtype:
        total.baddbmm_(left, right, alpha=factor)
    else:
        total.add_(torch.bmm(left.to(right.dtype), right), alpha=factor)
