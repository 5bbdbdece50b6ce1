"""Hashes: of a table's content (did the data of a run change?) and of its rows (did a fit see this one?)."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from vicreg.data import cells as read
from vicreg.data.cells import Cells
from vicreg.data.frame import Frame

ROWS_AT_ONCE = 2**17

ROUNDED_TO = np.float32(1024)
"""Parts of a unit that rows are told apart by: far coarser than float32, far finer than a difference that matters."""


def fingerprint(frame: Frame) -> str:
    """A hash of names and cells that is the same whichever file or frame the table came from, where types agree.

    Numbers and truth values count as float64, dates as microseconds, text without surrounding blanks; gaps are gaps.

    Args:
        frame: The table.

    Returns:
        32 hexadecimal digits (BLAKE2b of 16 bytes).

    Example:
        >>> from vicreg.data.frame import as_frame
        >>> fingerprint(as_frame([[1, 2]])) == fingerprint(as_frame(np.array([[1.0, 2.0]], np.float32)))
        True
    """
    digest = hashlib.blake2b(digest_size=16)
    for i, name in enumerate(frame.names):
        cells = frame.column_at(i)
        family = "number" if isinstance(cells, np.ndarray) else read.family(cells, name)
        digest.update(repr((name, frame.n_rows)).encode("utf-8", "backslashreplace"))
        for part in _canonical(cells, family):
            digest.update(part)
    return digest.hexdigest()


def row_hashes(matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.uint64]:
    """A 64-bit hash of every row: equal rows have equal hashes, others (all but surely) different ones.

    Rows are equal if all their features are, each rounded to a 1024th of its unit (of a standard deviation, for
    numbers). So a table that went through float32 or a text file keeps its rows, all but the few of which a feature
    lies so near the middle between two roundings that the last digits tip it (one in a thousand or fewer for ordinary
    columns; more where a mean is many deviations large).

    Each rounded cell is mixed with its column's number (the finaliser of SplitMix64; Steele, Lea and Flood, OOPSLA
    2014) and the row is the mix of the sum, so hashes are the same on every machine.

    Args:
        matrix: Finite features of shape (n, p), within +-1e6 as ``TableSpec.apply`` gives them.

    Returns:
        Hashes of shape (n,).

    Example:
        >>> hashes = row_hashes(np.array([[1, 2], [2, 1], [1, 2]], np.float32))
        >>> bool(hashes[0] == hashes[2]), bool(hashes[0] == hashes[1])
        (True, False)
    """
    n, p = matrix.shape
    keys = _mixed(np.arange(1, p + 1, dtype=np.uint64))
    hashes = np.empty(n, np.uint64)
    step = max(1, ROWS_AT_ONCE // max(p, 1))
    for start in range(0, n, step):
        block = np.asarray(matrix[start : start + step], dtype=np.float32) * ROUNDED_TO
        bits = np.rint(block).astype(np.int64).view(np.uint64) ^ keys
        hashes[start : start + step] = _mixed(_mixed(bits).sum(axis=1, dtype=np.uint64))
    return hashes


def _mixed(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    bits = bits + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        bits ^= bits >> np.uint64(shift)
        bits *= np.uint64(factor)
    bits ^= bits >> np.uint64(31)
    return bits


def _canonical(cells: Cells, family: str) -> list[Any]:
    """The cells as bytes that do not depend on how they were stored."""
    if family == "date":
        ticks, gap = read.moments(cells, "a column")
        return [ticks, gap]
    if family in ("text", "level"):
        strings = read.texts(cells, "a column").combine_chunks()
        lengths = pc.fill_null(pc.binary_length(strings), -1).cast(pa.int64())
        text = "".join(pc.fill_null(strings, "").to_pylist())
        return [np.ascontiguousarray(lengths.to_numpy()), text.encode()]
    numbers = np.full(len(cells), np.nan) if family == "empty" else read.numbers(cells, "a column") + 0.0
    numbers[np.isnan(numbers)] = np.nan
    return [numbers]
