"""The cells of one column, whatever stored them, as numbers, text or moments: the same for every format."""

from __future__ import annotations

import datetime
import decimal
import math
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from vicreg._checks import message, require, shown

Cells: TypeAlias = "npt.NDArray[Any] | pa.ChunkedArray"
Floats: TypeAlias = npt.NDArray[np.float64]

GAPS = (
    *("", "?", "...", "NA", "<NA>", "N/A", "n/a", "#N/A", "#N/A N/A", "#NA", "null", "NULL", "none", "None"),
    *("nan", "NaN", "-nan", "-NaN", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
)
"""Text that stands for a gap: what pandas and skrub take for one."""

LONGEST_LABEL = 200


def family(cells: Cells, name: str) -> str:
    """What a column's storage says it holds: "number", "boolean", "date", "text", "level" or "empty".

    "level" is text or numbers that the user declared to be a category (pandas and polars have a type for that).

    Args:
        cells: The column.
        name: Its name, as it shall stand in the error.

    Raises:
        TypeError: It holds none of these, but lists, dictionaries, bytes, ...

    Example:
        >>> family(pa.chunked_array([[True, None]]), "'paid'")
        'boolean'
    """
    if isinstance(cells, np.ndarray):
        return "number"
    kind = cells.type
    tests = (
        ("empty", pa.types.is_null),
        ("boolean", pa.types.is_boolean),
        ("date", lambda t: pa.types.is_timestamp(t) or pa.types.is_date(t)),
        ("text", _is_text),
        ("number", _is_number),
        ("level", lambda t: pa.types.is_dictionary(t) and (_is_text(t.value_type) or _is_plain(t.value_type))),
    )
    for found, test in tests:
        if test(kind):
            return found
    raise _unfit(name, _example(cells), kind)


def numbers(cells: Cells, what: str) -> Floats:
    """The cells as float64, gaps as NaN. Text is parsed, lengths of time count in seconds.

    Raises:
        ValueError: Some text is no number, or the cells are dates.

    Example:
        >>> numbers(pa.chunked_array([["1.5", "NA", "+2"]]), "column 'x'")
        array([1.5, nan, 2. ])
    """
    if isinstance(cells, np.ndarray):
        return cells.astype(np.float64)
    found = family(cells, what)
    if found == "date":
        raise ValueError(message(what, "hold numbers, as when it was fitted", f"dates, such as {_example(cells)}"))
    if found == "level":
        cells = decoded(cells)
    if _is_text(cells.type):
        parsed = parsed_numbers(texts(cells, what))
        if parsed is None:
            raise _stray(what, "numbers", texts(cells, what), _is_float)
        cells = parsed
    elif pa.types.is_duration(cells.type) or pa.types.is_time(cells.type):
        unit = pa.duration("us") if pa.types.is_duration(cells.type) else pa.time64("us")
        cells = pc.divide(cells.cast(unit, safe=False).cast(pa.int64()).cast(pa.float64(), safe=False), 1e6)
    elif pa.types.is_boolean(cells.type):
        cells = cells.cast(pa.int8())
    return np.asarray(cells.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)


def texts(cells: Cells, what: str) -> pa.ChunkedArray:
    """The cells as text without surrounding blanks, gaps as nulls; 1, 1.0 and "1" are all "1".

    Raises:
        ValueError: The cells are dates.

    Example:
        >>> texts(np.array([1.0, 2.5, np.nan]), "column 'x'").to_pylist()
        ['1', '2.5', None]
    """
    cells = as_arrow(cells)
    found = family(cells, what)
    if found == "date":
        raise ValueError(message(what, "hold text, as when it was fitted", f"dates, such as {_example(cells)}"))
    if found == "level":
        cells = decoded(cells)
    if pa.types.is_floating(cells.type):
        cells = cells.cast(pa.float32()) if pa.types.is_float16(cells.type) else cells
        cells = pc.if_else(pc.is_nan(cells), pa.scalar(None, cells.type), cells)
    elif not _is_text(cells.type) and not pa.types.is_integer(cells.type) and found == "number":
        return texts(numbers(cells, what), what)
    cells = pc.utf8_trim_whitespace(cells.cast(pa.large_string()))
    gap = pc.is_in(cells, value_set=pa.array(GAPS, pa.large_string()))
    return pc.if_else(gap, pa.scalar(None, pa.large_string()), cells)


def moments(cells: Cells, what: str, pattern: str | None = None) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """The cells as microseconds since 1970 (UTC where they name a zone) and a mask of the gaps, which are 0.

    Args:
        cells: Dates, or text that is ISO 8601 or follows ``pattern``.
        what: The column, for the error.
        pattern: The form of dates in text, as ``datetime.strptime`` takes it; None for ISO 8601 alone.

    Raises:
        ValueError: The cells are no dates, or some text is none.

    Example:
        >>> when, gap = moments(pa.chunked_array([["1970-01-02", None]]), "column 'day'")
        >>> when // (24 * 3600 * 1_000_000), gap
        (array([1, 0]), array([False,  True]))
    """
    cells = as_arrow(cells)
    found = family(cells, what)
    if found == "text":
        strings = texts(cells, what)
        parsed = parsed_dates(strings, pattern)
        if parsed is None:
            raise _stray(what, "dates", strings, lambda text: _is_date(text, pattern))
        cells = parsed
    elif found == "empty":
        cells = cells.cast(pa.timestamp("us"))
    elif found != "date":
        raise ValueError(message(what, "hold dates, as when it was fitted", f"{found}s, such as {_example(cells)}"))
    ticks = _ticks(cells)
    return (
        np.asarray(pc.fill_null(ticks, 0).to_numpy(), dtype=np.int64),
        np.asarray(ticks.is_null().to_numpy(), dtype=np.bool_),
    )


def parsed_numbers(strings: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Text as numbers, or None if some of it is none."""
    for candidate in (strings, pc.ascii_ltrim(strings, characters="+")):
        try:
            return candidate.cast(pa.float64())
        except pa.ArrowInvalid:
            continue
    return None


def whole_numbers(strings: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text as int64 if nothing of it is lost, else as it is.

    Example:
        >>> whole_numbers(pa.chunked_array([["7", "-1"]])).to_pylist()
        [7, -1]
        >>> whole_numbers(pa.chunked_array([["007", "12"]])).to_pylist()
        ['007', '12']
    """
    try:
        found = strings.cast(pa.int64())
    except pa.ArrowInvalid:
        return strings
    return found if found.cast(strings.type).equals(strings) else strings


def parsed_dates(strings: pa.ChunkedArray, pattern: str | None = None) -> pa.ChunkedArray | None:
    """Text as dates by ISO 8601 or ``pattern``, or None if some of it is neither."""
    for kind in (pa.timestamp("us"), pa.timestamp("us", "UTC")):
        try:
            return strings.cast(kind)
        except pa.ArrowInvalid:
            continue
    if pattern is None:
        return None
    encoded = strings.combine_chunks().dictionary_encode()
    try:
        known = [_utc(datetime.datetime.strptime(text, pattern)) for text in encoded.dictionary.to_pylist()]
    except (ValueError, OverflowError):
        return None
    return pa.chunked_array([pa.array(known, pa.timestamp("us")).take(encoded.indices)])


def as_arrow(cells: Cells) -> pa.ChunkedArray:
    """Numbers of a matrix as Arrow cells, NaN as nulls; Arrow cells as they are."""
    if isinstance(cells, np.ndarray):
        cells = pa.chunked_array([pa.array(np.ascontiguousarray(cells), from_pandas=True)])
    return cells


def decoded(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    """The values of dictionary-encoded cells."""
    kind = pa.large_string() if _is_text(cells.type.value_type) else cells.type.value_type
    return pa.chunked_array([chunk.dictionary.cast(kind).take(chunk.indices) for chunk in cells.chunks], kind)


def settled(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    """Cells of a type on which all of Arrow's functions work: string views (polars') become plain text."""
    if pa.types.is_dictionary(cells.type):
        levels = cells.type.value_type
        if pa.types.is_string_view(levels):
            return decoded(cells).dictionary_encode()
        return cells if _is_text(levels) or _is_plain(levels) else decoded(cells)
    return cells.cast(pa.large_string()) if pa.types.is_string_view(cells.type) else cells


def from_values(values: Any, name: str) -> pa.ChunkedArray:
    """Python objects (an object array's column, a pandas object column) as Arrow cells; numbers among text become text.

    Raises:
        TypeError: An object is neither number, text, date nor boolean.
        ValueError: An object is a complex number.

    Example:
        >>> from_values(np.array([1.0, "a", None], dtype=object), "'x'").to_pylist()
        ['1', 'a', None]
    """
    try:
        if isinstance(values, np.ndarray) and values.dtype.kind == "S":
            values = values.astype("U")
        found = pa.array(values, from_pandas=True)
    except (pa.ArrowException, OverflowError, ValueError, TypeError):
        found = pa.array([_as_text(value, name) for value in values], pa.large_string())
    return found if isinstance(found, pa.ChunkedArray) else pa.chunked_array([found])


def from_pandas(series: Any, name: str) -> pa.ChunkedArray:
    """A pandas column as Arrow cells. Periods and intervals become text, sparse columns dense."""
    kind = str(series.dtype)
    if kind.startswith("complex"):
        raise ValueError(message(f"column {name}", "hold real numbers", kind, "Complex data not supported."))
    if kind.startswith("Sparse"):
        series = series.sparse.to_dense()
    if kind.startswith(("period", "interval")):
        series = series.astype("string")
    return from_values(series, name)


def labels(cells: Cells, what: str) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """The labels in a column and the rows that have one (see ``Frame.labels``)."""
    cells = as_arrow(cells)
    found = family(cells, what)
    if found == "date":
        cells = cells.cast(pa.large_string())
    if found in ("text", "level"):
        cells = _label_texts(cells)
    present = ~np.asarray(cells.is_null(nan_is_null=True).to_numpy(), dtype=np.bool_)
    require(bool(present.any()), what, "hold at least one label", "gaps alone")
    kept = cells.filter(pa.array(present))
    if _is_text(kept.type):
        short = pc.max(pc.utf8_length(kept)).as_py() <= LONGEST_LABEL
        require(short, what, f"hold classes of at most {LONGEST_LABEL} characters", "longer text")
        return np.array(kept.to_pylist(), dtype=str), np.flatnonzero(present)
    values = np.asarray(kept.to_numpy() if _is_plain(kept.type) else numbers(kept, what))
    finite = values.dtype.kind != "f" or bool(np.isfinite(values).all())
    require(finite, what, "hold finite numbers", "infinity")
    return values, np.flatnonzero(present)


def _label_texts(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    """Labels as text: gaps as everywhere, only that "none" may well be a class."""
    plain = decoded(cells) if pa.types.is_dictionary(cells.type) else cells
    if not _is_text(plain.type):
        return texts(plain, "labels")
    plain = plain.cast(pa.large_string())
    none = pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(plain)), value_set=pa.array(["none"], pa.large_string()))
    return pc.if_else(none, pc.utf8_trim_whitespace(plain), texts(plain, "labels"))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_plain(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _is_number(kind: pa.DataType) -> bool:
    timed = pa.types.is_duration(kind) or pa.types.is_time(kind)
    whole = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    return bool(whole or pa.types.is_decimal(kind) or timed)


def _is_float(text: str) -> bool:
    return parsed_numbers(pa.chunked_array([[text]], pa.large_string())) is not None


def _is_date(text: str, pattern: str | None) -> bool:
    return parsed_dates(pa.chunked_array([[text]], pa.large_string()), pattern) is not None


def _utc(moment: datetime.datetime) -> datetime.datetime:
    return moment.astimezone(datetime.UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _ticks(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    return cells.cast(pa.timestamp("us", getattr(cells.type, "tz", None)), safe=False).cast(pa.int64())


def _example(cells: Cells) -> str:
    """One of the cells as text, for an error."""
    if isinstance(cells, np.ndarray):
        return shown(cells[0])
    some = cells.slice(0, 1000).drop_null()
    return shown(some[0].as_py()) if len(some) else "a gap"


def _stray(what: str, wanted: str, strings: pa.ChunkedArray, good: Any) -> ValueError:
    """The error for text where numbers or dates are wanted: names the first such value and its row."""
    distinct = strings.unique().drop_null().to_pylist()
    bad = next((text for text in distinct if not good(text)), distinct[0])
    row = strings.index(pa.scalar(bad, strings.type)).as_py()
    fix = "Correct the value or leave it empty."
    return ValueError(message(what, f"hold {wanted}, as when it was fitted", f"text, {shown(bad)} in row {row}", fix))


def _unfit(name: str, example: str, kind: object) -> TypeError:
    fix = "Each argument must be a string or a number, a date or a boolean."
    return TypeError(message(f"column {name}", "hold numbers, text, dates or booleans", f"{example} ({kind})", fix))


def _as_text(value: Any, name: str) -> str | None:
    """An object of a column of mixed types as text."""
    if isinstance(value, (complex, np.complexfloating)):
        raise ValueError(message(f"column {name}", "hold real numbers", value, "Complex data not supported."))
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()  # half a surrogate pair is no text to Arrow
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    if isinstance(value, (float, np.floating, decimal.Decimal)):
        signalling = isinstance(value, decimal.Decimal) and value.is_nan()  # which float() refuses
        number = math.nan if signalling else float(value)
        return cast("str | None", texts(np.array([number]), name)[0].as_py())
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()
    raise _unfit(name, shown(value), type(value).__name__)
