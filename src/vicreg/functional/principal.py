"""Principal axes of rows, which add up over the parts of a stream."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

SMALLEST_SHARE = 1e-12
"""Of the largest axis's scatter: what is below is rounding, and no axis. In deviations it is a millionth."""

NEARLY = 1 - 1e-6
"""Share of an axis's largest entry from which another counts as equal to it."""


@dataclass(frozen=True, eq=False)
class PrincipalAxes:
    """Count, mean and scatter of rows, the scatter by its axes: the sum of two is that of all their rows.

    Attributes:
        count: Rows.
        mean: (p,), their mean.
        axes: (r, p), orthonormal directions in falling order of scatter, r the rank. The first of the largest entries
            of each is positive, so that the linear algebra library has no say in the sign.
        scatter: (r,), the sum of the squared deviations from the mean along each axis, above 0.
    """

    count: int
    mean: FloatArray
    axes: FloatArray
    scatter: FloatArray

    @property
    def variance(self) -> FloatArray:
        """Variance along each axis, (r,), with count - 1 in the denominator."""
        return self.scatter / (self.count - 1)

    def __add__(self, other: PrincipalAxes) -> PrincipalAxes:
        """The axes of the rows of both: their scatters and that between their means (Chan, Golub, LeVeque 1983)."""
        count = self.count + other.count
        gap = other.mean - self.mean
        between = gap * np.sqrt(self.count * other.count / count)
        scaled = [one.axes * np.sqrt(one.scatter)[:, None] for one in (self, other)]
        return PrincipalAxes(count, self.mean + gap * (other.count / count), *_axes(np.vstack((*scaled, between))))


def principal_axes(x: NDArray[np.floating]) -> PrincipalAxes:
    """Principal axes of rows (Pearson 1901), in float64.

    Costs n p^2 + p^3 for n rows and p < n columns, by the eigenvectors of the scatter; otherwise n^2 p, by the
    singular vectors of the rows.

    Args:
        x: (n, p) finite rows, n at least 1.

    Example:
        >>> x = np.array([[0.0, 0.0], [1.0, 2.0], [2.0, 4.0]])
        >>> whole = principal_axes(x)
        >>> whole.axes.round(3).tolist(), whole.variance.round(3).tolist()
        ([[0.447, 0.894]], [5.0])
        >>> (principal_axes(x[:1]) + principal_axes(x[1:])).variance.round(3).tolist()
        [5.0]
    """
    centred = x.astype(np.float64)
    mean = centred.mean(axis=0)
    centred -= mean
    return PrincipalAxes(len(x), mean, *_axes(centred))


def _axes(rows: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Axes and scatter of rows about the origin."""
    if len(rows) > rows.shape[1]:
        scatter, columns = np.linalg.eigh(rows.T @ rows)
        scatter, axes = scatter[::-1], columns.T[::-1]
    else:
        _, lengths, axes = np.linalg.svd(rows, full_matrices=False)
        scatter = lengths**2
    kept = scatter > SMALLEST_SHARE * scatter[0]
    scatter, axes = scatter[kept], axes[kept]
    sizes = np.abs(axes)
    largest = (sizes >= NEARLY * sizes.max(axis=1, initial=0, keepdims=True)).argmax(axis=1)
    return axes * np.sign(np.take_along_axis(axes, largest[:, None], axis=1)), scatter
