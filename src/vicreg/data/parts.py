"""Columns of a Parquet file, or of a folder of Parquet parts, that hold encoded samples; and their labels."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import parquet

from vicreg._checks import listed, message, near, require, shown

KEPT = 2**30
"""More bytes of encoded samples than this are copied to a temporary file and read from there."""
ROWS_AT_ONCE = 64
LOOKED_AT = 16
HASHED = 4096
"""A fingerprint takes in so many samples, evenly spread."""


class EncodedColumn:
    """The encoded samples of a column: bytes, or a structure with a field ``bytes`` (as Hugging Face has them).

    A path beside the bytes is not followed. A Parquet file cannot be read row by row. Up to 1 GiB of encoded samples
    are kept in memory; more are copied, a few rows at a time, to a temporary file (``TMPDIR`` says where) that is
    mapped into memory and gone when the process is.

    Args:
        path: The file; or a folder of parts, taken in the order of their names.
        name: The column.
        what: What the samples are called.

    Raises:
        ValueError: There is no such column, a file is damaged, or there are no rows.
    """

    def __init__(self, path: Path, name: str, what: str) -> None:
        parts = parts_of(path)
        schema = schema_of(parts[0])
        known = encoded_columns(schema)
        rule = f"hold {what} (bytes, or a structure with a field 'bytes') in {shown(name)}"
        require(name in known, parquet_in_words(path), rule, f"the columns {listed(schema.names)}")
        try:
            self._cells = _cells(parts, name, known[name])
        except (pa.ArrowException, OSError, KeyError) as error:
            raise damaged_parquet(path, error) from error
        require(len(self._cells) > 0, parquet_in_words(path), "hold at least one row", "none")

    def __len__(self) -> int:
        return len(self._cells)

    def encoded(self, row: int) -> bytes | None:
        """A sample's bytes, if there are any."""
        cell = self._cells[row]
        return cell.as_py() if cell.is_valid else None

    def evidence(self) -> Iterator[bytes]:
        """The number of rows, and the bytes of some."""
        yield str(len(self)).encode()
        for row in range(0, len(self), -(-len(self) // HASHED)):
            cell = self._cells[row]
            yield hashlib.blake2b(cell.as_buffer() if cell.is_valid else b"").digest()


def only(path: Path, columns: Sequence[str], names: Sequence[str], what: str, form: str) -> str:
    """The one column of several that is meant: the only one, or the first of some names.

    Args:
        path: The file; or a folder of parts.
        columns: Those that would do.
        names: The usual names.
        what: What they hold.
        form: What such a column is.

    Raises:
        ValueError: There are none, or several by other names.
    """
    got = f"the columns {listed(schema_of(parts_of(path)[0]).names)}"
    require(len(columns) > 0, parquet_in_words(path), f"have a column of {what} ({form})", got)
    chosen = columns if len(columns) == 1 else [name for name in names if name in columns][:1]
    fix = f"Call the one that is meant {shown(names[0])}."
    require(len(chosen) > 0, parquet_in_words(path), f"have one column of {what}", listed(columns), fix)
    return chosen[0]


def parts_of(path: Path) -> list[Path]:
    """A Parquet file by itself, or the parts in a folder, in order.

    Raises:
        ValueError: The folder holds none.
    """
    if not path.is_dir():
        return [path]
    parts = sorted(part for part in path.glob("*.parquet") if not part.name.startswith((".", "_")))
    require(len(parts) > 0, f"the folder {shown(str(path))}", "hold parts that end in .parquet", "none")
    return parts


def encoded_columns(schema: pa.Schema) -> dict[str, str]:
    """Columns that can hold encoded samples, and the field that does: "" for the column itself.

    Example:
        >>> struct = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        >>> encoded_columns(pa.schema({"image": struct, "jpeg": pa.binary(), "label": pa.int64()}))
        {'image': 'bytes', 'jpeg': ''}
    """
    found = {}
    for field in schema:
        if _is_bytes(field.type):
            found[field.name] = ""
        elif pa.types.is_struct(field.type) and any(one.name == "bytes" and _is_bytes(one.type) for one in field.type):
            found[field.name] = "bytes"
    return found


def schema_of(part: Path) -> pa.Schema:
    """The columns of a part.

    Raises:
        ValueError: The file is damaged.
    """
    try:
        return parquet.read_schema(part)
    except (pa.ArrowException, OSError) as error:
        raise damaged_parquet(part, error) from error


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _inner(cells: pa.Array, inner: str) -> pa.Array:
    return pc.struct_field(cells, inner) if inner else cells


def _path(name: str, inner: str) -> str:
    return f"{name}.{inner}" if inner else name


def _encoded_size(part: Path, path: str) -> int:
    data = parquet.read_metadata(part)
    groups = [data.row_group(i) for i in range(data.num_row_groups)]
    columns = [group.column(j) for group in groups for j in range(group.num_columns)]
    return sum(column.total_uncompressed_size for column in columns if column.path_in_schema == path)


def labels_of(path: Path, name: str) -> NDArray[Any]:
    """A column of labels, as text or numbers; with gaps, an array of objects in which None stands for them.

    Args:
        path: The file; or a folder of parts.
        name: The column.

    Raises:
        ValueError: There is no such column, or a file is damaged.
        TypeError: The column holds lists, bytes or the like.
    """
    cells: list[pa.Array] = []
    for part in parts_of(path):
        schema = schema_of(part)
        known = f"the columns {listed(schema.names)}"
        fix = near(name, schema.names)
        require(name in schema.names, parquet_in_words(part), f"have a column of labels {shown(name)}", known, fix)
        try:
            with parquet.ParquetFile(part) as file:
                column = file.read(columns=[name]).column(name)
        except (pa.ArrowException, OSError) as error:
            raise damaged_parquet(part, error) from error
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        plain = pa.types.is_integer(kind) or pa.types.is_boolean(kind) or _is_text(kind) or pa.types.is_floating(kind)
        require(plain, f"the labels {shown(name)}", "be numbers, truth values or text", kind, error=TypeError)
        cells += column.cast(kind).chunks
    try:
        every = pa.concat_arrays(cells)
    except pa.ArrowException as error:
        what = f"the labels {shown(name)} of {parquet_in_words(path)}"
        raise ValueError(message(what, "be of one type", str(error))) from error
    if every.null_count or _is_text(every.type):
        values = every.to_pylist()
        return np.asarray(values, dtype=object if every.null_count else np.str_)
    return np.asarray(every.to_numpy(zero_copy_only=False))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def damaged_parquet(path: Path, error: Exception) -> ValueError:
    """The error that tells of a file that cannot be read."""
    said = str(error).strip().split("\n", 1)[0] or type(error).__name__
    fix = "Is it complete, and is it what its suffix says?"
    return ValueError(message(parquet_in_words(path), "be a readable .parquet file", shown(said), fix))


def parquet_in_words(path: Path) -> str:
    """What a path is, and its name, for errors."""
    return f"the {'folder' if path.is_dir() else 'file'} {shown(str(path))}"


def first_cells(part: Path, name: str, inner: str = "") -> list[Any]:
    """The first few cells of a column, or of a field in it.

    Raises:
        ValueError: The file is damaged.
    """
    try:
        # Through a small buffer, a few pages are read of a row group that may be gigabytes.
        with parquet.ParquetFile(part, buffer_size=2**16) as file:
            batch = next(file.iter_batches(batch_size=LOOKED_AT, columns=[_path(name, inner)]), None)
            return [] if batch is None else list(_inner(batch.column(name), inner).to_pylist())
    except (pa.ArrowException, OSError, KeyError) as error:
        raise damaged_parquet(part, error) from error


def _cells(parts: Sequence[Path], name: str, inner: str) -> pa.ChunkedArray:
    """The encoded samples of all parts: in memory, or in a file mapped into it."""
    if sum(_encoded_size(part, _path(name, inner)) for part in parts) <= KEPT:
        return pa.chunked_array(list(_batches(parts, name, inner)), pa.large_binary())
    # Where a mapped file can be removed, it is as soon as it is mapped, so that nothing is left behind by any end.
    with tempfile.TemporaryDirectory(prefix="vicreg-", ignore_cleanup_errors=True) as folder:
        path = str(Path(folder, "samples.arrow"))
        schema = pa.schema({"bytes": pa.large_binary()})
        with pa.OSFile(path, "wb") as file, pa.ipc.new_file(file, schema) as writer:
            for cells in _batches(parts, name, inner):
                writer.write_batch(pa.record_batch([cells], schema=schema))
        return pa.ipc.open_file(pa.memory_map(path)).read_all().column(0)


def _batches(parts: Sequence[Path], name: str, inner: str) -> Iterator[pa.Array]:
    for part in parts:
        with parquet.ParquetFile(part, buffer_size=2**20) as file:
            for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, columns=[_path(name, inner)]):
                yield _inner(batch.column(name), inner).cast(pa.large_binary())
