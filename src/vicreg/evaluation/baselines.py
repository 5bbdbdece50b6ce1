"""What an embedding has to beat: principal components of the same width."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from vicreg._checks import check_integer, require
from vicreg.evaluation.inputs import FloatArray, check_representation


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

    The largest entry of each component is positive, so the result does not depend on the linear algebra library.
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
    matrix = check_representation("train", train)
    k = check_integer("k", k, 1)
    mean = matrix.mean(0)
    # The triangle of a QR decomposition has the singular values and right vectors of the whole, without its n rows.
    triangle = np.linalg.qr(matrix - mean, mode="r")
    _, scales, directions = np.linalg.svd(triangle, full_matrices=False)
    rank = np.count_nonzero(scales > scales[0] * max(matrix.shape) * np.finfo(np.float64).eps)
    directions = directions[: min(k, int(rank))]
    largest = np.abs(directions).argmax(1)
    directions = directions * np.sign(directions[np.arange(len(directions)), largest])[:, None]
    components = np.zeros((k, matrix.shape[1]))
    components[: len(directions)] = directions
    return PrincipalComponents(mean, components)
