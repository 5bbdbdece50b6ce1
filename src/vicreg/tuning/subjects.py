"""What a study is on: material to try settings on, and how the winner is fitted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicreg import workflows
from vicreg._checks import message, require, shown
from vicreg.data import Frame, fingerprint, fit_spec, read_table
from vicreg.evaluation import hold_out
from vicreg.runs import Run
from vicreg.training.config import TableConfig
from vicreg.tuning.collections import MOST_HELD, CollectionMaterial
from vicreg.tuning.tables import TableMaterial
from vicreg.tuning.tried import Material
from vicreg.workflows import Columns, Judged, Reading
from vicreg.workflows.about import held_out, inputs
from vicreg.workflows.collection_about import open_collection
from vicreg.workflows.media import medium_of
from vicreg.workflows.medium import Settings

HELD_SHARE = 0.2
Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Subject:
    """What a study is on.

    Attributes:
        material: Data cut into what trials learn from and what they are chosen by.
        base: The settings that the search starts from.
        about: What tells the study from others, as JSON can hold it.
        words: What is held out of what, in words.
        fit: Fits settings as ``vicreg fit`` does, into a new folder; goes on where that was interrupted.
        judged: Whether that is judged by labels, on rows that no trial has seen.
        by_labels: Whether trials are chosen by labels.
    """

    material: Material
    base: Any
    about: dict[str, Any]
    words: str
    fit: Callable[[Path, Any, Say], Judged]
    judged: bool
    by_labels: bool


def split(
    rows: NDArray[np.int64], labels: NDArray[Any] | None, seed: int, most: int | None = None
) -> NDArray[np.bool_]:
    """Which of the rows trials hold out to be chosen by: a fifth, by class where there are labels.

    Args:
        rows: Their numbers.
        labels: Theirs.
        seed: Of the draw.
        most: Rows held out at the most.

    Raises:
        ValueError: There are too few.

    Example:
        >>> int(split(np.arange(50), None, seed=0).sum())
        10
    """
    if labels is not None:
        held = hold_out(labels, seed)
    else:
        enough = len(rows) >= 8
        require(enough, "rows", "be at least 8 to learn from some and to choose by others", len(rows))
        held = np.zeros(len(rows), bool)
        held[np.random.default_rng([seed, 3]).permutation(len(rows))[: round(HELD_SHARE * len(rows))]] = True
    if most is not None and held.sum() > most:
        surplus = np.random.default_rng([seed, 4]).permutation(np.flatnonzero(held))[most:]
        held[surplus] = False
    return held


def table_subject(source: Path, columns: Columns, base: TableConfig, *, by_labels: bool) -> Subject:
    """A table in a file.

    Args:
        source: The file.
        columns: Those that are no inputs. Rows that ``vicreg fit`` would hold out to judge on, no trial sees.
        base: The settings that the search starts from.
        by_labels: Whether trials are chosen by labels.

    Raises:
        ValueError: A table or columns that cannot be worked with, labels of one class.
    """
    base.check()
    frame = read_table(source, exact=columns.id)
    kept = np.flatnonzero(~held_out(frame, columns))
    learnt = inputs(frame, columns).take(kept)
    labels, known = None, np.zeros(len(kept), bool)
    if columns.labels is not None:
        labels, there = frame.take(kept).labels(columns.labels)
        known[there] = True
    material, words = table_material(learnt, base, labels if by_labels else None, known)
    aside = {"labels": columns.labels, "exclude": list(columns.exclude), "id": list(columns.id)}
    about = {"kind": "table", "fingerprint": fingerprint(frame), "columns": aside, "by_labels": by_labels}

    def fit(folder: Path, config: TableConfig, say: Say) -> Judged:
        if Run(folder).exists():
            return workflows.resume(source, folder, Columns(), TableConfig(), say=say)
        return workflows.fit(source, folder, columns, config, say=say)

    left = frame.n_rows - len(kept)
    words += f" {left:,} more, on which the winner is judged, are out of all this." if left else ""
    return Subject(material, base, about, words, fit, columns.labels is not None, by_labels)


def table_material(
    frame: Frame, base: TableConfig, labels: NDArray[Any] | None, known: NDArray[np.bool_], **given: Any
) -> tuple[TableMaterial, str]:
    """A table's rows cut in two, and words on how.

    Args:
        frame: The input columns.
        base: The settings that the search starts from.
        labels: Of the rows that have one, to choose by; None for other scores.
        known: Which rows these are.
        **given: Objects in place of settings, as :class:`TableMaterial` has them.
    """
    rows = np.arange(frame.n_rows) if labels is None else np.flatnonzero(known)
    held = np.zeros(frame.n_rows, bool)
    held[rows[split(rows, labels, base.seed % 2**32)]] = True
    spec = fit_spec(frame.take(np.flatnonzero(~held)))
    x = spec.apply(frame)
    marks: dict[str, Any] = {}
    if labels is not None:
        every = np.zeros(frame.n_rows, labels.dtype)
        every[rows] = labels
        marks = {"known": every[~held], "asked": every[held], "labelled": known[~held]}
    words = f"Trials learn from {np.sum(~held):,} rows and are chosen by {held.sum():,} others."
    return TableMaterial(x[~held], x[held], spec.sources, base, **marks, **given), words


def collection_subject(where: str, reading: Reading, base: Settings, *, by_labels: bool) -> Subject:
    """Pictures or signals.

    Args:
        where: Folder or file.
        reading: How they are read, and what the winner is judged by: those items that ``vicreg fit`` would hold out, no
            trial sees.
        base: The settings that the search starts from.
        by_labels: Whether trials are chosen by labels.

    Raises:
        ValueError: A source that cannot be worked with, several devices, labels of one class.
    """
    base.check()
    medium = medium_of(base)
    one, fix = base.devices * base.nodes == 1, "For several devices start the same command on each."
    require(one, "devices * nodes", "be 1 for the trials of a study", base.devices * base.nodes, fix)
    collection = open_collection(medium, where, reading.check())
    source = collection.source
    if source is None:
        rule, fix = f"be {medium.nouns} that can be read one by one to be tuned on", "Tune on some of them in a folder."
        raise ValueError(message(shown(where), rule, "a stream", fix))
    rows, codes = collection.rows, collection.codes if by_labels else None
    asked = rows if codes is None else rows[codes[rows] >= 0]
    labels = None if codes is None else np.asarray([str(collection.classes[code]) for code in codes[asked]])
    hold = asked[split(asked, labels, base.seed % 2**32, MOST_HELD)]
    learn = np.setdiff1d(rows, hold)
    material = CollectionMaterial(medium, source, learn, hold, base, codes)
    marks = {"labels": reading.labels, "labels_fingerprint": collection.labels_fingerprint(), "by_labels": by_labels}
    about = {"kind": medium.kind, "fingerprint": collection.fingerprint(), **marks, "reading": reading.plain()}

    def fit(folder: Path, config: Settings, say: Say) -> Judged:
        if Run(folder).exists():
            return workflows.resume_collection(where, folder, Reading(), type(config)(), say=say)
        return workflows.fit_collection(where, folder, reading, config, say=say)

    words = f"Trials learn from {len(learn):,} {medium.nouns} and are chosen by {len(hold):,} others."
    left = int(collection.held.sum())
    words += f" {left:,} more, on which the winner is judged, are out of all this." if left else ""
    return Subject(material, base, about, words, fit, reading.labels is not None, by_labels)
