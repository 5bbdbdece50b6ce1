"""How a table becomes a matrix: a kind and a few numbers per column, found once and applied to any later table."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from vicreg._checks import listed, message, require, shown
from vicreg.data import cells as read
from vicreg.data import columns as kinds
from vicreg.data import discover
from vicreg.data.cells import Cells, Floats
from vicreg.data.columns import Column
from vicreg.data.dates import Date
from vicreg.data.discrete import number_alone, number_kind
from vicreg.data.frame import Frame
from vicreg.data.numeric import Boolean, Constant, Features, Number, check_finite, standardise
from vicreg.data.words import Category, Text, text_kind

CELLS_AT_ONCE = 2**15
"""Numbers are standardised in blocks of rows that stay in the processor's cache."""

COLUMNS_AT_ONCE = 8
"""A matrix's columns are fitted by so many: eight float64 numbers fill a cache line."""


TRUTHS = {"true", "false", "True", "False", "TRUE", "FALSE", None}
"""Text of these alone is truth values."""

TYPED: dict[str, Callable[[str, Cells], Column]] = {"number": number_kind, "boolean": Boolean.fit, "date": Date.fit}
"""What fits a column whose storage says what it is (``cells.family``)."""


@dataclass(frozen=True)
class TableSpec:
    """The columns of a table and how each becomes features. Holds no rows.

    Attributes:
        columns: One record per source column, in the order of the fit.
        named: Whether columns are matched by name (data frames, files) or by position (arrays).

    Example:
        >>> from vicreg.data.frame import as_frame
        >>> spec = fit_spec(as_frame([[1.0, 5.0], [3.0, float("nan")]]))
        >>> spec.feature_names
        ('x0', 'x1', 'x1 is missing')
        >>> spec.apply(as_frame([[2.0, 5.0]]))
        array([[ 0. ,  0. , -0.5]], dtype=float32)
    """

    columns: tuple[Column, ...]
    named: bool

    @property
    def names(self) -> tuple[str, ...]:
        """The source columns' names."""
        return tuple(column.name for column in self.columns)

    @property
    def text_names(self) -> tuple[str, ...]:
        """The source columns that are text, for ``read_table(path, text=...)``: "007" must not be read as 7."""
        return tuple(column.name for column in self.columns if isinstance(column, (Category, Text)))

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """The features' names."""
        return tuple(name for column in self.columns for name in column.feature_names)

    @cached_property
    def sources(self) -> npt.NDArray[np.int64]:
        """For every feature the index of its source column in ``columns``, of shape (n_features,), ascending."""
        widths = [len(column.feature_names) for column in self.columns]
        return np.repeat(np.arange(len(widths)), widths)

    def apply(self, frame: Frame, ignore: Iterable[str] = ()) -> Features:
        """The features of a table's rows.

        A row's features depend on that row alone. A gap where the fit saw none is the column's mean.

        Args:
            frame: The rows. Columns are matched by name, in any order; by position if either the fit's table or this
                one is an array.
            ignore: Names that may be there or not, without a warning: the label, the id, what fit left out.

        Returns:
            Finite features of shape (n, n_features), C-contiguous.

        Raises:
            ValueError: A column is missing, is of another type than at the fit, or holds infinity.
            TypeError: A column holds lists, dictionaries or the like.

        Warns:
            UserWarning: There are further columns; they are left out.
        """
        indices = self._matched(frame, frozenset(ignore))
        out = np.empty((frame.n_rows, len(self.sources)), np.float32)
        self._fill_numbers(out, frame, indices)
        for column, index, first in zip(self.columns, indices, self._firsts, strict=True):
            if not isinstance(column, (Number, Boolean, Constant)):
                out[:, first : first + len(column.feature_names)] = column.features(frame.column_at(index))
        return out

    def numbers_alone(self) -> TableSpec:
        """The same, but columns of few distinct numbers become those numbers, without their levels.

        Example:
            >>> from vicreg.data.frame import as_frame
            >>> spec = fit_spec(as_frame([[float(row % 3)] for row in range(30)]))
            >>> len(spec.feature_names), spec.numbers_alone().feature_names
            (4, ('x0',))
        """
        return TableSpec(tuple(map(number_alone, self.columns)), self.named)

    def in_words(self) -> str:
        """What the columns were taken for, in one line.

        Example:
            >>> from vicreg.data.frame import as_frame
            >>> fit_spec(as_frame([[1.0, 5.0], [3.0, 5.0]])).in_words()
            "Columns taken as number: 'x0'; constant, left out: 'x1'."
        """
        by_kind: dict[str, list[str]] = {}
        for column in self.columns:
            by_kind.setdefault(column.kind, []).append(column.name)
        kinds = sorted(by_kind, key=lambda kind: kind == Constant.kind)
        said = [f"{kind}{', left out' * (kind == Constant.kind)}: {listed(by_kind[kind])}" for kind in kinds]
        return f"Columns taken as {'; '.join(said)}."

    def to_json(self) -> dict[str, Any]:
        """The specification as plain values that JSON can hold, exactly."""
        return {"named": self.named, "columns": [kinds.to_json(column) for column in self.columns]}

    @classmethod
    def from_json(cls, record: object) -> TableSpec:
        """The specification that ``to_json`` wrote; every value is checked and nothing executed.

        Raises:
            ValueError: It is not one that ``to_json`` writes.
        """
        keys = isinstance(record, dict) and set(record) == {"named", "columns"}
        if not isinstance(record, dict) or not keys or not isinstance(record["columns"], list):
            raise ValueError(message("a table's record", "have a list of columns", shown(record), kinds.DAMAGED))
        require(isinstance(record["named"], bool), "named", "be true or false", shown(record["named"]), kinds.DAMAGED)
        columns = tuple(kinds.from_json(column) for column in record["columns"])
        names = {column.name for column in columns}
        require(len(names) == len(columns), "column names", "be unique", "repeated ones", kinds.DAMAGED)
        return cls(columns, bool(record["named"]))

    @cached_property
    def _firsts(self) -> list[int]:
        """The first feature of every column."""
        widths = [len(column.feature_names) for column in self.columns]
        return list(accumulate(widths, initial=0))[:-1]

    def _matched(self, frame: Frame, ignore: frozenset[str]) -> list[int]:
        """Where each of the specification's columns is in the frame; -1 for an absent one without features."""
        known = set(self.names)
        if not (self.named and frame.named):
            there = [i for i, name in enumerate(frame.names) if name not in ignore or name in known]
            said = f"X has {len(there)} features, but vicreg is expecting {len(self.columns)} features as input"
            rule = f"have the {len(self.columns)} columns that fit saw, in their order"
            require(len(there) == len(self.columns), "X", rule, f"{len(there)} ({said})")
            return there
        place = {name: i for i, name in enumerate(frame.names)}
        missing = [c.name for c in self.columns if c.name not in place and not isinstance(c, Constant)]
        require(not missing, "X", f"have the columns that fit saw, also {listed(missing)}", listed(frame.names, 20))
        extra = [name for name in frame.names if name not in known and name not in ignore]
        if extra:
            text = message("columns", "be those that fit saw", f"{listed(extra)} as well", "They are ignored.")
            warnings.warn(text, UserWarning, stacklevel=3)
        return [place.get(name, -1) for name in self.names]

    def _fill_numbers(self, out: Features, frame: Frame, indices: list[int]) -> None:
        """Write the features of all numbers and truth values, a block of rows at a time."""
        chosen = [i for i, column in enumerate(self.columns) if isinstance(column, (Number, Boolean))]
        if not chosen:
            return
        numeric = [cast("Number | Boolean", self.columns[i]) for i in chosen]
        mean = np.array([column.mean for column in numeric])
        scale = np.array([column.scale for column in numeric])
        share = np.array([column.gaps for column in numeric])
        gappy = share > 0
        value_at = _as_slice(np.array([self._firsts[i] for i in chosen]))
        gap_at = np.array([self._firsts[i] + 1 for i in chosen])[gappy]
        for rows, block in _blocks(frame, numeric, [indices[i] for i in chosen]):
            gap = np.isnan(block) if not np.isfinite(block).all() else None
            if gap is not None:
                for j, column in enumerate(numeric):
                    check_finite(block[:, j], column.name, rows.start)
            standardise(block, mean, scale)
            if gap is not None:
                block[gap] = 0.0
            out[rows, value_at] = block
            if gappy.any():
                out[rows, gap_at] = (0.0 if gap is None else gap[:, gappy]) - share[gappy]


def fit_spec(frame: Frame) -> TableSpec:
    """Find every column's kind and fit it.

    Numbers, truth values and dates are known by their type. Text may be numbers, truth values or dates in disguise
    (skrub's Cleaner tells dates); else it is a category if a few levels cover nearly all of it, and free text if not.

    Args:
        frame: At least two rows.

    Raises:
        ValueError: There are fewer than two rows, no column varies, or a column holds infinity.
        ImportError: There is text, and pandas or skrub is not installed.

    Example:
        >>> import pyarrow as pa
        >>> from vicreg.data.frame import as_frame
        >>> table = pa.table({"age": [31, None, 40], "born": ["1990-01-31", None, "1985-06-01"], "unit": ["m"] * 3})
        >>> [column.kind for column in fit_spec(as_frame(table)).columns]
        ['number', 'date', 'constant']
    """
    require(frame.n_rows >= 2, "X", "have at least 2 rows", f"{frame.n_rows} sample(s)", "One row has no spread.")
    if isinstance(frame.values, np.ndarray):
        columns = tuple(_fit_matrix(frame.names, frame.values))
    else:
        columns = tuple(_fit_mixed(frame))
    varies = any(not isinstance(column, Constant) for column in columns)
    got = f"{len(columns)} of which no column varies ({listed(frame.names)})"
    require(varies, "X", "have columns that vary", got, "Empty columns and those of one value say nothing.")
    return TableSpec(columns, frame.named)


def _fit_matrix(names: Sequence[str], matrix: npt.NDArray[Any]) -> Iterator[Column]:
    for start in range(0, len(names), COLUMNS_AT_ONCE):
        group = np.array(matrix[:, start : start + COLUMNS_AT_ONCE].T, dtype=np.float64, order="C")
        for name, values in zip(names[start:], group, strict=False):
            yield number_kind(name, values)


def _fit_mixed(frame: Frame) -> list[Column]:
    columns: dict[str, Column] = {}
    words: dict[str, Any] = {}
    for i, name in enumerate(frame.names):
        cells = frame.column_at(i)
        column = _fit_typed(name, cells)
        if column is None:
            words[name] = read.texts(cells, f"column {shown(name)}")
        else:
            columns[name] = column
    patterns = discover.date_patterns(words) if words else {}
    for name, strings in words.items():
        dated = name in patterns and read.parsed_dates(strings, patterns[name]) is not None
        columns[name] = Date.fit(name, strings, patterns[name]) if dated else text_kind(strings).fit(name, strings)
    return [columns[name] for name in frame.names]


def _fit_typed(name: str, cells: Cells) -> Column | None:
    """Fit a column whose kind is clear from its type or its text; None for text that is still to be looked into."""
    family = "number" if isinstance(cells, np.ndarray) else read.family(cells, shown(name))
    if family == "empty":
        return Constant(name)
    if family in TYPED:
        return TYPED[family](name, cells)
    strings = read.texts(cells, f"column {shown(name)}")
    if strings.null_count == len(strings):
        return Constant(name)
    if family == "level":
        return text_kind(strings).fit(name, strings)
    distinct = strings.unique()
    if len(distinct) <= len(TRUTHS) and TRUTHS.issuperset(distinct.to_pylist()):
        return Boolean.fit(name, strings)
    if read.parsed_numbers(strings) is not None:
        return number_kind(name, strings)
    return Date.fit(name, strings) if read.parsed_dates(strings) is not None else None


def _blocks(frame: Frame, columns: Sequence[Number | Boolean], indices: list[int]) -> Iterator[tuple[slice, Floats]]:
    """The numbers of some columns as fresh float64 blocks of shape (rows, columns), with their rows."""
    step = max(1, CELLS_AT_ONCE // len(columns))
    spans = [slice(start, min(start + step, frame.n_rows)) for start in range(0, frame.n_rows, step)]
    if isinstance(frame.values, np.ndarray) and all(isinstance(column, Number) for column in columns):
        where = _as_slice(np.array(indices))
        for rows in spans:
            yield rows, frame.values[rows, where].astype(np.float64)
        return
    read_columns = [c.read(c.name, frame.column_at(i)) for c, i in zip(columns, indices, strict=True)]
    for rows in spans:
        yield rows, np.stack([values[rows] for values in read_columns], axis=1)


def _as_slice(indices: npt.NDArray[np.int64]) -> slice | npt.NDArray[np.int64]:
    """Adjoining indices as a slice, which copies much faster."""
    first = int(indices[0])
    adjoining = np.array_equal(indices, np.arange(first, first + len(indices)))
    return slice(first, first + len(indices)) if adjoining else indices
