"""Canonical axes of two tables of the same rows: what linear maps find to be common to both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vicreg._checks import check_integer, check_number, require
from vicreg.functional.principal import FloatArray, principal_axes


@dataclass(frozen=True, eq=False)
class CanonicalAxes:
    """Linear maps of two tables to variates of unit variance, in falling order of their correlation.

    Attributes:
        left: Projection (m, p) and offset (m,): ``rows @ projection.T + offset`` are the left table's variates.
        right: The same of the right table, (m, q) and (m,). The largest entry of each left axis is positive.
        correlation: (m,), between 0 and 1: of the two variates, shrunk as the ridge has it.
    """

    left: tuple[FloatArray, FloatArray]
    right: tuple[FloatArray, FloatArray]
    correlation: FloatArray


def canonical_axes(a: NDArray[np.floating], b: NDArray[np.floating], k: int, ridge: float = 0.0) -> CanonicalAxes:
    """Canonical correlation analysis (Hotelling 1936), with a ridge on both covariances (Vinod 1976), in float64.

    Args:
        a: (n, p) finite rows, n at least 2.
        b: (n, q) rows that belong to them, one by one.
        k: How many axes; at most the lower rank of the two comes back.
        ridge: Added to every variance, in units of the table's mean variance of a column, at least 0. Directions of
            little variance then no longer pass for common ones by chance.

    Raises:
        ValueError: Numbers of rows differ.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> common = rng.normal(size=(500, 1))
        >>> a = np.hstack((common + rng.normal(size=(500, 1)), rng.normal(size=(500, 2))))
        >>> canonical_axes(a, common, k=2).correlation.round(1)  # 1 / sqrt(2)
        array([0.7])
    """
    check_integer("k", k, 1)
    check_number("ridge", ridge, 0)
    require(len(a) == len(b), "a and b", "have the same number of rows", f"{len(a)} and {len(b)}")
    (white_a, mean_a), (white_b, mean_b) = _whitening(a, ridge), _whitening(b, ridge)
    left, right = a.astype(np.float64) - mean_a, b.astype(np.float64) - mean_b
    u, correlation, vt = np.linalg.svd((left @ white_a.T).T @ (right @ white_b.T) / (len(a) - 1), full_matrices=False)
    axes_a, axes_b = u.T[:k] @ white_a, vt[:k] @ white_b
    largest = np.abs(axes_a).argmax(axis=1)[:, None]
    sign = np.sign(np.take_along_axis(axes_a, largest, axis=1))
    return CanonicalAxes(_scaled(axes_a * sign, left, mean_a), _scaled(axes_b * sign, right, mean_b), correlation[:k])


def _whitening(x: NDArray[np.floating], ridge: float) -> tuple[FloatArray, FloatArray]:
    """Principal axes, each divided by its deviation (r, p), and the mean (p,)."""
    principal = principal_axes(x)
    added = ridge * principal.variance.sum() / x.shape[1]
    return principal.axes / np.sqrt(principal.variance + added)[:, None], principal.mean


def _scaled(axes: FloatArray, centred: FloatArray, mean: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Axes along which the rows have unit variance, and the offset that takes the mean away."""
    axes = axes / (centred @ axes.T).std(axis=0, ddof=1)[:, None]
    return axes, -axes @ mean
