"""Columns that a map is coloured by."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

MOST_LETTERS = 60
"""Of a text; a legend holds no more."""
YEAR = 365.2425 * 86400


def as_colour(values: Any, *, as_text: bool = False) -> pa.Array:
    """Cells as a page can colour by them: numbers as float64, all else as text; gaps, NaN and infinities as null.

    Args:
        values: An Arrow array, or whatever becomes one: an array of numbers, booleans, text, dates or objects.
        as_text: Whether numbers are names of classes.

    Example:
        >>> as_colour(np.array([1.0, np.nan])).to_pylist(), as_colour(["a", None]).to_pylist()
        ([1.0, None], ['a', None])
        >>> as_colour(np.array([3, 5]), as_text=True).to_pylist()
        ['3', '5']
    """
    cells = _arrow(values)
    kind = cells.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        numbers = np.asarray(cells.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)
        if not as_text:
            return pa.array(numbers, mask=~np.isfinite(numbers))
        whole = [None if not np.isfinite(one) else f"{one:.0f}" if one == round(one) else f"{one:g}" for one in numbers]
        return pa.array(whole, pa.string())
    return pa.array([_text(one) for one in cells.to_pylist()], pa.string())


def as_time(microseconds: NDArray[np.int64], gaps: NDArray[np.bool_]) -> pa.Array:
    """Moments as years with their fraction, which a page can put on a scale.

    Args:
        microseconds: (n,) since 1970.
        gaps: (n,) which of them are none.

    Example:
        >>> as_time(np.array([0, 5]), np.array([False, True])).to_pylist()
        [1970.0, None]
    """
    return pa.array(1970 + microseconds / (1e6 * YEAR), mask=gaps)


def _arrow(values: Any) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if not isinstance(values, pa.Array):
        array = np.asarray(values)
        cells = array.tolist() if array.dtype.kind in "OUS" else array
        try:
            values = pa.array(cells)
        except (pa.ArrowInvalid, pa.ArrowTypeError):  # of several types
            values = pa.array([_text(one) for one in array.tolist()], pa.string())
    return pc.cast(values, values.type.value_type) if pa.types.is_dictionary(values.type) else values


def _text(cell: object) -> str | None:
    """Text that is whole Unicode, and short."""
    if cell is None or cell != cell:
        return None
    text = cell.decode("utf-8", "backslashreplace") if isinstance(cell, bytes) else str(cell)
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= MOST_LETTERS else f"{text[: MOST_LETTERS - 1]}…"
