"""Signals as a column of a Parquet file, or of a folder of Parquet parts: encoded recordings, or lists of numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import parquet

from vicreg._checks import check_integer, listed, message, require, shown
from vicreg.data.parts import (
    EncodedColumn,
    damaged_parquet,
    encoded_columns,
    first_cells,
    labels_of,
    only,
    parquet_in_words,
    parts_of,
    schema_of,
)
from vicreg.data.sampled import spread
from vicreg.data.signal_decode import open_sound, sound_format
from vicreg.data.signal_folder import common_rate, rates_of
from vicreg.data.signal_given import GivenSignals
from vicreg.data.signal_source import CorruptSignal, OpenedSignal, SignalSource

NAMES = ("audio", "sound", "wav", "wave", "speech", "signal", "series", "recording", "bytes")
"""Which column is meant where several hold signals: the first of these names."""

FORM = "recordings as bytes, or lists of numbers"

SHORTEST_LIST = 32
"""Lists of numbers are taken for signals by themselves if their first ones are so long: an embedding is a list, too,
but whoever means it says so."""


class SoundTable(SignalSource):
    """The recordings of a column: encoded, as bytes or as a structure with a field ``bytes``.

    Hugging Face has them so. A path beside the bytes is not followed. Where the bytes are kept, see
    :class:`vicreg.data.parts.EncodedColumn`.

    Args:
        path: The file; or a folder of parts, taken in the order of their names.
        labels: The column with their classes (numbers, truth values or text); None for no labels.
        column: The column with the recordings; None for the only one that holds any, or the first of ``NAMES``.
        rate: Samples a second that all are resampled to; None for that which most of some have.
        channels: That all shall have, as :class:`SoundFolder` has it.

    Raises:
        ValueError: There is no such column, a file is damaged, or there are no rows.
        TypeError: The column of labels holds lists, bytes or the like.

    Example:
        >>> import tempfile
        >>> from io import BytesIO
        >>> import soundfile
        >>> memory = BytesIO()
        >>> soundfile.write(memory, np.zeros(400), 8000, format="FLAC")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "pets.parquet")
        ...     parquet.write_table(pa.table({"audio": [memory.getvalue()], "pet": ["cat"]}), path)
        ...     source = SoundTable(path, labels="pet")
        >>> source.labels.tolist(), source.rate, source.read(0).shape
        (['cat'], 8000, (1, 400))
    """

    sound = True
    rate: int

    def __init__(
        self,
        path: str | Path,
        labels: str | None = None,
        column: str | None = None,
        rate: int | None = None,
        channels: int = 1,
    ) -> None:
        path = Path(path)
        wanted = column or only(path, sound_columns(parts_of(path)[0]), NAMES, self.what, FORM)
        self._column = EncodedColumn(path, wanted, "recordings")
        self.labels = None if labels is None else labels_of(path, labels)
        self.names = [str(row) for row in range(len(self._column))]
        self.channels = check_integer("channels", channels, 1)
        some = ((self._column.encoded(row) or b"", self.names[row]) for row in spread(len(self)))
        self.rates = rates_of(some) if rate is None else {}
        self.rate = common_rate(self.rates) if rate is None else check_integer("rate", rate, 1)

    def opened(self, index: int) -> OpenedSignal:
        """One recording, its header read."""
        encoded = self._column.encoded(index)
        if encoded is None:
            raise CorruptSignal(self.names[index], "no bytes in its row")
        return open_sound(encoded, self.names[index], self.rate, self.channels)

    def evidence(self) -> Iterator[bytes]:
        """The number of rows, and the bytes of some."""
        return self._column.evidence()


def sound_columns(part: Path) -> list[str]:
    """Columns whose first few cells are encoded recordings.

    Raises:
        ValueError: The file is damaged.
    """
    known = encoded_columns(schema_of(part))
    return [name for name, inner in known.items() if any(map(_is_recording, first_cells(part, name, inner)))]


def list_columns(part: Path) -> list[str]:
    """Columns whose cells are long lists of numbers, or lists of such: one for each channel.

    Raises:
        ValueError: The file is damaged.
    """
    fitting = [field.name for field in schema_of(part) if _is_numbers(field.type)]
    return [name for name in fitting if any(_longest(cell) >= SHORTEST_LIST for cell in first_cells(part, name, ""))]


def read_signal_lists(
    path: str | Path,
    labels: str | None = None,
    column: str | None = None,
    rate: float | None = None,
    sound: bool | None = None,
) -> GivenSignals:
    """The signals of a Parquet column whose cells are lists of numbers (or one list for each channel), kept in memory.

    Args:
        path: The file; or a folder of parts, taken in the order of their names.
        labels: The column with their classes.
        column: The column with the signals; None for the only one whose first lists are of 32 numbers at least, or
            the first of ``NAMES``.
        rate: Samples a second, if they are known.
        sound: As :class:`GivenSignals` has it.

    Raises:
        ValueError: There is no such column, a file is damaged, or the signals differ in channels.
        TypeError: The column of labels holds lists, bytes or the like.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "steps.parquet")
        ...     parquet.write_table(pa.table({"series": [[0.5] * 40, [1.0] * 50]}), path)
        ...     source = read_signal_lists(path)
        >>> source.length(1), source.read(0).shape
        (50, (1, 40))
    """
    path = Path(path)
    parts = parts_of(path)
    schema = schema_of(parts[0])
    wanted = column or only(path, list_columns(parts[0]), NAMES, "signals", FORM)
    right = wanted in schema.names and _is_numbers(schema.field(wanted).type)
    rule = f"hold lists of numbers in {shown(wanted)}"
    require(right, parquet_in_words(path), rule, f"the columns {listed(schema.names)}")
    items: list[NDArray[Any]] = []
    faults: dict[int, tuple[str, str]] = {}
    for part in parts:
        try:
            with parquet.ParquetFile(part) as file:
                cells = file.read(columns=[wanted]).column(wanted)
        except (pa.ArrowException, OSError, KeyError) as error:
            raise damaged_parquet(part, error) from error
        for chunk in cells.chunks:
            for item, fault in _signals(chunk):
                if fault:
                    faults[len(items)] = fault
                items.append(item)
    require(len(items) > 0, parquet_in_words(path), "hold at least one row", "none")
    whole = next((item for index, item in enumerate(items) if index not in faults), None)
    if whole is None:
        raise ValueError(message(parquet_in_words(path), rule, "no whole one"))
    for index in faults:
        items[index] = whole[..., :0]
    return GivenSignals(items, None if labels is None else labels_of(path, labels), rate, None, sound, faults)


def _is_recording(cell: bytes | None) -> bool:
    return cell is not None and sound_format(cell) is not None


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_numbers(kind: pa.DataType, depth: int = 2) -> bool:
    """Whether a type is a list of numbers, or a list of such lists."""
    if not _is_list(kind):
        return False
    inner = kind.value_type
    return bool(pa.types.is_integer(inner) or pa.types.is_floating(inner)) or (depth > 1 and _is_numbers(inner, 1))


def _longest(cell: Any) -> int:
    """Numbers of a list, or of the first list in it."""
    if not cell:
        return 0
    return len(cell[0] or ()) if isinstance(cell[0], list) else len(cell)


def _signals(cells: pa.Array) -> Iterator[tuple[NDArray[Any], tuple[str, str] | None]]:
    """Each cell as (time,) or (channels, time), and what is wrong with it."""
    nested = _is_list(cells.type.value_type)
    for cell in cells:
        found = cell.values if cell.is_valid else None
        if found is None:
            yield np.empty(0, np.float32), ("be readable", "no list in its row")
        elif not nested:
            yield _numbers(found), None
        else:
            lengths = set(pc.list_value_length(found).to_pylist())
            if len(lengths) == 1 and None not in lengths:
                yield _numbers(found.flatten()).reshape(len(found), -1), None
            else:
                yield np.empty(0, np.float32), ("have channels of equal length", shown(sorted(lengths, key=str)))


def _numbers(cells: pa.Array) -> NDArray[Any]:
    """Gaps become NaN."""
    return np.asarray(cells.to_numpy(zero_copy_only=False))
