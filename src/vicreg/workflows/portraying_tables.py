"""What a run on a table leaves for its report at its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from vicreg.data import Frame, TableSpec
from vicreg.data.cells import moments, numbers
from vicreg.inference import Embedder, Influence, column_influence
from vicreg.portrait import Portrait, as_colour, as_time, write_influence
from vicreg.workflows.about import Columns, inputs
from vicreg.workflows.portraying import MOST_COLOURS, Shown, draw_map, label_colour, some_rows
from vicreg.workflows.recording import Attempts


def portray_table(
    portrait: Portrait,
    frame: Frame,
    columns: Columns,
    held: NDArray[np.bool_],
    embedder: Embedder,
    x: NDArray[np.float32],
    z: NDArray[np.float32],
    attempts: Attempts,
) -> None:
    """Write the columns' influence, the map and the neighbours.

    Args:
        portrait: Where.
        frame: All rows.
        columns: Which of its columns are no inputs.
        held: (n,) rows that no fit saw.
        embedder: The run's.
        x: Vectorised rows of the fit.
        z: (n, k) the embedding of every row.
        attempts: Takes what fails.
    """
    found = attempts("the columns' influence", lambda: _influence(portrait, embedder, x))
    order = range(len(embedder.spec.columns)) if found is None else found.order().tolist()
    attempts("the map", lambda: draw_map(portrait, _shown(frame, columns, held, embedder, z, order), attempts))


def _influence(portrait: Portrait, embedder: Embedder, x: NDArray[np.float32]) -> Influence:
    found = column_influence(embedder.encoder, embedder.spec, x)
    write_influence(portrait.influence, found.columns, found.permutation, found.jacobian, found.components)
    return found


def _shown(
    frame: Frame,
    columns: Columns,
    held: NDArray[np.bool_],
    embedder: Embedder,
    z: NDArray[np.float32],
    order: Sequence[int],
) -> Shown:
    rows = some_rows(frame.n_rows)
    some = frame.take(rows)
    colours = {} if columns.labels is None else {columns.labels: label_colour(some.column(columns.labels))}
    for index in order:
        if len(colours) == MOST_COLOURS:
            break
        name = embedder.spec.columns[index].name
        colours |= {name: colour_of(embedder.spec, index, some)} if name not in colours else {}
    what = "its vectorised columns"
    raw = embedder.vectorise(inputs(some, columns))
    device = next((one.device for one in embedder.encoder.parameters()), torch.device("cpu"))
    return Shown(_items(some, columns, rows), rows, held[rows], z[rows], raw, what, colours, frame.n_rows, device)


def colour_of(spec: TableSpec, index: int, frame: Frame) -> pa.Array:
    """A source column as colours: numbers and dates as such, whatever they are stored as; all else as text.

    Args:
        spec: What the columns were taken for.
        index: The column's among them.
        frame: The rows.
    """
    column = spec.columns[index]
    cells: Any = frame.column(column.name)
    if column.kind in ("number", "discrete"):
        return as_colour(numbers(cells, column.name))
    if column.kind == "date":
        return as_time(*moments(cells, column.name, getattr(column, "pattern", None)))
    return as_colour(cells)


def _items(frame: Frame, columns: Columns, rows: NDArray[np.int64]) -> list[str]:
    """The ids of rows, or their numbers in the source."""
    if not columns.id:
        return [str(row) for row in rows.tolist()]
    cells = [as_colour(frame.column(name), as_text=True).to_pylist() for name in columns.id]
    return [" ".join("" if one is None else one for one in row) for row in zip(*cells, strict=True)]
