"""Alignment and uniformity: where embeddings lie once each is scaled to length 1.

Unlike the readings of the spectrum these are not centred: the cosine similarity that contrastive methods and nearest
neighbours go by is not, either.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vicreg._checks import check_number, require
from vicreg.functional.terms import check_embedding, widened

BLOCK = 1024
"""Rows whose distances to all rows are there at once."""


def alignment(z_a: Tensor, z_b: Tensor, alpha: float = 2.0) -> Tensor:
    """Mean distance, to the power ``alpha``, between the embeddings of two views on the unit sphere.

    Source: Wang, Isola, "Understanding contrastive representation learning through alignment and uniformity on the
    hypersphere", ICML 2020, arXiv:2005.10242.

    Args:
        z_a: Embeddings of one view, (n, d).
        z_b: Embeddings of the other view of the same samples, (n, d).
        alpha: Above 0; 2 as in the paper.

    Returns:
        A scalar from 0 (views fall together) to 2^alpha; two unrelated directions are 2 apart at alpha = 2.

    Raises:
        TypeError: A view is no floating tensor.
        ValueError: A shape is wrong.

    Example:
        >>> alignment(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 5.0]])).item()
        2.0
    """
    alpha = check_number("alpha", alpha, 0, open_low=True)
    a, b = _on_the_sphere("z_a", z_a, 1), _on_the_sphere("z_b", z_b, 1)
    require(a.shape == b.shape, "z_a and z_b", "have the same shape", f"{tuple(a.shape)} and {tuple(b.shape)}")
    return (a - b).square().sum(dim=1).pow(alpha / 2).mean()


def uniformity(z: Tensor, t: float = 2.0) -> Tensor:
    """Logarithm of the mean Gaussian potential exp(-t distance^2) between different rows on the unit sphere.

    Source: as for ``alignment``. Rows of the distances are formed in blocks; they are never there as a whole.

    Args:
        z: Embeddings, (n, d), n at least 2.
        t: Above 0; 2 as in the paper.

    Returns:
        A scalar from 0 (all rows point the same way) downwards: the lower, the more evenly the rows cover the sphere.
        For evenly spread rows it tends to -2 t (-4 at t = 2) as d grows; the bound is -2 t n / (n - 1).

    Raises:
        TypeError: ``z`` is no floating tensor.
        ValueError: The shape of ``z`` is wrong.

    Example:
        >>> uniformity(torch.tensor([[1.0, 0.0], [0.0, 2.0]])).item()  # a squared distance of 2
        -4.0
    """
    t = check_number("t", t, 0, open_low=True)
    x = _on_the_sphere("z", z, 2)
    n = len(x)
    parts = []
    for begin in range(0, n, BLOCK):
        potential = -t * (2 - 2 * x[begin : begin + BLOCK] @ x.mT).clamp_min(0)
        potential.diagonal(offset=begin).fill_(-torch.inf)  # not with itself
        parts.append(potential.logsumexp(dim=1))
    return torch.cat(parts).logsumexp(dim=0) - math.log(n * (n - 1))


def _on_the_sphere(name: str, z: Tensor, least: int) -> Tensor:
    """``z`` without graph, checked, each row of length 1; a row of zeros stays one."""
    check_embedding(name, z, least=least)
    require(z.ndim == 2, name, "have shape (n, d)", tuple(z.shape), "Flatten locations into rows.")
    return normalize(widened(z.detach()))
