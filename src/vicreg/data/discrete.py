"""Columns of few distinct numbers: a number and, beside it, its levels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np

from vicreg._checks import require
from vicreg.data.cells import Cells, Floats
from vicreg.data.numeric import (
    Constant,
    Features,
    Number,
    check_finite,
    check_scale,
    check_share,
    gap_name,
    record_of,
    standardise,
    with_gaps,
)

C = TypeVar("C")

MOST_LEVELS = 12
ROWS_PER_LEVEL = 10
"""Fewer rows than this for each level, and the column stays a number alone."""

NUMBER_SHARE = 0.3
"""The number's part of the column's total variance of 1; its levels have the rest (docs/experiments.md)."""

TOLERANCE = 1e-5
"""Deviations within which a cell is of a level: what float32 rounds stays of its level."""


@dataclass(frozen=True)
class Discrete:
    """Numbers of which there are few, such as counts, grades and codes: a standardised number and its levels.

    A linear map sees an order in the number and none in the levels, so both stand side by side, with a total variance
    of 1. A number that is no level has none; a gap is the mean and, where the fit saw gaps, has an indicator.

    Attributes:
        name: The source column.
        mean: Of the observed cells.
        scale: Their standard deviation.
        levels: The distinct numbers, rising.
        shares: Of the observed cells, those at each level.
        gaps: The share of cells that were gaps.

    Example:
        >>> column = number_kind("grade", np.array([1.0, 2.0, 3.0] * 10))
        >>> column.feature_names
        ('grade', 'grade = 1', 'grade = 2', 'grade = 3')
        >>> float(column.features(np.array([1.0, 2.0, 3.0])).var(axis=0).sum().round(5))
        1.0
    """

    kind: ClassVar[str] = "discrete"
    name: str
    mean: float
    scale: float
    levels: tuple[float, ...]
    shares: tuple[float, ...]
    gaps: float

    def __post_init__(self) -> None:
        check_scale(self.name, self.scale)
        check_share(self.name, self.gaps)
        rising = all(a < b for a, b in zip(self.levels, self.levels[1:], strict=False))
        require(rising and len(self.levels) > 1, record_of(self.name), "have rising levels", self.levels)
        fits = len(self.shares) == len(self.levels) and all(0 < share < 1 for share in self.shares)
        require(fits, record_of(self.name), "have a share within 0 and 1 for each level", self.shares)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The number, each level and, where the fit saw gaps, whether it is missing."""
        levels = (f"{self.name} = {level:g}" for level in self.levels)
        return (self.name, *levels, *gap_name(self.name, self.gaps))

    def features(self, cells: Cells) -> Features:
        """Features of shape (n, 1 + levels) or one wider."""
        values = Number.read(self.name, cells)
        check_finite(values, self.name)
        gap = np.isnan(values)
        shares = np.array(self.shares)
        factor = math.sqrt((1 - NUMBER_SHARE) / float(np.sum(shares * (1 - shares))))
        out = np.empty((len(values), 1 + len(shares)))
        out[:, 1:] = (self._is_level(values) - shares) * factor
        out[:, 0] = standardise(values.copy(), self.mean, self.scale) * math.sqrt(NUMBER_SHARE)
        out[gap] = 0.0
        return with_gaps(out, gap, self.gaps)

    def _is_level(self, values: Floats) -> Floats:
        """One where a cell is of a level, (n, levels)."""
        with np.errstate(over="ignore", invalid="ignore"):
            near = np.abs(values[:, None] - np.array(self.levels)) <= TOLERANCE * self.scale
        return np.asarray(near, dtype=np.float64)


def number_kind(name: str, cells: Cells) -> Number | Discrete | Constant:
    """Fit a column of numbers: as discrete if it has 3 to 12 distinct ones and at least ten rows for each.

    Two distinct numbers are a number: a level each would say the same again.
    """
    column = Number.fit(name, cells)
    if isinstance(column, Constant):
        return column
    values = Number.read(name, cells)
    if len(np.unique(values[:1000][~np.isnan(values[:1000])])) > MOST_LEVELS:
        return column
    levels, counts = np.unique(values[~np.isnan(values)], return_counts=True)
    few = 3 <= len(levels) <= MOST_LEVELS and counts.sum() >= ROWS_PER_LEVEL * len(levels)
    apart = few and np.diff(levels).min() > 2 * TOLERANCE * column.scale
    if not apart:
        return column
    shares = counts / counts.sum()
    return Discrete(name, column.mean, column.scale, tuple(levels.tolist()), tuple(shares.tolist()), column.gaps)


def number_alone(column: C) -> C | Number:
    """A column's number without its levels, if it has any; another column as it is.

    Args:
        column: Of any kind.
    """
    if isinstance(column, Discrete):
        return Number(column.name, column.mean, column.scale, column.gaps)
    return column
