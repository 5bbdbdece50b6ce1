"""Pictures as a column of a Parquet file, or of a folder of Parquet parts."""

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

from vicreg._checks import listed, message, require, shown
from vicreg.data.corrupt import CorruptImage
from vicreg.data.decode import Opened, format_of, open_picture
from vicreg.data.image_source import ImageSource

KEPT = 2**30
"""More bytes of encoded pictures than this are copied to a temporary file and read from there."""
ROWS_AT_ONCE = 64
LOOKED_AT = 16
NAMES = ("image", "img", "jpeg", "jpg", "png", "picture", "photo", "bytes")
"""Which column is meant where several hold pictures: the first of these names."""
HASHED = 4096
"""A fingerprint takes in so many pictures, evenly spread."""


class ImageTable(ImageSource):
    """The pictures of a column: encoded, as bytes or as a structure with a field ``bytes`` (as Hugging Face has them).

    A path beside the bytes is not followed.

    A Parquet file cannot be read row by row. Up to 1 GiB of encoded pictures are kept in memory; more are copied, a few
    rows at a time, to a temporary file (``TMPDIR`` says where) that is mapped into memory and gone when the process is.

    Args:
        path: The file; or a folder of parts, taken in the order of their names.
        labels: The column with their classes (numbers, truth values or text); None for no labels.
        column: The column with the pictures; None for the only one that holds any, or the first of ``NAMES``.

    Raises:
        ValueError: There is no such column, a file is damaged, or there are no rows.
        TypeError: The column of labels holds lists, bytes or the like.

    Example:
        >>> from io import BytesIO
        >>> from PIL import Image
        >>> file = BytesIO()
        >>> Image.new("RGB", (6, 4)).save(file, "PNG")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "pets.parquet")
        ...     parquet.write_table(pa.table({"image": [file.getvalue()], "pet": ["cat"]}), path)
        ...     source = ImageTable(path, labels="pet")
        >>> source.names, source.labels.tolist(), source.picture(0).shape
        (['0'], ['cat'], (4, 6, 3))
    """

    def __init__(self, path: str | Path, labels: str | None = None, column: str | None = None) -> None:
        path = Path(path)
        parts = parts_of(path)
        schema = _schema(parts[0])
        known = encoded_columns(schema)
        wanted = column or _chosen(path, parts, known, schema)
        rule = f"hold pictures (bytes, or a structure with a field 'bytes') in {shown(wanted)}"
        require(wanted in known, _file(path), rule, f"the columns {listed(schema.names)}")
        inner = known[wanted]
        try:
            self._cells: pa.ChunkedArray = _column(parts, wanted, inner)
        except (pa.ArrowException, OSError, KeyError) as error:
            raise _damaged(path, error) from error
        require(len(self._cells) > 0, _file(path), "hold at least one row", "none")
        self.labels = None if labels is None else _labels(path, parts, labels)
        self.names = [str(row) for row in range(len(self._cells))]

    def opened(self, index: int) -> Opened:
        """One picture, its header read."""
        cell = self._cells[index]
        if not cell.is_valid:
            raise CorruptImage(self.names[index], "no bytes in its row")
        return open_picture(cell.as_py(), self.names[index])

    def evidence(self) -> Iterator[bytes]:
        """The number of rows, and the bytes of some."""
        yield str(len(self._cells)).encode()
        for index in range(0, len(self._cells), -(-len(self._cells) // HASHED)):
            cell = self._cells[index]
            yield hashlib.blake2b(cell.as_buffer() if cell.is_valid else b"").digest()


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
    """Columns that can hold encoded pictures, and the field that does: "" for the column itself.

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


def picture_columns(part: Path) -> list[str]:
    """Columns whose first few cells are indeed pictures.

    Raises:
        ValueError: The file is damaged.
    """
    return [name for name, inner in encoded_columns(_schema(part)).items() if _begins_with_picture(part, name, inner)]


def _schema(part: Path) -> pa.Schema:
    try:
        return parquet.read_schema(part)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(part, error) from error


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _begins_with_picture(part: Path, name: str, inner: str) -> bool:
    try:
        # Through a small buffer, a few pages are read of a row group that may be gigabytes.
        with parquet.ParquetFile(part, buffer_size=2**16) as file:
            batch = next(file.iter_batches(batch_size=LOOKED_AT, columns=[_path(name, inner)]), None)
            cells = [] if batch is None else _field(batch.column(name), inner).to_pylist()
    except (pa.ArrowException, OSError, KeyError) as error:
        raise _damaged(part, error) from error
    return any(cell is not None and format_of(cell) is not None for cell in cells)


def _chosen(path: Path, parts: Sequence[Path], known: dict[str, str], schema: pa.Schema) -> str:
    columns = [name for name in known if _begins_with_picture(parts[0], name, known[name])]
    rule = "have a column of pictures (bytes, or a structure with a field 'bytes')"
    require(len(columns) > 0, _file(path), rule, f"the columns {listed(schema.names)}")
    chosen = columns if len(columns) == 1 else [name for name in NAMES if name in columns][:1]
    fix = f"Call the one that is meant {shown(NAMES[0])}."
    require(len(chosen) > 0, _file(path), "have one column of pictures", listed(columns), fix)
    return chosen[0]


def _column(parts: Sequence[Path], name: str, inner: str) -> pa.ChunkedArray:
    """The encoded pictures of all parts: in memory, or in a file mapped into it."""
    if sum(_encoded_size(part, _path(name, inner)) for part in parts) <= KEPT:
        return pa.chunked_array(list(_batches(parts, name, inner)), pa.large_binary())
    # Where a mapped file can be removed, it is as soon as it is mapped, so that nothing is left behind by any end.
    with tempfile.TemporaryDirectory(prefix="vicreg-", ignore_cleanup_errors=True) as folder:
        path = str(Path(folder, "pictures.arrow"))
        schema = pa.schema({"bytes": pa.large_binary()})
        with pa.OSFile(path, "wb") as file, pa.ipc.new_file(file, schema) as writer:
            for cells in _batches(parts, name, inner):
                writer.write_batch(pa.record_batch([cells], schema=schema))
        return pa.ipc.open_file(pa.memory_map(path)).read_all().column(0)


def _batches(parts: Sequence[Path], name: str, inner: str) -> Iterator[pa.Array]:
    for part in parts:
        with parquet.ParquetFile(part, buffer_size=2**20) as file:
            for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, columns=[_path(name, inner)]):
                yield _field(batch.column(name), inner).cast(pa.large_binary())


def _field(cells: pa.Array, inner: str) -> pa.Array:
    return pc.struct_field(cells, inner) if inner else cells


def _path(name: str, inner: str) -> str:
    return f"{name}.{inner}" if inner else name


def _encoded_size(part: Path, path: str) -> int:
    data = parquet.read_metadata(part)
    groups = [data.row_group(i) for i in range(data.num_row_groups)]
    columns = [group.column(j) for group in groups for j in range(group.num_columns)]
    return sum(column.total_uncompressed_size for column in columns if column.path_in_schema == path)


def _labels(path: Path, parts: Sequence[Path], name: str) -> NDArray[Any]:
    cells: list[pa.Array] = []
    for part in parts:
        schema = _schema(part)
        known = f"the columns {listed(schema.names)}"
        require(name in schema.names, _file(part), f"have a column of labels {shown(name)}", known)
        try:
            with parquet.ParquetFile(part) as file:
                column = file.read(columns=[name]).column(name)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(part, error) from error
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        plain = pa.types.is_integer(kind) or pa.types.is_boolean(kind) or _is_text(kind) or pa.types.is_floating(kind)
        require(plain, f"the labels {shown(name)}", "be numbers, truth values or text", kind, error=TypeError)
        cells += column.cast(kind).chunks
    try:
        every = pa.concat_arrays(cells)
    except pa.ArrowException as error:
        raise ValueError(message(f"the labels {shown(name)} of {_file(path)}", "be of one type", str(error))) from error
    if every.null_count or _is_text(every.type):
        values = every.to_pylist()
        return np.asarray(values, dtype=object if every.null_count else np.str_)
    return np.asarray(every.to_numpy(zero_copy_only=False))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _damaged(path: Path, error: Exception) -> ValueError:
    said = str(error).strip().split("\n", 1)[0] or type(error).__name__
    fix = "Is it complete, and is it what its suffix says?"
    return ValueError(message(_file(path), "be a readable .parquet file", shown(said), fix))


def _file(path: Path) -> str:
    return f"the {'folder' if path.is_dir() else 'file'} {shown(str(path))}"
