"""One frame for whatever a user passes as a table: arrays, data frames, lists."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.sparse import issparse

from vicreg._checks import listed, message, require, shown
from vicreg.data import cells
from vicreg.data.cells import Cells

SUPPORTED = "a 2-D array, a pandas or polars data frame, a pyarrow table or a list of rows"


@dataclass(frozen=True, eq=False)
class Frame:
    """A table: named columns of equal length.

    Attributes:
        names: The columns' names, unique.
        values: A numeric matrix of shape (n_rows, n_columns), used as it came, or a ``pyarrow.Table``.
        named: Whether the names were the data's own. An array's are made up ("x0", "x1", ...), so a model
            matches its columns by position.

    Example:
        >>> frame = as_frame([[1.0, 2.0], [3.0, 4.0]])
        >>> frame.names, frame.n_rows
        (('x0', 'x1'), 2)
        >>> frame.drop(["x0"]).column("x1")
        array([2., 4.])
    """

    names: tuple[str, ...]
    values: npt.NDArray[Any] | pa.Table
    named: bool = True

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        return int(self.values.shape[0])

    def column(self, name: str) -> Cells:
        """The cells of one column: a 1-D view of the matrix, or a ``pyarrow.ChunkedArray``."""
        return self.column_at(self._indices([name])[0])

    def column_at(self, index: int) -> Cells:
        """The cells of the column at a position."""
        if isinstance(self.values, np.ndarray):
            return cast(Cells, self.values[:, index])
        return cast(Cells, self.values.column(index))

    def select(self, names: Iterable[str]) -> Frame:
        """These columns alone, in this order."""
        kept = tuple(names)
        require(len(kept) > 0, "a table", "keep at least one column", "none")
        indices = self._indices(kept)
        if isinstance(self.values, np.ndarray):
            whole = indices == list(range(len(self.names)))
            return Frame(kept, self.values if whole else self.values[:, indices], self.named)
        return Frame(kept, self.values.select(indices), self.named)

    def drop(self, names: Iterable[str]) -> Frame:
        """All columns but these. An unknown name is an error."""
        dropped = set(names)
        self._indices(dropped)
        return self.select(name for name in self.names if name not in dropped)

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> Frame:
        """These rows alone, in this order."""
        if isinstance(self.values, np.ndarray):
            return Frame(self.names, self.values[rows], self.named)
        return Frame(self.names, self.values.take(pa.array(rows)), self.named)

    def labels(self, name: str) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
        """The labels in a column, and the rows that have one.

        Half-labelled tables are common where one learns without labels, so a row without a label (an empty cell,
        NaN, "NA", ...) is left out rather than refused; ``frame.n_rows - len(rows)`` of them are.

        Args:
            name: The label column.

        Returns:
            The labels (numbers, booleans or text) and the indices of their rows, both of the same length.

        Raises:
            ValueError: There is no such column, it is empty, or it holds infinity or long text.
            TypeError: Its cells are neither numbers, booleans, text nor dates.

        Example:
            >>> frame = as_frame([[0.5, 1.0], [0.7, float("nan")], [0.9, 2.0]])
            >>> frame.labels("x1")
            (array([1., 2.]), array([0, 2]))
        """
        return cells.labels(self.column(name), f"label column {shown(name)}")

    def _indices(self, names: Iterable[str]) -> list[int]:
        place = {name: i for i, name in enumerate(self.names)}
        chosen = list(names)
        unknown = [name for name in chosen if name not in place]
        require(not unknown, "a column", f"be one of {listed(self.names, 20)}", listed(unknown))
        return [place[name] for name in chosen]


def as_frame(X: Any) -> Frame:
    """Take a table in any of the forms people have.

    A numeric array is used as it is, without a copy. A data frame's index is ignored, and names that are no text
    (pandas numbers its columns) become text.

    Args:
        X: A 2-D NumPy array (of numbers, text, dates or objects), a pandas or polars data frame, a
            ``pyarrow.Table``, anything else that speaks Arrow's C stream or NumPy's array protocol, or a list of
            rows. Gaps are NaN, None, NaT, NA or a masked cell.

    Returns:
        The frame.

    Raises:
        TypeError: ``X`` is sparse, a path, or holds cells such as lists and dictionaries.
        ValueError: ``X`` is not 2-D, has no rows or no columns, holds complex numbers, or names repeat.

    Example:
        >>> import pyarrow as pa
        >>> as_frame(pa.table({"age": [31, None], "city": ["Bonn", "Lyon"]})).names
        ('age', 'city')
    """
    if isinstance(X, Frame):
        return X
    if issparse(X):
        fix = "Densify it first, for example with X.toarray()."
        raise TypeError(message("X", f"be {SUPPORTED}", "a sparse matrix, which is not supported", fix))
    if isinstance(X, (str, bytes)) or hasattr(X, "__fspath__"):
        fix = "A file is read with vicreg.data.read_table."
        raise TypeError(message("X", f"be {SUPPORTED}", shown(X), fix))
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(X, pandas.DataFrame):
        return _from_pandas(X)
    if isinstance(X, pa.Table):
        return _from_arrow(X.column_names, X.columns)
    if hasattr(X, "__arrow_c_stream__") and len(getattr(X, "shape", (0, 0))) == 2:
        table = pa.table(X)
        return _from_arrow(table.column_names, table.columns)
    return _from_array(_array(X))


def _array(X: Any) -> npt.NDArray[Any]:
    """Whatever is left as an array of two dimensions, neither of them zero, without complex numbers."""
    if isinstance(X, np.ma.MaskedArray):
        X = np.where(np.ma.getmaskarray(X), np.nan, np.ma.getdata(X))
    try:
        array = np.asarray(X)
    except ValueError as error:
        raise ValueError(message("X", "have rows of equal length", f"rows that differ ({error})")) from error
    if array.dtype.kind in "US" and not isinstance(X, np.ndarray):
        array = np.asarray(X, dtype=object)  # a list that mixes numbers and text: keep the numbers
    kinds = {0: "Expected 2D array, got scalar array instead", 1: "Expected 2D array, got 1D array instead"}
    said = kinds.get(array.ndim, f"Found array with dim {array.ndim}, while dim <= 2 is required")
    fix = f"{said}. Reshape your data with X.reshape(len(X), -1)."
    require(array.ndim == 2, "X", "have two dimensions, rows and columns", f"shape {array.shape}", fix)
    require(array.dtype.kind != "c", "X", "hold real numbers", array.dtype, "Complex data not supported.")
    return array


def _check_shape(n_rows: int, n_columns: int) -> None:
    """Neither rows nor columns may be absent (the wording in brackets is scikit-learn's)."""
    said = f"(shape=({n_rows}, {n_columns})) while a minimum of 1 is required"
    require(n_columns > 0, "X", "have at least one column", f"0 feature(s) {said}")
    require(n_rows > 0, "X", "have at least one row", f"0 sample(s) {said}")


def _from_array(array: npt.NDArray[Any]) -> Frame:
    _check_shape(*array.shape)
    names = tuple(f"x{i}" for i in range(array.shape[1]))
    if array.dtype.kind in "biuf":
        array = array.astype(np.float64) if array.dtype.itemsize > 8 else array  # long doubles, which Arrow lacks
        return Frame(names, array, named=False)
    columns = [cells.from_values(array[:, i], shown(name)) for i, name in enumerate(names)]
    return _from_arrow(names, columns, named=False)


def _from_pandas(X: Any) -> Frame:
    names = [str(name) for name in X.columns]
    columns = [cells.from_pandas(X.iloc[:, i], shown(name)) for i, name in enumerate(names)]
    return _from_arrow(names, columns, n_rows=len(X))


def _from_arrow(
    names: Sequence[str], columns: Sequence[Any], *, named: bool = True, n_rows: int | None = None
) -> Frame:
    _check_shape(n_rows if n_rows is not None else len(columns[0]) if columns else 0, len(columns))
    _check_names(names)
    plain = [cells.settled(column) for column in columns]
    for name, column in zip(names, plain, strict=True):
        cells.family(column, shown(name))
    table = pa.table(plain, names=list(names))
    return Frame(tuple(names), table, named)


def _check_names(names: Sequence[str]) -> None:
    broken = [name for name in names if any("\ud800" <= letter <= "\udfff" for letter in name)]
    require(not broken, "column names", "be whole Unicode text", listed(broken), "Rename them.")
    repeated = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    require(not repeated, "column names", "be unique", f"{listed(repeated)} more than once", "Rename them.")
