"""Tables from files: CSV, TSV, Parquet, Feather and NumPy's own."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import csv, feather, parquet

from vicreg._checks import listed, message, require, shown
from vicreg.data import cells
from vicreg.data.frame import Frame, as_frame

LARGEST_BLOCK = 2**31 - 1
"""Types are found from so many bytes of a CSV, its whole in all but extreme cases."""

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
MATRIX_KEYS = ("X", "x", "data")


@dataclass(frozen=True)
class Wanted:
    """What a reader shall not guess of a CSV's columns.

    Attributes:
        text: These are text.
        exact: These are read without loss: as int64 where every cell is the plain form of one, else as text.
    """

    text: Collection[str] = ()
    exact: Collection[str] = ()


Reader = Callable[[Path, Wanted], Frame]


def read_table(path: str | Path, text: Collection[str] = (), exact: Collection[str] = ()) -> Frame:
    r"""Read a table from a file, or from a folder of Parquet parts.

    The suffix names the format (``SUFFIXES``). A CSV is UTF-8, and a column's type is found from all of it. A ``.npz``
    holds one 2-D array (or several, of which one is called X, x or data); its 1-D arrays of the same length, labels for
    instance, become columns of their names, and whatever else it holds is left out. Nothing is unpickled.

    Args:
        path: The file or folder.
        text: Columns of a CSV or TSV to read as text whatever they look like (``TableSpec.text_names``).
        exact: Columns of a CSV or TSV to read without loss: as whole numbers if every cell is the plain form of one
            (no leading zeros, no plus, no blanks, within 64 bits), else as text, letter by letter.

    Returns:
        The table.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read as a table: unknown suffix, empty, damaged, ragged, wrong separator or encoding,
            repeated column names.
        TypeError: A column holds lists, bytes or the like.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "people.csv"
        ...     _ = path.write_text("age,city\n31,Bonn\n,Lyon\n")
        ...     read_table(path).names
        ('age', 'city')
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(message(_named(path), "exist", "no such file or folder"))
    if path.is_dir():
        return _read_parts(path)
    reader = SUFFIXES.get(_suffix(path))
    if reader is None:
        raise ValueError(message(_named(path), f"end in one of {', '.join(SUFFIXES)}", shown(_suffix(path))))
    require(path.stat().st_size > 0, _named(path), "hold a table", "an empty file")
    return reader(path, Wanted(text, exact))


def source_name(path: str | Path) -> str:
    """What a table is called: its file's or folder's name without the suffix that names the format.

    Example:
        >>> source_name("data/sales.2024.csv.gz"), source_name("parts")
        ('sales.2024', 'parts')
    """
    name = Path(os.path.abspath(path)).name  # noqa: PTH100  # "." has a name, and resolve() would follow links
    suffix = next((one for one in SUFFIXES if name.lower().endswith(one)), "")
    return name[: len(name) - len(suffix)] or "table"


def _read_csv(path: Path, wanted: Wanted) -> Frame:
    return _read_delimited(path, ",", wanted)


def _read_tsv(path: Path, wanted: Wanted) -> Frame:
    return _read_delimited(path, "\t", wanted)


def _read_delimited(path: Path, separator: str, wanted: Wanted) -> Frame:
    with _reading(path):
        data = gzip.decompress(path.read_bytes()) if path.suffix.lower() == ".gz" else path.read_bytes()
    _check_header(path, data, separator)
    _check_quotes(path, data, separator)
    try:
        with _reading(path):
            table = csv.read_csv(
                pa.BufferReader(data),
                read_options=csv.ReadOptions(block_size=min(len(data) + 1, LARGEST_BLOCK)),
                parse_options=csv.ParseOptions(delimiter=separator, newlines_in_values=True),
                # A marker of a gap does not stop a column from being numbers; in text it stays what it is.
                convert_options=csv.ConvertOptions(
                    null_values=list(cells.GAPS),
                    column_types=dict.fromkeys([*wanted.text, *wanted.exact], pa.string()),
                ),
            )
            names = table.column_names
    except ValueError as error:
        if isinstance(error.__cause__, UnicodeError) or "invalid UTF8" in str(error):
            raise _encoding(path) from error
        raise
    if any(pa.types.is_binary(kind) for kind in table.schema.types):
        raise _encoding(path)
    require(table.num_rows > 0, _named(path), "hold at least one row", f"the header alone ({listed(names)})")
    for index in [index for index, name in enumerate(names) if name in wanted.exact]:
        table = table.set_column(index, names[index], cells.whole_numbers(table.column(index)))
    return as_frame(table)


def _check_header(path: Path, data: bytes, separator: str) -> None:
    """The file is not blank, not in another encoding and not divided by another separator."""
    require(len(data.strip()) > 0, _named(path), "hold a table", "an empty file")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _encoding(path)
    header = data.lstrip().split(b"\n", 1)[0].decode(errors="replace")
    if separator not in header:
        for other in SEPARATORS:
            fix = "Convert the file, or give it the other suffix." if other in ",\t" else "Convert the file."
            rule = f"have columns divided by {SEPARATORS[separator]}"
            require(other not in header, _named(path), rule, f"{SEPARATORS[other]} in the header {shown(header)}", fix)


def _check_quotes(path: Path, data: bytes, separator: str) -> None:
    """Every quoted cell ends: an open quote would swallow all rows after it."""
    if data.count(b'"') % 2 == 0:
        return
    start = rb"(?:\A|[\r\n" + re.escape(separator.encode()) + rb"])"
    opened = re.search(start + b'"', re.sub(start + rb'"(?:[^"]|"")*"', b"", data))
    got, fix = "a cell that opens with a quotation mark and has none at its end", "Close or double the mark."
    require(opened is None, _named(path), "close every quoted cell", got, fix)


def _read_parquet(path: Path, _: Wanted) -> Frame:
    with _reading(path):
        # A plain file, so that pyarrow reads no meaning into the names of folders above it.
        table = parquet.ParquetFile(path).read()
        table.validate(full=True)
    return _from_table(path, table)


def _read_feather(path: Path, _: Wanted) -> Frame:
    with _reading(path):
        table = feather.read_table(path)
        table.validate(full=True)
    return _from_table(path, table)


def _read_parts(folder: Path) -> Frame:
    parts = sorted(part for part in folder.glob("*.parquet") if not part.name.startswith((".", "_")))
    require(len(parts) > 0, f"the folder {shown(str(folder))}", "hold parts that end in .parquet", "none")
    tables = []
    for part in parts:
        with _reading(part):
            tables.append(parquet.ParquetFile(part).read())
        first, names = tables[0].column_names, tables[-1].column_names
        same = sorted(names) == sorted(first)
        require(same, _named(part), f"have the columns of the first part ({listed(first)})", listed(names))
    with _reading(folder):
        table = pa.concat_tables(tables, promote_options="permissive")
        table.validate(full=True)
    return _from_table(folder, table)


def _from_table(path: Path, table: pa.Table) -> Frame:
    """A table as stored; the nameless index that pandas may have written is no column."""
    kept = [i for i, name in enumerate(table.column_names) if not name.startswith("__index_level_")]
    require(len(kept) > 0 and table.num_rows > 0, _named(path), "hold rows and columns", f"shape {table.shape}")
    return as_frame(table if len(kept) == table.num_columns else table.select(kept))


def _read_npy(path: Path, _: Wanted) -> Frame:
    with _reading(path), path.open("rb") as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
    return as_frame(array)


def _read_npz(path: Path, _: Wanted) -> Frame:
    with _reading(path), path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        arrays = {key: np.asarray(archive[key]) for key in archive.files}
    require(len(arrays) > 0, _named(path), "hold an array", "none")
    if len(arrays) == 1:
        return as_frame(next(iter(arrays.values())))
    matrices = [key for key, array in arrays.items() if array.ndim == 2]
    chosen = matrices if len(matrices) == 1 else [key for key in MATRIX_KEYS if key in matrices][:1]
    shapes = ", ".join(f"{shown(key)} {array.shape}" for key, array in arrays.items())
    if not chosen:
        fix = "Save the table as X and its labels as y."
        rule = "hold one array with two axes, or one with two axes that is called X, x or data"
        raise ValueError(message(_named(path), rule, shapes, fix))
    frame = as_frame(arrays.pop(chosen[0]))
    extra = {key: array for key, array in arrays.items() if array.shape == (frame.n_rows,)}
    return _beside(frame, extra)


def _beside(frame: Frame, extra: dict[str, npt.NDArray[Any]]) -> Frame:
    """The frame of an array with named columns beside it."""
    if not extra:
        return frame
    names = (*frame.names, *extra)
    require(len(set(names)) == len(names), "names of arrays", "differ from x0, x1, ...", listed(extra))
    own = [cells.as_arrow(frame.column_at(i)) for i in range(len(frame.names))]
    added = [cells.from_values(array, shown(key)) for key, array in extra.items()]
    for key, column in zip(extra, added, strict=True):
        cells.family(column, shown(key))
    return Frame(names, pa.table([*own, *added], names=list(names)), named=False)


SUFFIXES: dict[str, Reader] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".csv.gz": _read_csv,
    ".tsv.gz": _read_tsv,
    ".parquet": _read_parquet,
    ".feather": _read_feather,
    ".npy": _read_npy,
    ".npz": _read_npz,
}
"""What reads a file of which suffix. A folder holds Parquet parts."""


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn whatever a library says of a damaged file into one form.

    Decoders fed with arbitrary bytes raise nearly anything (also MemoryError, for a header that claims too much), hence
    the wide net; only their calls stand inside.
    """
    try:
        yield
    except Exception as error:
        said = str(error).strip().split("\n", 1)[0] or type(error).__name__
        fix = "Is it complete, and is it what its suffix says?"
        rule = f"be a readable {_suffix(path) or 'table'} file"
        raise ValueError(message(_named(path), rule, shown(said), fix)) from error


def _encoding(path: Path) -> ValueError:
    fix = "Save it as UTF-8, for example with iconv -f ISO-8859-1 -t UTF-8."
    return ValueError(message(_named(path), "be encoded in UTF-8", "another encoding", fix))


def _named(path: Path) -> str:
    return f"the file {shown(str(path))}"


def _suffix(path: Path) -> str:
    """The last suffix in lower case, of a compressed file with the one before it."""
    last = path.suffix.lower()
    return Path(path.stem).suffix.lower() + last if last == ".gz" else last
