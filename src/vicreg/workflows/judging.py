"""Judging a run: raw columns, PCA and the embedding side by side, on rows that the fit did not see."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vicreg import runs
from vicreg._checks import listed, message, require, shown
from vicreg.data import Frame, read_table, row_hashes, source_name
from vicreg.evaluation import Comparison, EmbeddingComparison, PrincipalComponents, readings
from vicreg.inference import Embedder, load_as
from vicreg.runs import Run
from vicreg.workflows.about import Columns, columns_of, read_about, same_table

Features = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Judged:
    """What judging found: a comparison where there are labels, readings where there are none, and notes on either."""

    comparison: Comparison | None
    readings: dict[str, float] | None
    notes: tuple[str, ...] = ()


def evaluate(folder: Path, source: Path | None = None, labels: str | None = None) -> Judged:
    """Judge a finished run: on the rows that its fit held out, or on new labelled rows.

    Args:
        folder: The run.
        source: New labelled rows, judged by cross-validation; rows equal to one that the fit saw are left out. None:
            the held-out rows of the run's own source.
        labels: The label column; None is the fit's. A run without labels has its readings to show again.

    Raises:
        ValueError: The label column was an input, no rows were held out, the fit saw all rows, or there are too few.
    """
    run = Run(folder)
    embedder, about = load_as(Embedder, folder), read_about(run)
    columns = columns_of(run, about)
    by = labels or columns.labels
    if by is None and source is None:
        return Judged(None, _read_readings(run))
    if by is None:
        raise ValueError(message("--labels", "name the label column", "none, and the fit had none"))
    was_input = by in embedder.spec.names
    fix = "Fit again with --labels to keep it out of the inputs."
    require(not was_input, "the label column", "be no input of the fit", f"{shown(by)}, which was one", fix)
    if source is not None:
        frame = read_table(source, text=embedder.spec.text_names)
        judged = _judge_new(run, frame, embedder, by, columns.set_aside)
        return written(judged, run.scores_on(source_name(source)))
    split = _read_marks(run.split, np.bool_)
    fix = "Name a table of new labelled rows."
    require(bool(split.any()), "the run", "have held rows out to judge on", "a fit without --labels", fix)
    judged = _judge_held_out(run, same_table(run, about, None), embedder, by, columns.set_aside, split)
    return written(judged, run.scores if by == columns.labels else run.scores_on(by))


def judge_fit(run: Run, frame: Frame, embedder: Embedder, columns: Columns, split: NDArray[np.bool_]) -> Judged:
    """Judge a fresh fit on the rows that it held out, and write the scores; or say why it cannot be judged."""
    try:
        judged = _judge_held_out(run, frame, embedder, str(columns.labels), columns.set_aside, split)
    except ValueError as failure:
        return Judged(None, None, (f"The run cannot be judged because {failure}",))
    return written(judged, run.scores)


def judge_without_labels(run: Run, x: Features, z: Features, z_other_seed: Features | None) -> Judged:
    """Write the readings of a run without labels; or say why there are none."""
    try:
        found = readings(x, z, z_other_seed)
    except ValueError as failure:
        return Judged(None, None, (f"The run cannot be judged because {failure}",))
    runs.write_json(run.readings, {"readings": found})
    return Judged(None, found)


def _judge_held_out(
    run: Run, frame: Frame, embedder: Embedder, label: str, aside: tuple[str, ...], split: NDArray[np.bool_]
) -> Judged:
    """By the rows that the fit held out, whatever is in them: a copy of a row of the fit is a fair question, too."""
    if len(split) != frame.n_rows:
        raise runs.damaged(run.split, f"{len(split):,} of {frame.n_rows:,} rows")
    x, labels, rows, notes = _labelled(frame, embedder, label, aside)
    test = split[rows]
    copies = int(_seen(run, x[test]).sum())
    if copies:
        notes.append(f"{copies:,} of the held-out rows equal a row of the fit.")
    return Judged(EmbeddingComparison(_representations(run, embedder, x), labels, test=test), None, tuple(notes))


def _judge_new(run: Run, frame: Frame, embedder: Embedder, label: str, aside: tuple[str, ...]) -> Judged:
    """By rows of which it is not known whether the fit saw them: those that equal one that it saw are left out."""
    x, labels, _, notes = _labelled(frame, embedder, label, aside)
    seen = _seen(run, x)
    if seen.any():
        notes.append(f"{seen.sum():,} rows equal to rows that the fit saw are left out.")
    require(not seen.all(), "the table", "hold labelled rows that the fit did not see", f"{len(x):,} that it saw")
    x = x[~seen]
    return Judged(EmbeddingComparison(_representations(run, embedder, x), labels[~seen]), None, tuple(notes))


def _labelled(
    frame: Frame, embedder: Embedder, label: str, aside: tuple[str, ...]
) -> tuple[Features, NDArray[Any], NDArray[np.int64], list[str]]:
    """The rows that have a label: vectorised, with their labels and places, and a note on the others."""
    labels, rows = frame.labels(label)
    x = embedder.vectorise(frame.take(rows), ignore=(*aside, label))
    lacking = frame.n_rows - len(rows)
    return x, labels, rows, [f"{lacking:,} rows without a label are left out."] if lacking else []


def _seen(run: Run, x: Features) -> NDArray[np.bool_]:
    return np.isin(row_hashes(x), _read_marks(run.seen, np.uint64))


def _representations(run: Run, embedder: Embedder, x: Features) -> dict[str, NDArray[Any]]:
    return {"raw": x, "pca": _read_baseline(run).transform(x), "vicreg": embedder.encode(x)}


def written(judged: Judged, path: Path) -> Judged:
    """The same, with its scores in a file; where that cannot be written, with a note."""
    if judged.comparison is None:
        return judged
    rows = judged.comparison.rows()
    try:
        runs.write_csv(path, list(rows[0]), [list(row.values()) for row in rows])
    except OSError as failure:
        return replace(judged, notes=(*judged.notes, f"The scores are not in a file: {failure}"))
    return judged


def _read_marks(path: Path, kind: type[np.generic]) -> NDArray[Any]:
    marks = runs.read_array(path)
    if marks.dtype != kind or marks.ndim != 1:
        raise runs.damaged(path, f"{marks.dtype} of shape {marks.shape}")
    return marks


def _read_readings(run: Run) -> dict[str, float]:
    fix = "Name a table and its --labels column." if run.finished() else "Finish the run with --resume."
    require(run.readings.exists(), repr(str(run.folder)), "hold readings to show without labels", "none", fix)
    found = runs.read_json(run.readings).get("readings")
    if not isinstance(found, dict) or not all(type(value) is float for value in found.values()):
        raise runs.damaged(run.readings, "other readings")
    lacking = {"trustworthiness", "effective_rank", "width", "neighbors"} - set(found)
    if lacking:
        raise runs.damaged(run.readings, f"readings without {listed(sorted(lacking))}")
    return found


def write_baseline(run: Run, baseline: PrincipalComponents) -> None:
    """Keep PCA on the rows of the fit, to judge against later."""
    arrays = {"mean": baseline.mean, "components": baseline.components}
    runs.write_tensors(
        run.baseline, {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in arrays.items()}, {}
    )


def _read_baseline(run: Run) -> PrincipalComponents:
    tensors, _ = runs.read_tensors(run.baseline)
    if set(tensors) != {"mean", "components"}:
        raise runs.damaged(run.baseline, "other tensors")
    return PrincipalComponents(tensors["mean"].numpy(), tensors["components"].numpy())
