"""Signals from a long table: a row for each moment of each signal, told apart by an id."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vicreg._checks import listed, message, require, shown
from vicreg.data import cells
from vicreg.data.files import read_table
from vicreg.data.frame import Frame
from vicreg.data.signal_given import GivenSignals

EVEN = 0.01
"""Steps of time may differ from the usual one by such a share of it."""


def read_long_table(
    path: str | Path,
    id: str,
    time: str,
    values: Sequence[str] = (),
    labels: str | None = None,
) -> GivenSignals:
    """Signals of a table in a file, as :func:`signals_of_long_table` has them.

    Args:
        path: A CSV, Parquet or other file that :func:`vicreg.data.read_table` reads.
        id: As there.
        time: As there.
        values: As there.
        labels: As there.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read, or as there.
        TypeError: As there.
    """
    return signals_of_long_table(read_table(path, exact=[id]), id, time, values, labels)


def signals_of_long_table(
    frame: Frame,
    id: str,
    time: str,
    values: Sequence[str] = (),
    labels: str | None = None,
) -> GivenSignals:
    """The signals of a long table, one for each id, in the order in which the ids first appear; rows in any order.

    Signals may differ in length. Their rate is one over the usual step of time (in seconds, if times are dates). One
    whose steps differ from that, or which has a gap, is corrupt: it is named and counted when it is read.

    Args:
        frame: The table.
        id: The column that tells signals apart.
        time: The column that orders them: numbers or dates.
        values: The columns with their channels; none for all other columns of numbers.
        labels: The column with their classes, the same in all rows of a signal.

    Raises:
        ValueError: There is no such column, an id or time is missing, a time is repeated within a signal, or a signal
            has several labels.
        TypeError: A column of values holds no numbers.

    Example:
        >>> from vicreg.data import as_frame
        >>> table = pa.table({"id": ["a", "b", "a", "b"], "t": [1, 0, 0, 1], "x": [2.0, 5.0, 1.0, 6.0]})
        >>> source = signals_of_long_table(as_frame(table), "id", "t")
        >>> source.names, source.read(0).tolist(), source.rate
        (['a', 'b'], [[1.0, 2.0]], 1.0)
    """
    known = [*dict.fromkeys([id, time, *values, *([labels] if labels else [])])]
    lacking = [name for name in known if name not in frame.names]
    got = f"{listed(frame.names, 20)}, without {listed(lacking)}"
    require(not lacking, "a long table", f"have the columns {listed(known, 20)}", got)
    codes, names = _ids(frame, id)
    times = _times(frame, time)
    chosen = list(values) or [name for name in frame.names if name not in known and _is_numeric(frame, name)]
    require(len(chosen) > 0, "a long table", "have a column of numbers besides its id and time", listed(frame.names))
    for name in chosen:
        kind = cells.family(frame.column(name), shown(name))
        require(_is_numeric(frame, name), f"column {shown(name)}", "hold numbers", kind, error=TypeError)
    order = np.lexsort((times, codes))
    codes, times = codes[order], times[order]
    flat = np.stack([_numbers(frame, name)[order].astype(np.float32) for name in chosen])
    usual, faults = _steps(codes, times, names, time)
    begin = np.append(np.flatnonzero(np.append(True, codes[1:] != codes[:-1])), len(codes))
    items = [flat[:, a:b] for a, b in zip(begin[:-1].tolist(), begin[1:].tolist(), strict=True)]
    classes = None if labels is None else _classes(frame, labels, codes, names, order)
    source = GivenSignals(items, classes, float(f"{1 / usual:.9g}"), names, sound=False, faults=faults)
    source.columns = tuple(chosen)
    return source


def _steps(
    codes: NDArray[np.int64], times: NDArray[np.float64], names: Sequence[str], name: str
) -> tuple[float, dict[int, tuple[str, str]]]:
    """The usual step of sorted times, and what is wrong with signals that have others."""
    steps, within = np.diff(times), codes[1:] == codes[:-1]
    again = np.flatnonzero(within & (steps == 0))
    if len(again):
        first = f"{times[again[0]]:g} of {shown(names[codes[again[0]]])}"
        raise ValueError(
            message(f"times in {shown(name)}", "differ within an id", f"{len(again)} repeated, as {first}")
        )
    usual = float(np.median(steps[within])) if within.any() else 1.0
    faults = {}
    for row in np.flatnonzero(within & (np.abs(steps - usual) > EVEN * usual))[::-1]:
        got = f"a step of {steps[row]:g} after {times[row]:g}"
        faults[int(codes[row])] = (f"have even steps of {usual:g} in {shown(name)}", got)
    return usual, faults


def _column(frame: Frame, name: str) -> pa.Array:
    """A column, NaN as null."""
    column = pa.chunked_array(cells.as_arrow(frame.column(name))).combine_chunks()
    return pc.if_else(pc.is_nan(column), None, column) if pa.types.is_floating(column.type) else column


def _plain(frame: Frame, name: str, what: str) -> pa.Array:
    """A column without gaps."""
    column = _column(frame, name)
    require(column.null_count == 0, f"{what} in {shown(name)}", "be there in every row", f"{column.null_count} gaps")
    return column


def _is_numeric(frame: Frame, name: str) -> bool:
    return cells.family(frame.column(name), shown(name)) in ("number", "boolean")


def _ids(frame: Frame, name: str) -> tuple[NDArray[np.int64], list[str]]:
    column = _plain(frame, name, "ids")
    known = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    codes = known.indices.to_numpy().astype(np.int64)
    present, first, codes = np.unique(codes, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first, kind="stable"), kind="stable")
    names = known.dictionary.take(pa.array(present[np.argsort(first, kind="stable")])).to_pylist()
    return rank[codes], [str(one) for one in names]


def _times(frame: Frame, name: str) -> NDArray[np.float64]:
    """Times as numbers; dates in seconds since the first of them."""
    column = _plain(frame, name, "times")
    kind = cells.family(frame.column(name), shown(name))
    if kind == "date":
        ticks = column.cast(pa.timestamp("ns")).cast(pa.int64()).to_numpy()
        return np.asarray((ticks - ticks.min()) / 1e9)
    require(kind == "number", f"times in {shown(name)}", "be numbers or dates", kind, error=TypeError)
    times = np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)
    require(bool(np.isfinite(times).all()), f"times in {shown(name)}", "be finite", "infinity")
    return times


def _numbers(frame: Frame, name: str) -> NDArray[Any]:
    """A column of numbers, gaps as NaN."""
    return np.asarray(pc.cast(_column(frame, name), pa.float64(), safe=False).to_numpy(zero_copy_only=False))


def _classes(
    frame: Frame, name: str, codes: NDArray[np.int64], names: Sequence[str], order: NDArray[np.int64]
) -> NDArray[Any]:
    column = _column(frame, name)
    values = np.asarray(column.to_pylist(), dtype=object)[order]
    found: list[Any] = [None] * len(names)
    for code, value in zip(codes.tolist(), values, strict=True):
        if value is None:
            continue
        if found[code] is not None and found[code] != value:
            got = f"{shown(found[code])} and {shown(value)}"
            raise ValueError(message(f"the label of {shown(names[code])} in {shown(name)}", "be one", got))
        found[code] = value
    if None in found:
        return np.asarray(found, dtype=object)
    return np.asarray(found)
