"""What every kind of run leaves for its report at its end: the map, who is near whom, and what is said of it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from vicreg.data import CorruptImage
from vicreg.evaluation import infer_task, readings_in_words
from vicreg.portrait import (
    Portrait,
    as_colour,
    nearest,
    plane,
    umap_plane,
    write_facts,
    write_map,
    write_media,
    write_neighbors,
)
from vicreg.report import write_report
from vicreg.runs import Run
from vicreg.training.settings import to_mapping
from vicreg.workflows.judging import Judged
from vicreg.workflows.medium import Medium
from vicreg.workflows.recording import Attempts, Recording

MOST_SHOWN = 50_000
"""Items of a map; of more, so many are drawn."""
MOST_MEDIA, MOST_BYTES = 2000, 6 * 2**20
"""Thumbnails and sounds, and what they may weigh together."""
MOST_COLOURS = 20

Showing = Callable[[int], tuple[str, bytes] | None]
"""From a position in the map to type and content of what is shown for it."""


@dataclass(frozen=True, eq=False)
class Shown:
    """The items of a map.

    Attributes:
        items: Ids, names or numbers of rows.
        rows: (n,) rows of the source.
        held_out: (n,) which no fit saw.
        h: (n, k) representations.
        raw: (n, p) what they are without an encoder.
        what_raw: That, in words.
        colours: What the map is coloured by.
        total: Items of the source.
        device: Where neighbours are searched.
    """

    items: list[str]
    rows: NDArray[np.int64]
    held_out: NDArray[np.bool_]
    h: NDArray[np.float32]
    raw: NDArray[np.float32]
    what_raw: str
    colours: Mapping[str, pa.Array]
    total: int
    device: torch.device


def some_rows(count: int, most: int = MOST_SHOWN) -> NDArray[np.int64]:
    """So many rows of a source at most, drawn at random from a fixed seed, in order.

    Example:
        >>> some_rows(3).tolist(), len(some_rows(100, 7))
        ([0, 1, 2], 7)
    """
    return np.arange(count) if count <= most else np.sort(np.random.default_rng(0).choice(count, most, replace=False))


def draw_map(portrait: Portrait, shown: Shown, attempts: Attempts) -> None:
    """Write the map and the neighbours.

    Args:
        portrait: Where.
        shown: What.
        attempts: Takes what fails.
    """
    fine = bool(np.isfinite(shown.h).all() and np.isfinite(shown.raw).all())
    if not fine or not len(shown.h):
        attempts.notes.append("There is no map: nothing finite is to be shown.")
        return

    def drawn() -> None:
        found, raw = plane(shown.h), plane(shown.raw)
        places = {"pca": found.xy, "raw": raw.xy}
        by_umap = umap_plane(shown.h)
        raw_by_umap = None if by_umap is None else umap_plane(shown.raw)
        if by_umap is not None and raw_by_umap is not None:
            places |= {"umap": by_umap, "raw_umap": raw_by_umap}
        plain = {
            "two_dimensional": shown.h.shape[1] == 2,
            "explained": found.explained,
            "raw_explained": raw.explained,
            "what_raw": shown.what_raw,
            "total": shown.total,
        }
        write_map(portrait.map, shown.items, shown.rows, shown.held_out, places, shown.colours, plain)

    def searched() -> None:
        both = nearest(shown.h, device=shown.device), nearest(shown.raw, device=shown.device)
        write_neighbors(portrait.neighbors, both)

    attempts("the map", drawn)
    attempts("the neighbours", searched)


def draw_media(
    portrait: Portrait, count: int, showing: Mapping[str, Showing], attempts: Attempts, first: Sequence[int] = ()
) -> None:
    """Write thumbnails or sounds of some of the items in the map.

    Args:
        portrait: Where.
        count: Items in the map.
        showing: What shows an item; of pairs by the side, of all others under no name.
        attempts: Takes what fails.
        first: Positions that are to have them before others.
    """

    def drawn() -> None:
        order = np.random.default_rng(0).permutation(count).tolist()
        found: list[tuple[int, str, bytes]] = []
        sides: list[str] = []
        weight = 0
        for position in dict.fromkeys([*first, *order[:MOST_MEDIA]]):
            for side, show in showing.items():
                one = show(position)
                if one is None or weight + len(one[1]) > MOST_BYTES or len(found) == MOST_MEDIA:
                    continue
                found.append((position, *one))
                sides += [side] if side else []
                weight += len(one[1])
        if found:
            write_media(portrait.media, found, sides)

    attempts("the thumbnails and sounds", drawn)


def showing_of(medium: Medium, source: Any, rows: NDArray[np.int64]) -> Showing:
    """What shows the items of a collection; nothing for one that cannot be read.

    Args:
        medium: Of the collection.
        source: The collection.
        rows: (n,) which of its items are in the map, by position.
    """

    def show(position: int) -> tuple[str, bytes] | None:
        try:
            return medium.shown(source, int(rows[position]))
        except CorruptImage:
            return None

    return show


def label_colour(labels: Any) -> pa.Array:
    """Labels as colours: numbers that are names of classes as text.

    Args:
        labels: (n,) Arrow or NumPy, None or NaN where there is none.
    """
    cells = as_colour(labels)
    known = cells.drop_null()
    classes = pa.types.is_string(cells.type) or not len(known) or infer_task(known.to_numpy()) == "classification"
    return as_colour(labels, as_text=True) if classes else cells


def words_of(judged: Judged) -> list[str]:
    """What judging found, in sentences, the verdict first."""
    found = [] if judged.comparison is None else [judged.comparison.verdict("vicreg")]
    return found + ([] if judged.readings is None else [readings_in_words(judged.readings)])


def command_of(sources: Sequence[str], folder: Path, options: Mapping[str, Any], settings: Any) -> str:
    """The command that makes such a run again: what differs from the defaults is named.

    Args:
        sources: One, or two of a pair.
        folder: The run's.
        options: Flags beside the settings, by name; what is empty is left out.
        settings: Of the run.

    Example:
        >>> from vicreg.training.config import TableConfig
        >>> options = {"labels": "kind of it", "id": ("a", "b"), "resume": False}
        >>> command_of(["t.csv"], Path("runs/t"), options, TableConfig(steps=5, linear_path=False))
        "vicreg fit t.csv --out runs/t --labels 'kind of it' --id a b --no-linear-path --steps 5"
    """
    words = ["vicreg", "fit", *sources, "--out", str(folder)]
    usual = to_mapping(type(settings)())
    others = {name: value for name, value in to_mapping(settings).items() if value != usual[name]}
    given = {name: value for name, value in options.items() if value not in (None, False, "", (), [])}
    for name, value in (given | others).items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", *(map(str, value) if isinstance(value, list | tuple) else [str(value)])]
    return shlex.join(words)


def leave_facts(
    run: Run,
    recording: Recording,
    *,
    kind: str,
    words: Sequence[str],
    notes: Sequence[str],
    device: torch.device,
    command: str,
) -> None:
    """Write what is said of the run in words, and how long it took."""
    recorder, attempts = recording.recorder, recording.attempts
    recorder.write()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    facts = {
        "words": list(words),
        "notes": [*notes, *attempts.notes],
        "wall_seconds": recorder.seconds,
        "began": recorder.began,
        "device": name,
        "resumed_at": recorder.resumed_at,
        "command": command,
        "kind": kind,
    }
    attempts("the run in words", lambda: write_facts(Portrait(run.portrait).facts, facts))


def report_on(run: Run, attempts: Attempts, say: Callable[[str], None]) -> None:
    """Write the page of a finished run, and say what it lacks; a page that cannot be written is no fault of the run's.

    Args:
        run: Its folder.
        attempts: What failed so far.
        say: Told in words.
    """
    before = len(attempts.notes)
    page = attempts("the report", lambda: write_report(run.folder))
    if page is None and len(attempts.notes) == before:
        say("Install vicreg[report] for a page of this run.")
    for note in attempts.notes:
        say(note)
