"""Find out which columns of text are dates. The one file that needs pandas and skrub (``vicreg[table]``)."""

from __future__ import annotations

import pyarrow as pa

MOST = 10_000
"""So many distinct values, evenly spread, are looked at; the form found must then fit every cell."""


def date_patterns(columns: dict[str, pa.ChunkedArray]) -> dict[str, str]:
    """The form of the dates (as ``strptime`` takes it) in those columns of text that hold dates, by skrub's Cleaner.

    Args:
        columns: Cells as ``cells.texts`` gives them, gaps as nulls, by name.

    Raises:
        ImportError: pandas or skrub is not installed.

    Example:
        >>> words = pa.chunked_array([["red", "green", "blue"]])
        >>> days = pa.chunked_array([["03/05/2024", "23/05/2024", None]])
        >>> date_patterns({"colour": words, "day": days})
        {'day': '%d/%m/%Y'}
    """
    try:
        import pandas as pd
        from skrub import Cleaner
    except ImportError as error:
        raise ImportError("Columns of text need pandas and skrub: pip install 'vicreg[table]'.") from error
    distinct = {str(i): _spread(cells.unique().drop_null()) for i, cells in enumerate(columns.values())}
    samples = pd.DataFrame({key: pd.Series(values, dtype=object) for key, values in distinct.items()})
    cleaner = Cleaner()
    cleaner.fit_transform(samples)
    formats = {
        key: step.format_
        for key, steps in cleaner.all_processing_steps_.items()
        for step in steps
        if type(step).__name__ == "ToDatetime"
    }
    return {name: formats[str(i)] for i, name in enumerate(columns) if formats.get(str(i))}


def _spread(values: pa.Array) -> list[str]:
    step = -(-len(values) // MOST) or 1
    return [value.as_py() for value in values[::step]]
