"""Two dimensions for many: the planes that maps are drawn in."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicreg._checks import require
from vicreg.functional import principal_axes

Matrix = NDArray[np.floating[Any]]

MOST_WORK = 2**33
"""Multiplications that finding the axes may take; of more rows an even part then stands for all."""
UMAP_UP_TO = 20_000
UMAP_FROM = 50
"""UMAP's neighbour graph says nothing of fewer rows."""


@dataclass(frozen=True, eq=False)
class Plane:
    """Rows in two dimensions.

    Attributes:
        xy: (n, 2) float32.
        explained: Share of the rows' variance along either dimension.
    """

    xy: NDArray[np.float32]
    explained: tuple[float, float]


def plane(x: Matrix) -> Plane:
    """The first two principal components (Pearson 1901), or the dimensions themselves where there are only two.

    Args:
        x: (n, p) finite rows, n at least 1. One column is the first dimension, and the second is 0.

    Example:
        >>> found = plane(np.array([[0.0, 0.0, 1.0], [3.0, 4.0, 1.0]]))
        >>> found.xy.round(2).tolist(), found.explained
        ([[-2.5, 0.0], [2.5, 0.0]], (1.0, 0.0))
    """
    rows = np.asarray(x, np.float64)
    if rows.shape[1] <= 2:
        return _measured(np.pad(rows, ((0, 0), (0, 2 - rows.shape[1]))), rows)
    n, p = rows.shape
    least = min(n, p)
    some = rows[:: max(1, -(-(n * p * least) // MOST_WORK))]
    axes = principal_axes(some)
    return _measured((rows - axes.mean) @ np.pad(axes.axes[:2], ((0, 2 - len(axes.axes[:2])), (0, 0))).T, rows)


def common_plane(a: Matrix, b: Matrix, *, aligned: bool) -> tuple[Plane, Plane]:
    """Both sides of pairs in one plane.

    Sides that can be compared with each other are drawn along common principal components. Those of others are found
    apart, brought to one scale, and those of ``b`` turned or mirrored such that the pairs lie as near as that allows
    (orthogonal Procrustes; Schoenemann 1966).

    Args:
        a: (n, p) rows.
        b: (n, q) rows; row i belongs to row i of ``a``.
        aligned: Whether the two can be compared; they then have one width.

    Example:
        >>> a = np.array([[0.0, 1.0], [2.0, 0.0], [5.0, 5.0]])
        >>> left, right = common_plane(a, -3 * a, aligned=False)
        >>> bool(np.allclose(left.xy, right.xy, atol=1e-6))
        True
    """
    if aligned:
        require(a.shape == b.shape, "aligned sides", "have the same shape", f"{a.shape} and {b.shape}")
        both = plane(np.concatenate((a, b)))
        sides = (both.xy[: len(a)], a), (both.xy[len(a) :], b)
        left, right = (_measured(xy, np.asarray(x, np.float64)) for xy, x in sides)
        return left, right
    left, right = plane(a), plane(b)
    one, other = _unit(left.xy), _unit(right.xy)
    u, _, v = np.linalg.svd(other.T @ one)
    turned = (other @ (u @ v)).astype(np.float32)
    return Plane(one.astype(np.float32), left.explained), Plane(turned, right.explained)


def umap_plane(x: Matrix, seed: int = 0) -> NDArray[np.float32] | None:
    """UMAP (McInnes, Healy, Melville 2018) of the rows, where umap-learn is installed; (n, 2).

    Args:
        x: (n, p) finite rows.
        seed: Of its random start.

    Returns:
        None where it is not installed, there are fewer than 50 or more than 20,000 rows, or it fails.
    """
    if not UMAP_FROM <= len(x) <= UMAP_UP_TO:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import umap

            found = umap.UMAP(random_state=seed, n_jobs=1).fit_transform(np.asarray(x, np.float32))
    except Exception:  # it is another's program, and a map by PCA is there
        return None
    return np.asarray(found, np.float32) if np.isfinite(found).all() else None


def _measured(xy: Matrix, rows: NDArray[np.float64]) -> Plane:
    whole = rows.var(0).sum()
    along = xy.astype(np.float64).var(0) / (whole if whole > 0 else 1.0)
    return Plane(xy.astype(np.float32), (float(along[0]), float(along[1])))


def _unit(xy: Matrix) -> NDArray[np.float64]:
    centred = xy.astype(np.float64) - xy.mean(0, dtype=np.float64)
    scale = float(np.sqrt((centred**2).sum(1).mean()))
    unit: NDArray[np.float64] = centred / (scale or 1.0)
    return unit
