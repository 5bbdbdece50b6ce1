"""Columns of numbers and of truth values, and what every kind of column shares."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from vicreg._checks import message, require, shown
from vicreg.data import cells as read
from vicreg.data.cells import Cells, Floats

Features: TypeAlias = npt.NDArray[np.float32]

CEILING = 1e6
"""No standardised value leaves +-this; no row of a fit with fewer than 1e12 rows comes near it."""


def standardise(values: Floats, mean: Floats | float, scale: Floats | float) -> Floats:
    """``(values - mean) / scale`` in place, held within +-``CEILING`` (so float32 cannot overflow); NaN stays.

    The one place where numbers are brought to scale: whatever is to be done about heavy tails belongs here.

    Example:
        >>> standardise(np.array([1.0, 3.0, 1e300]), 2.0, 1.0)
        array([-1.e+00, 1.e+00, 1.e+06])
    """
    with np.errstate(over="ignore"):
        values -= mean
        values /= scale
    return np.clip(values, -CEILING, CEILING, out=values)


def centre_and_scale(observed: Floats) -> tuple[float, float]:
    """Mean and standard deviation (over n), both safe from overflow; the deviation of equal values is exactly 0.

    Example:
        >>> centre_and_scale(np.array([1e308, -1e308]))
        (0.0, 1e+308)
    """
    low, high = float(observed.min()), float(observed.max())
    if low == high:
        return low, 0.0
    unit = 2.0 ** (math.frexp(max(-low, high))[1] - 1)
    scaled = observed / unit
    mean = float(scaled.mean())
    scaled -= mean
    return mean * unit, math.sqrt(float(np.square(scaled, out=scaled).mean())) * unit


def check_finite(values: Floats, name: str, first_row: int = 0) -> None:
    """Raise if a number is infinite (a gap is not)."""
    infinite = np.isinf(values)
    if infinite.any():
        got = f"infinity in column {shown(name)}, row {first_row + int(infinite.argmax())}"
        raise ValueError(message("columns", "hold finite numbers or gaps", got, "Leave the cell empty instead."))


@dataclass(frozen=True)
class Constant:
    """An empty column or one of a single value: kept by name, without features."""

    kind: ClassVar[str] = "constant"
    name: str

    @property
    def feature_names(self) -> tuple[str, ...]:
        """None."""
        return ()

    def features(self, cells: Cells) -> Features:
        """An array of shape (n, 0)."""
        return np.empty((len(cells), 0), np.float32)


@dataclass(frozen=True)
class Number:
    """Numbers, standardised. A gap is the mean and, where the fit saw gaps, an indicator of its own says so.

    Codes that are whole numbers stay numbers; declare them a category (in pandas or polars) to have them as levels.

    Attributes:
        name: The source column.
        mean: Of the observed cells.
        scale: Their standard deviation; 1 if they are all equal and only the gaps vary.
        gaps: The share of cells that were gaps.
    """

    kind: ClassVar[str] = "number"
    name: str
    mean: float
    scale: float
    gaps: float

    def __post_init__(self) -> None:
        check_scale(self.name, self.scale)
        check_share(self.name, self.gaps)

    @classmethod
    def fit(cls, name: str, cells: Cells) -> Number | Constant:
        """Mean and deviation of the observed cells."""
        mean, scale, gaps = _fit_numbers(name, cls.read(name, cells))
        return cls(name, mean, scale or 1.0, gaps) if scale or 0 < gaps < 1 else Constant(name)

    @staticmethod
    def read(name: str, cells: Cells) -> Floats:
        """The cells as float64, gaps as NaN."""
        return read.numbers(cells, f"column {shown(name)}")

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The value and, where the fit saw gaps, whether it is missing."""
        return (self.name, *gap_name(self.name, self.gaps))

    def features(self, cells: Cells) -> Features:
        """Features of shape (n, 1) or (n, 2)."""
        return number_features(self, self.read(self.name, cells))


@dataclass(frozen=True)
class Boolean:
    """Truth values: a number that is 0 or 1, standardised, with gaps as a ``Number``'s.

    Attributes:
        name: The source column.
        share: Of the observed cells, those that are true.
        gaps: The share of cells that were gaps.
    """

    kind: ClassVar[str] = "boolean"
    name: str
    share: float
    gaps: float

    def __post_init__(self) -> None:
        require(0 <= self.share <= 1, record_of(self.name), "have a share of true within 0 and 1", self.share)
        check_share(self.name, self.gaps)

    @classmethod
    def fit(cls, name: str, cells: Cells) -> Boolean | Constant:
        """The share of the observed cells that are true."""
        share, scale, gaps = _fit_numbers(name, cls.read(name, cells))
        return cls(name, share, gaps) if scale or 0 < gaps < 1 else Constant(name)

    @staticmethod
    def read(name: str, cells: Cells) -> Floats:
        """The cells as 0, 1 or NaN; text may say true and false."""
        what = f"column {shown(name)}"
        if not isinstance(cells, np.ndarray) and read.family(cells, shown(name)) in ("text", "level"):
            lower = pc.utf8_lower(read.texts(cells, what))
            cells = pc.if_else(pc.equal(lower, "true"), "1", pc.if_else(pc.equal(lower, "false"), "0", lower))
        values = read.numbers(cells, what)
        strange = ~(np.isnan(values) | (values == 0) | (values == 1))
        if strange.any():
            row = int(strange.argmax())
            raise ValueError(message(what, "hold true and false, as when it was fitted", f"{values[row]} in row {row}"))
        return values

    @property
    def mean(self) -> float:
        """The share of true."""
        return self.share

    @property
    def scale(self) -> float:
        """The standard deviation; 1 if the observed cells are all equal and only the gaps vary."""
        return math.sqrt(self.share * (1 - self.share)) or 1.0

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The value and, where the fit saw gaps, whether it is missing."""
        return (self.name, *gap_name(self.name, self.gaps))

    def features(self, cells: Cells) -> Features:
        """Features of shape (n, 1) or (n, 2)."""
        return number_features(self, self.read(self.name, cells))


def number_features(column: Number | Boolean, values: Floats) -> Features:
    """Standardised values of shape (n, 1), beside an indicator of gaps where the fit saw any."""
    check_finite(values, column.name)
    gap = np.isnan(values)
    values = standardise(values.copy(), column.mean, column.scale)
    values[gap] = 0.0
    return with_gaps(values[:, None], gap, column.gaps)


def _fit_numbers(name: str, values: Floats) -> tuple[float, float, float]:
    """Mean and deviation of the observed numbers (0 if there are none or they are equal), and the share of gaps."""
    check_finite(values, name)
    gap = np.isnan(values)
    gaps = float(gap.mean())
    if gaps == 1.0:
        return 0.0, 0.0, 1.0
    return (*centre_and_scale(values[~gap] if gaps else values), gaps)


def with_gaps(features: Floats, gap: npt.NDArray[np.bool_], share: float) -> Features:
    """The features and, where the fit saw gaps, a centred indicator of them."""
    plain = features.astype(np.float32)
    return np.column_stack([plain, (gap - share).astype(np.float32)]) if share else plain


def gap_name(name: str, share: float) -> tuple[str, ...]:
    """The name of the indicator of gaps, if the fit saw any."""
    return (f"{name} is missing",) if share else ()


def record_of(name: str) -> str:
    """What an error calls a column's record."""
    return f"the record of column {shown(name)}"


def check_scale(name: str, scale: float) -> None:
    """Raise unless a record's scale is positive and finite."""
    require(0 < scale < math.inf, record_of(name), "have a positive scale", scale)


def check_share(name: str, share: float) -> None:
    """Raise unless a record's share of rows is one."""
    require(0 <= share < 1, record_of(name), "have shares of at least 0 and below 1", share)
