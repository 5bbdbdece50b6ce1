"""Judging a run: raw columns, PCA and the embedding side by side, on rows that the fit did not see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from vicreg import runs
from vicreg._checks import message, require, shown
from vicreg.data import Frame, as_frame, fit_spec, read_table, row_hashes
from vicreg.evaluation import EmbeddingComparison, PrincipalComponents, pca
from vicreg.inference import Embedder, load
from vicreg.runs import Run
from vicreg.training.config import TableConfig
from vicreg.training.engine import Callback
from vicreg.training.table import table_run
from vicreg.views import table_views
from vicreg.workflows.about import HELD_OUT, Columns, columns_of, read_about, same_table


@dataclass(frozen=True, eq=False)
class Judged:
    """What judging found: a comparison where there are labels, readings where there are none."""

    comparison: EmbeddingComparison | None
    readings: dict[str, float] | None
    notes: tuple[str, ...] = ()


def demo(callbacks: Sequence[Callback] = (), steps: int = TableConfig().steps) -> Judged:
    """Fit the digits that scikit-learn bundles, without their labels, and judge on a fifth held out.

    Args:
        callbacks: Called after every step.
        steps: Length of the run.
    """
    digits = load_digits()
    x, y = digits.data.astype(np.float32), digits.target
    train, test = train_test_split(np.arange(len(x)), test_size=HELD_OUT, random_state=0, stratify=y)
    spec = fit_spec(as_frame(x[train]))
    features = spec.apply(as_frame(x))
    config = TableConfig(n_components=8, steps=steps)
    run = table_run(config, features[train], spec.sources, table_views(config.views, config.view_rate))
    encoder = Embedder(run.train(callbacks).model.encoder, spec)
    baseline = pca(features[train], encoder.width)
    representations = {"raw": features, "pca": baseline.transform(features), "vicreg": encoder.encode(features)}
    return Judged(EmbeddingComparison(representations, y, test=test), None)


def evaluate(folder: Path, source: Path | None = None, labels: str | None = None) -> Judged:
    """Judge a finished run: on the rows that its fit held out, or on new labelled rows.

    Args:
        folder: The run.
        source: New labelled rows, judged by cross-validation; rows that the fit saw are left out. None: the held-out
            rows of the run's own source.
        labels: The label column; None is the fit's.

    Raises:
        ValueError: The label column was an input, no rows were held out, or the fit saw all rows.
    """
    run = Run(folder)
    embedder, about = load(folder), read_about(run)
    columns = columns_of(run, about)
    labels = labels or columns.labels
    if labels is None:
        raise ValueError(message("--labels", "name the label column", "none, and the fit had none"))
    was_input = labels in embedder.spec.names
    fix = "Fit again with --labels to keep it out of the inputs."
    require(not was_input, "the label column", "be no input of the fit", f"{shown(labels)}, which was one", fix)
    if source is None:
        split = runs.read_array(run.split)
        fix = "Name a table of new labelled rows."
        require(bool(split.any()), "the run", "have held rows out to judge on", "a fit without --labels", fix)
        frame = same_table(run, about, None)
        return judge(run, frame, embedder, replace(columns, labels=labels), split)
    frame = read_table(source, text=embedder.spec.text_names)
    return judge(run, frame, embedder, replace(columns, labels=labels), None)


def judge(run: Run, frame: Frame, embedder: Embedder, columns: Columns, split: NDArray[np.bool_] | None) -> Judged:
    """Compare raw columns, PCA and the embedding on rows that the fit did not see, and write the scores."""
    name = str(columns.labels)
    labels, rows = frame.labels(name)
    x = embedder.vectorise(frame.take(rows), ignore=columns.set_aside)
    new = ~np.isin(row_hashes(x), runs.read_array(run.seen))
    notes = [] if len(rows) == frame.n_rows else [f"{frame.n_rows - len(rows):,} rows without a label are left out."]
    wanted = np.ones(len(rows), bool) if split is None else split[rows]
    seen = int(np.sum(wanted & ~new))
    if seen:
        notes.append(f"{seen:,} rows equal to rows that the fit saw are left out.")
    test = wanted & new
    require(bool(test.any()), "the table", "hold labelled rows that the fit did not see", f"{seen:,} that it saw")
    kept = test if split is None else test | ~wanted
    x = x[kept]
    representations = {"raw": x, "pca": _read_baseline(run).transform(x), "vicreg": embedder.encode(x)}
    comparison = EmbeddingComparison(representations, labels[kept], test=None if split is None else test[kept])
    rows_of_scores = comparison.rows()
    runs.write_csv(run.scores, list(rows_of_scores[0]), [list(row.values()) for row in rows_of_scores])
    return Judged(comparison, None, tuple(notes))


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
