"""What an embedding has to beat: principal components of the same width."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from vicreg._checks import check_integer, require
from vicreg.evaluation.inputs import FloatArray, check_representation
from vicreg.functional import PrincipalAxes, principal_axes

ROWS_OF_EACH = 8
"""A component of many takes so many rows to be told from noise."""
SHARE = 0.99
"""Components beyond this share of the variance are noise to a probe that standardises them."""


@dataclass(frozen=True)
class PrincipalComponents:
    """Principal components, ready for new rows.

    Attributes:
        mean: (p,), the training rows' mean.
        components: (k, p), orthonormal directions in falling order of variance, zero beyond the rank.
    """

    mean: FloatArray
    components: FloatArray

    def transform(self, rows: Any) -> FloatArray:
        """Coordinates of rows (n, p) along the components: (n, k).

        Raises:
            ValueError: Another number of columns than the training rows had.
        """
        matrix = check_representation("rows", rows)
        require(matrix.shape[1] == len(self.mean), "rows", f"have {len(self.mean)} columns", matrix.shape[1])
        return (matrix - self.mean) @ self.components.T


def pca(train: Any, k: int) -> PrincipalComponents:
    """The first ``k`` principal components of the training rows (Pearson 1901).

    The first of the largest entries of each component is positive, so that the linear algebra library has no say in it.
    Beyond the rank the components are zero: a wider embedding still finds a baseline of its width.

    Args:
        train: (n, p) numbers; bring columns of different units to a common scale first.
        k: How many, at least 1.

    Returns:
        The components.

    Example:
        >>> line = pca([[0, 0], [1, 2], [2, 4]], k=2)
        >>> line.components.round(3).tolist()
        [[0.447, 0.894], [0.0, 0.0]]
    """
    return first_components(principal_axes(check_representation("train", train)), k)


def leading_components(train: Any, most: int) -> PrincipalComponents:
    """Principal components to judge a wide embedding beside: no more than probes can use.

    An embedding of pictures or sounds has some 512 numbers, often more than there are rows. As many components would
    for the most part be directions of hardly any variance, which a probe that standardises its inputs blows up: on 192
    pictures of Fashion-MNIST a linear probe is right on .67 of others by all 191 components, and on .74 by 42. So there
    are no more than one for every 8 rows, and than it takes for 99 % of the variance.

    Args:
        train: (n, p) rows.
        most: The embedding's width.

    Example:
        >>> rows = np.random.default_rng(0).normal(size=(80, 30)) * np.array([1.0] * 6 + [0.01] * 24)
        >>> [len(leading_components(rows[:n], 512).components) for n in (80, 40, 4)]
        [6, 5, 1]
    """
    matrix = check_representation("train", train)
    axes = principal_axes(matrix)
    told = np.cumsum(axes.scatter)
    enough = int(np.searchsorted(told, SHARE * told[-1])) + 1 if len(told) else 1
    return first_components(axes, max(1, min(check_integer("most", most, 1), len(matrix) // ROWS_OF_EACH, enough)))


def first_components(axes: PrincipalAxes, k: int) -> PrincipalComponents:
    """The first ``k`` of known principal axes, as :func:`pca` gives them.

    Args:
        axes: Of the training rows, or the sum of those of their parts.
        k: How many, at least 1.

    Example:
        >>> parts = [np.array([[0.0, 0.0]]), np.array([[1.0, 2.0], [2.0, 4.0]])]
        >>> first_components(principal_axes(parts[0]) + principal_axes(parts[1]), k=1).components.round(3).tolist()
        [[0.447, 0.894]]
    """
    kept = axes.axes[: check_integer("k", k, 1)]
    return PrincipalComponents(axes.mean, np.pad(kept, ((0, k - len(kept)), (0, 0))))
