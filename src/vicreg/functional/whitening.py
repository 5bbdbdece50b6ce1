"""Whitening by Newton's iteration: the normalisation that VIbCReg puts behind its expander."""

from __future__ import annotations

import torch
from torch import Tensor

from vicreg._checks import check_integer, check_number, require
from vicreg.distributed import Batch
from vicreg.functional.collective import centred, full_precision, summed, whole
from vicreg.functional.terms import check_embedding


def whitened(z: Tensor, groups: int = 64, iterations: int = 5, eps: float = 1e-5, batch: Batch | None = None) -> Tensor:
    """Embeddings whose columns are centred and, group by group, decorrelated and of variance 1, as far as it goes.

    For each group of columns S = X^T X / n + eps I, of trace s, and P_0 = I, P_(k+1) = (3 P_k - P_k^3 S / s) / 2;
    the group becomes X P_T / sqrt(s). P_T / sqrt(s) tends to S^(-1/2). Directions far below the widest of their group
    take more iterations than a few to reach variance 1, and stay below it until then; once all have, further ones only
    let rounding grow.

    Source: Huang et al., "Iterative Normalization", CVPR 2019, arXiv:1904.03441, algorithm 1; 64 groups, 5 iterations
    as in solo-learn's VIbCReg. Cost: O(n d c + T d c^2) for groups of c = d / groups columns.

    Args:
        z: (n, d) embeddings.
        groups: How many the columns are cut into, at least 1, a divisor of d; columns of different groups are left as
            correlated as they are.
        iterations: T, at least 1.
        eps: Added to the variances, above 0.
        batch: The global batch of which these are this process's rows; by default they are the batch.

    Returns:
        (n, d), float32 at least.

    Raises:
        TypeError: ``z`` is no floating tensor.
        ValueError: Its shape is not (n, d), or a setting is out of its range.

    Example:
        >>> z = torch.tensor([[2.0, 1.0], [-2.0, -1.0], [1.0, -1.0], [-1.0, 1.0]])
        >>> white = whitened(z, groups=1, iterations=9)
        >>> (white.T @ white / 4).round(decimals=3)
        tensor([[1., 0.],
                [0., 1.]])
    """
    check_embedding("z", z, least=0)
    require(z.ndim == 2, "z", "have shape (n, d)", tuple(z.shape), "Flatten or pool it.")
    check_integer("groups", groups, 1)
    check_integer("iterations", iterations, 1)
    check_number("eps", eps, 0, open_low=True)
    n, d = z.shape
    require(d % groups == 0, "groups", f"divide the {d} columns", groups)
    batch = batch or whole(z)
    with full_precision(z):
        x = centred(z, batch).view(n, groups, d // groups).movedim(1, 0)  # (groups, n, c)
        unit = torch.eye(d // groups, device=x.device, dtype=x.dtype)
        moments = summed(x.mT @ x, batch) / batch.n + eps * unit
        trace = moments.diagonal(dim1=1, dim2=2).sum(dim=1)[:, None, None]
        share, root = moments / trace, unit.expand_as(moments)
        for _ in range(iterations):
            root = 1.5 * root - 0.5 * (root @ root @ root) @ share
        return (x @ (root / trace.sqrt())).movedim(0, 1).reshape(n, d)
