"""Embedding the rows of a table with a finished run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vicreg import runs
from vicreg._checks import require, shown
from vicreg.data import Frame, read_table
from vicreg.inference import Embedder, load_as
from vicreg.runs import Run
from vicreg.workflows.about import columns_of, read_about

Say = Callable[[str], None]


def embed(folder: Path, source: Path, out: Path, say: Say = print) -> None:
    """Embed the rows of a table and write them, with the id columns, as Parquet.

    Args:
        folder: A finished run.
        source: The table: the fit's columns by name; those that the fit set aside may be there or not.
        out: The Parquet file to write, replaced whole or not at all.
        say: Told in words what was done.
    """
    require(out.suffix == ".parquet", "--out", "name a .parquet file", shown(str(out)))
    check_apart(out, source, folder)
    embedder, columns = load_as(Embedder, folder), columns_of(Run(folder), read_about(Run(folder)))
    frame = read_table(source, text=embedder.spec.text_names, exact=columns.id)
    z = embedder.transform(frame, ignore=columns.set_aside)
    write_embeddings(out, z, frame, tuple(name for name in columns.id if name in frame.names))
    say(f"Wrote {len(z):,} rows of {z.shape[1]} numbers to {out}.")


def check_apart(out: Path, source: Path, folder: Path) -> None:
    """Check that what is read is not written over.

    Raises:
        ValueError: ``out`` is the source, the run, or in one of them.
    """
    place = out.resolve()
    for what, taken in (("the run", folder.resolve()), ("the source", source.resolve())):
        apart = place != taken and taken not in place.parents
        require(apart, "--out", f"be apart from {what}", shown(str(out)), "Name another file.")


def write_embeddings(path: Path, z: NDArray[np.float32], frame: Frame, id_columns: tuple[str, ...]) -> None:
    """The id columns and the embedding's dimensions (vicreg0, vicreg1, ...) as a Parquet file."""
    names = [f"vicreg{index}" for index in range(z.shape[1])]
    arrays = [pa.array(frame.column(name)) for name in id_columns]
    table = pa.table([*arrays, *(pa.array(column) for column in z.T)], names=[*id_columns, *names])
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer)
    runs.write_atomically(path, buffer.getvalue())
