"""The files in ``RUN/portrait``, each of which may be missing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from torch import Tensor

from vicreg import runs


@dataclass(frozen=True)
class Portrait:
    """The folder and the names of the files in it."""

    folder: Path

    @property
    def start(self) -> Path:
        """Snapshots of the first step's batch (:func:`vicreg.portrait.snapshot`), before any learning."""
        return self.folder / "start.safetensors"

    @property
    def end(self) -> Path:
        """The same of the last step's batch."""
        return self.folder / "end.safetensors"

    @property
    def looks(self) -> Path:
        """What the monitor saw by step, with time, learning rate and throughput."""
        return self.folder / "looks.csv"

    @property
    def map(self) -> Path:
        """A row for each item that is shown, with its places in the plane and what it is coloured by."""
        return self.folder / "map.parquet"

    @property
    def neighbors(self) -> Path:
        """(2, n, 10) positions in the map: in the representation, and in the raw data or the other side's."""
        return self.folder / "neighbors.npy"

    @property
    def media(self) -> Path:
        """Thumbnails and sounds of some of the items in the map."""
        return self.folder / "media.parquet"

    @property
    def influence(self) -> Path:
        """Of a table which columns drive the representation."""
        return self.folder / "influence.csv"

    @property
    def retrieval(self) -> Path:
        """Of pairs some that are found, and some that are not."""
        return self.folder / "retrieval.json"

    @property
    def cross(self) -> Path:
        """Of pairs the correlation of the sides' dimensions."""
        return self.folder / "cross.npy"

    @property
    def facts(self) -> Path:
        """What is said of the run in words; written last."""
        return self.folder / "facts.json"


def write_snapshots(path: Path, step: int, parts: Mapping[str, Mapping[str, Tensor]], rows: int) -> None:
    """Snapshots of several parts at one step.

    Args:
        path: ``start`` or ``end``.
        step: Steps done before the batch was embedded, at the start, or after.
        parts: By name what :func:`vicreg.portrait.snapshot` gives.
        rows: Of the batch.
    """
    tensors = {f"{part}/{name}": one.contiguous() for part, found in parts.items() for name, one in found.items()}
    plain = {"step": step, "parts": [part for part, found in parts.items() if found], "rows": rows}
    runs.write_tensors(path, tensors, plain)


def write_looks(path: Path, lines: Sequence[Mapping[str, float]]) -> None:
    """A line for each look; a cell is empty where something was not known."""
    names = list(dict.fromkeys(name for line in lines for name in line))
    runs.write_csv(path, names, [[line.get(name, "") for name in names] for line in lines])


def write_map(
    path: Path,
    items: Sequence[str],
    rows: NDArray[np.int64],
    held_out: NDArray[np.bool_],
    places: Mapping[str, NDArray[np.float32]],
    colours: Mapping[str, pa.Array],
    plain: Mapping[str, Any],
) -> None:
    """The map.

    Args:
        path: The file.
        items: (n,) ids, names or numbers of rows.
        rows: (n,) rows of the source.
        held_out: (n,) which of them no fit saw.
        places: By the names before ``_x`` and ``_y`` their places in the plane, (n, 2).
        colours: By name what :func:`vicreg.portrait.as_colour` gives.
        plain: What else a reader should know, as JSON can hold it.
    """
    columns: list[tuple[str, pa.Array]] = [
        ("item", pa.array(list(map(whole_text, items)), pa.string())),
        ("row", pa.array(rows, pa.int64())),
        ("held_out", pa.array(held_out, pa.bool_())),
    ]
    for name, xy in places.items():
        columns += [(f"{name}_{axis}", pa.array(xy[:, k], pa.float32())) for k, axis in enumerate("xy")]
    columns += [(f"colour {name}", colour) for name, colour in colours.items()]
    table = pa.table([column for _, column in columns], names=[name for name, _ in columns])
    _write_parquet(path, table.replace_schema_metadata({"vicreg": json.dumps(dict(plain))}))


def write_neighbors(path: Path, both: tuple[NDArray[np.int32], NDArray[np.int32]]) -> None:
    """Neighbours in two spaces; -1 where there are fewer."""
    runs.write_array(path, np.stack(both))


def write_media(path: Path, media: Sequence[tuple[int, str, bytes]], sides: Sequence[str] = ()) -> None:
    """Position in the map, type and content of each; of pairs also the side that it is of, ``a`` or ``b``."""
    columns = {
        "position": pa.array([position for position, _, _ in media], pa.int32()),
        "mime": pa.array([mime for _, mime, _ in media], pa.string()),
        "content": pa.array([content for _, _, content in media], pa.binary()),
    }
    if sides:
        columns["side"] = pa.array(list(sides), pa.string())
    _write_parquet(path, pa.table(columns))


def write_influence(
    path: Path,
    columns: Sequence[str],
    permutation: NDArray[np.floating[Any]],
    jacobian: NDArray[np.floating[Any]],
    components: NDArray[np.floating[Any]],
) -> None:
    """A line for each source column: its shares (:class:`vicreg.inference.Influence`)."""
    names = ["column", "permutation", "jacobian", *(f"component {k}" for k in range(components.shape[1]))]
    numbers = np.column_stack((permutation, jacobian, components)).tolist()
    runs.write_csv(path, names, [[column, *line] for column, line in zip(columns, numbers, strict=True)])


def write_retrieval(path: Path, count: int, examples: Sequence[Mapping[str, Any]], held_out: bool) -> None:
    """Examples, among how many pairs they were looked for, and whether no fit saw these."""
    runs.write_json(path, {"n": count, "held_out": held_out, "examples": list(examples)})


def write_cross(path: Path, correlation: NDArray[np.float32]) -> None:
    """The correlation of the sides' dimensions."""
    runs.write_array(path, correlation)


def write_facts(path: Path, facts: Mapping[str, Any]) -> None:
    """What is said in words; text that is no Unicode, as names of files may be, is escaped."""
    runs.write_json(path, {name: _whole(value) for name, value in facts.items()})


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return whole_text(value)
    return [_whole(one) for one in value] if isinstance(value, list | tuple) else value


def whole_text(text: str) -> str:
    """Text with what is no Unicode in it escaped, as in names of files."""
    return text.encode("utf-8", "backslashreplace").decode()


def _write_parquet(path: Path, table: pa.Table) -> None:
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer)
    runs.write_atomically(path, buffer.getvalue().to_pybytes())
