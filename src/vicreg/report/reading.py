"""What is in a run's folder, as far as it can be read: a file that is missing or damaged is named, and no more."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vicreg import runs
from vicreg._checks import require
from vicreg.runs import Run

T = TypeVar("T")
Floats = NDArray[np.floating[Any]]
Columns = Mapping[str, NDArray[np.float64]]
"""Of a table of numbers: by name its columns, all of one length, NaN where a cell is empty."""

SHOWN_TYPES = {"image/jpeg", "image/png", "image/webp", "audio/wav", "audio/x-wav", "audio/ogg", "audio/mpeg"}
"""What a browser shows or plays without ever executing it."""
LONGEST = 200
"""Letters of an item's or a category's name; no page shows more."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One moment of the embedding and of the representation.

    Attributes:
        step: When.
        parts: By name, what is known of each: eigenvalues, covariance, deviation, edges, histograms.
    """

    step: int
    parts: Mapping[str, Mapping[str, Floats]]


@dataclass(frozen=True, eq=False)
class Atlas:
    """The map.

    Attributes:
        items: (n,) names.
        rows: (n,) rows of the source.
        held_out: (n,) which of them no fit saw.
        places: By name (``pca``, ``raw``, ``other``, ``umap``, ``raw_umap``) their places in the plane, (n, 2).
        colours: By name either (n,) numbers, NaN where unknown, or a list of n texts, None where unknown.
        plain: What else is known: whether the plane is the representation itself, explained variance, the total.
    """

    items: list[str]
    rows: NDArray[np.int64]
    held_out: NDArray[np.bool_]
    places: Mapping[str, Floats]
    colours: Mapping[str, NDArray[np.float64] | list[str | None]]
    plain: Mapping[str, Any]


@dataclass(frozen=True)
class Medium:
    """A thumbnail or a sound of an item on the map."""

    position: int
    mime: str
    content: bytes
    side: str


@dataclass(frozen=True, eq=False)
class Record:
    """All that was found in a run's folder; what was not is empty or None.

    Attributes:
        folder: The run's.
        finished: Whether it ended in an encoder.
        begun: Whether it was begun: its configuration is there.
        damaged: Files that are there and cannot be read, with the reason.
    """

    folder: Path
    finished: bool
    begun: bool
    config: Mapping[str, Any]
    facts: Mapping[str, Any]
    metrics: Columns
    looks: Columns
    epochs: Columns
    scores: Mapping[str, list[dict[str, str]]]
    findings: list[Mapping[str, Any]]
    readings: Mapping[str, Any]
    start: Snapshot | None
    end: Snapshot | None
    atlas: Atlas | None
    neighbors: NDArray[np.int32] | None
    media: list[Medium]
    influence: tuple[list[str], Columns] | None
    retrieval: Mapping[str, Any]
    cross: Floats | None
    damaged: tuple[str, ...]

    @property
    def name(self) -> str:
        """What to call it: the folder's name."""
        return self.folder.resolve().name or str(self.folder)

    @property
    def kind(self) -> str:
        """Table, image, signal or pair."""
        kind = self.config.get("kind", self.facts.get("kind", "table"))
        return kind if kind in ("image", "signal", "pair") else "table"

    @property
    def step(self) -> int:
        """Up to which step the metrics go."""
        steps = self.metrics.get("step")
        known = np.empty(0) if steps is None else steps[np.isfinite(steps)]
        return int(known[-1]) if len(known) else 0


_NO_ROWS: list[dict[str, str]] = []


def is_run(folder: Path) -> bool:
    """Whether a folder holds anything of a run."""
    run = Run(folder)
    return any(path.exists() for path in (run.config, run.metrics, run.encoder, run.portrait, run.scores))


def read_run(folder: Path) -> Record:
    """Read all of a run's folder that can be read.

    Args:
        folder: The run's; finished or not, whole or not.

    Raises:
        ValueError: The folder is none, or holds nothing of a run.
    """
    require(folder.is_dir(), repr(str(folder)), "be the folder of a run", "no such folder", "Fit one first.")
    require(is_run(folder), repr(str(folder)), "be the folder of a run", "a folder without any file of one")
    run, reader = Run(folder), _Reader(folder)
    portrait = run.portrait
    atlas = reader.of(portrait / "map.parquet", _atlas, None)
    count = 0 if atlas is None else len(atlas.items)
    facts: dict[str, Any] = reader.of(portrait / "facts.json", runs.read_json, {})
    scores = {path.stem: reader.of(path, _rows, _NO_ROWS) for path in sorted(folder.glob("scores*.csv"))}
    return Record(
        folder=folder,
        finished=run.encoder.exists() and (not run.checkpoint.exists() or bool(facts)),
        begun=run.config.exists(),
        config=reader.of(run.config, runs.read_yaml, {}),
        facts=facts,
        metrics=reader.of(run.metrics, numbers, {}),
        looks=reader.of(portrait / "looks.csv", numbers, {}),
        epochs=reader.of(run.epochs, numbers, {}),
        scores={name: rows for name, rows in scores.items() if rows},
        findings=reader.of(run.warnings, _findings, []),
        readings=reader.of(run.readings, _readings, {}),
        start=reader.of(portrait / "start.safetensors", _snapshot, None),
        end=reader.of(portrait / "end.safetensors", _snapshot, None),
        atlas=atlas,
        neighbors=reader.of(portrait / "neighbors.npy", lambda path: _neighbors(path, count), None) if count else None,
        media=reader.of(portrait / "media.parquet", lambda path: _media(path, count), []) if count else [],
        influence=reader.of(portrait / "influence.csv", _influence, None),
        retrieval=reader.of(portrait / "retrieval.json", lambda path: _retrieval(path, count), {}) if count else {},
        cross=reader.of(portrait / "cross.npy", _cross, None),
        damaged=tuple(reader.damaged),
    )


@dataclass
class _Reader:
    """Reads one file after the other, and keeps what is wrong with them."""

    folder: Path
    damaged: list[str] = field(default_factory=list)

    def of(self, path: Path, read: Callable[[Path], T], otherwise: T) -> T:
        """What a file holds; ``otherwise`` where it is missing or damaged."""
        if not path.exists():
            return otherwise
        try:
            return read(path)
        except Exception as failure:  # decoders fed with arbitrary bytes raise nearly anything
            why = str(failure).strip().partition("\n")[0] or type(failure).__name__
            self.damaged.append(f"{path.relative_to(self.folder)}: {why}")
            return otherwise


def numbers(path: Path) -> dict[str, NDArray[np.float64]]:
    """A CSV file of numbers under a header, column by column; cells that are empty or no numbers are NaN.

    Raises:
        ValueError: It is damaged.
    """
    content = runs.read(path)
    names = next(csv.reader(io.StringIO(content.partition(b"\n")[0].decode())), [])
    if not names:
        raise runs.damaged(path, "an empty file")
    text = pa_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True)
    table = pa_csv.read_csv(io.BytesIO(content), convert_options=text)
    return {name: _floats(table.column(place)) for place, name in enumerate(names)}


def _floats(cells: pa.ChunkedArray) -> NDArray[np.float64]:
    try:
        return np.asarray(cells.cast(pa.float64()).to_numpy(), np.float64)
    except pa.ArrowInvalid:
        return np.array([_float(cell) for cell in cells.to_pylist()])


def _float(cell: str | None) -> float:
    try:
        return float(cell or "nan")
    except ValueError:
        return float("nan")


def _rows(path: Path) -> list[dict[str, str]]:
    reader = csv.DictReader(io.StringIO(runs.read(path).decode(), newline=""), restval="")
    rows = [{str(name): str(cell) for name, cell in row.items() if name is not None} for row in reader]
    needed = {"representation", "metric", "value"}
    if not needed <= set(reader.fieldnames or ()):
        raise runs.damaged(path, "no table of scores")
    return rows


def _findings(path: Path) -> list[Mapping[str, Any]]:
    found = runs.read_json(path)["warnings"]
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise runs.damaged(path, "no list of warnings")
    return found


def _readings(path: Path) -> dict[str, Any]:
    found = runs.read_json(path)["readings"]
    return dict(found)


def _snapshot(path: Path) -> Snapshot:
    tensors, plain = runs.read_tensors(path)
    parts: dict[str, dict[str, Floats]] = {str(part): {} for part in plain["parts"]}
    for name, tensor in tensors.items():
        part, _, what = name.rpartition("/")
        if part in parts:
            parts[part][what] = tensor.float().numpy()
    return Snapshot(int(plain["step"]), {part: _shaped(path, found) for part, found in parts.items() if found})


def _shaped(path: Path, found: dict[str, Floats]) -> dict[str, Floats]:
    dimensions = {"eigenvalues": 1, "covariance": 2, "deviation": 1, "edges": 1, "histograms": 2}
    if any(found[name].ndim != dimensions.get(name, -1) for name in found):
        raise runs.damaged(path, "arrays of other shapes")
    counts, edges = found.get("histograms"), found.get("edges")
    if counts is not None and (edges is None or counts.shape[1] + 1 != len(edges)):
        raise runs.damaged(path, "histograms without their edges")
    return found


def _atlas(path: Path) -> Atlas:
    table = pq.read_table(path)
    names = table.column_names
    plain = json.loads((table.schema.metadata or {}).get(b"vicreg", b"{}"))
    places = {}
    for name in names:
        stem = name.removesuffix("_x")
        if name.endswith("_x") and f"{stem}_y" in names and not name.startswith("colour "):
            xy = [np.asarray(table.column(f"{stem}_{axis}").to_numpy(), np.float32) for axis in "xy"]
            places[stem] = np.column_stack(xy)
    count = table.num_rows
    if "pca" not in places or not count:
        raise runs.damaged(path, "no map")
    rows = table.column("row").to_numpy() if "row" in names else np.arange(count)
    items = table.column("item").to_pylist() if "item" in names else [str(row) for row in rows.tolist()]
    held = table.column("held_out").to_numpy() if "held_out" in names else np.zeros(count, bool)
    colours = {
        name.removeprefix("colour "): _colour(table.column(place))
        for place, name in enumerate(names)
        if name.startswith("colour ")
    }
    return Atlas(
        [_short(item) for item in items], rows.astype(np.int64), held.astype(bool), places, colours, dict(plain)
    )


def _colour(cells: pa.ChunkedArray) -> NDArray[np.float64] | list[str | None]:
    if pa.types.is_floating(cells.type) or pa.types.is_integer(cells.type):
        values = np.asarray(cells.cast(pa.float64()).to_numpy(), np.float64)
        return np.where(np.isfinite(values), values, np.nan)
    return [None if cell is None else _short(cell) for cell in cells.to_pylist()]


def _short(text: object) -> str:
    text = str(text)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _neighbors(path: Path, count: int) -> NDArray[np.int32]:
    found = runs.read_array(path)
    if found.ndim != 3 or found.shape[:2] != (2, count) or found.min(initial=0) < -1 or found.max(initial=0) >= count:
        raise runs.damaged(path, f"an array of shape {found.shape} that does not fit a map of {count:,}")
    return found.astype(np.int32)


def _media(path: Path, count: int) -> list[Medium]:
    table = pq.read_table(path)
    sides = table.column("side").to_pylist() if "side" in table.column_names else [""] * table.num_rows
    lines = zip(*(table.column(name).to_pylist() for name in ("position", "mime", "content")), sides, strict=True)
    return [
        Medium(position, mime, content, side or "")
        for position, mime, content, side in lines
        if mime in SHOWN_TYPES and content and 0 <= position < count
    ]


def _influence(path: Path) -> tuple[list[str], Columns]:
    rows = list(csv.reader(io.StringIO(runs.read(path).decode(), newline="")))
    header, lines = rows[0], rows[1:]
    if header[:1] != ["column"] or not lines or any(len(line) != len(header) for line in lines):
        raise runs.damaged(path, "no table of influences")
    values = {name: np.array([_float(line[place]) for line in lines]) for place, name in enumerate(header) if place}
    return [_short(line[0]) for line in lines], values


def _retrieval(path: Path, count: int) -> dict[str, Any]:
    found = runs.read_json(path)
    for one in found["examples"]:
        if not all(0 <= int(place) < count for place in (one["query"], *one["found"])) or one["query_side"] not in "ab":
            raise runs.damaged(path, "an example that is not on the map")
    return found


def _cross(path: Path) -> Floats:
    found = runs.read_array(path)
    if found.ndim != 2 or not found.size:
        raise runs.damaged(path, "no matrix")
    return found.astype(np.float32)
