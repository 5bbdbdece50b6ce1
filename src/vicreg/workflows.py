"""What the commands do with a table: fit a run, embed with it, judge it. All of it works without a command line."""

from __future__ import annotations

import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import vicreg
from vicreg import runs
from vicreg._checks import listed, message, require, shown
from vicreg.data import Frame, TableSpec, as_frame, fingerprint, fit_spec, read_table, row_hashes
from vicreg.evaluation import EmbeddingComparison, PrincipalComponents, infer_task, pca, readings
from vicreg.inference import Embedder, load
from vicreg.runs import Run
from vicreg.training.config import TableConfig, from_mapping
from vicreg.training.engine import Callback, State
from vicreg.training.table import TableRun, table_run
from vicreg.views import table_views

HELD_OUT = 0.2
SECONDS_BETWEEN_CHECKPOINTS = 10.0


@dataclass(frozen=True)
class Columns:
    """Which columns of a source are no inputs.

    Attributes:
        labels: What to judge by; never an input.
        exclude: Left out.
        id: Left out, and carried through to the embeddings.
    """

    labels: str | None = None
    exclude: tuple[str, ...] = ()
    id: tuple[str, ...] = ()

    @property
    def set_aside(self) -> tuple[str, ...]:
        """All columns that are no inputs."""
        return (*(() if self.labels is None else (self.labels,)), *self.exclude, *self.id)


@dataclass(frozen=True, eq=False)
class Judged:
    """What judging found: a comparison where there are labels, readings where there are none."""

    comparison: EmbeddingComparison | None
    readings: dict[str, float] | None
    notes: tuple[str, ...] = ()


class Interrupted(Exception):  # noqa: N818  # not an error: somebody asked
    """A run was asked to stop, and saved.

    Attributes:
        signal: The signal's number.
    """

    def __init__(self, signal_number: int, step: int) -> None:
        super().__init__(f"stopped and saved at step {step}")
        self.signal = signal_number


Say = Callable[[str], None]


def fit(
    source: Path,
    folder: Path,
    columns: Columns,
    config: TableConfig,
    *,
    callbacks: Sequence[Callback] = (),
    say: Say = print,
) -> Judged:
    """Fit a run on a table in a file and leave it in a folder, judged.

    Args:
        source: The table.
        folder: The run's folder, new or empty.
        columns: The source's columns that are no inputs.
        config: The settings.
        callbacks: Called after every step.
        say: Told in words what is going on.

    Returns:
        The comparison on held-out rows, or without labels the readings.

    Raises:
        ValueError: Source, columns or settings that cannot be worked with, or a folder that is not empty.
        OSError: The folder cannot be written to.
        Interrupted: SIGINT or SIGTERM came; a checkpoint was written.
    """
    config.check()
    run = Run(folder)
    run.check_free()
    frame = read_table(source)
    split = _held_out(frame, columns)
    prepared = _prepare(frame, columns, config, split, say)
    run.begin(_about(source, columns, config, frame))
    runs.write_array(run.split, split)
    runs.write_array(run.seen, np.unique(row_hashes(prepared.x)))
    return _finish(run, prepared, columns, callbacks, say)


def resume(
    source: Path,
    folder: Path,
    columns: Columns,
    config: TableConfig,
    *,
    callbacks: Sequence[Callback] = (),
    say: Say = print,
) -> Judged:
    """Go on with an interrupted run, to the very bits that it would have reached uninterrupted.

    Args:
        source: The table; its path may have changed, its content may not.
        folder: The run's folder.
        columns: Those of the run, or none.
        config: The settings of the run, or the defaults.
        callbacks: Called after every step.
        say: Told in words what is going on.

    Raises:
        ValueError: The run is finished or damaged, or the table has changed since.
        OSError: The folder cannot be written to.
        Interrupted: SIGINT or SIGTERM came; a checkpoint was written.
    """
    run = Run(folder)
    about = _about_of(run)
    require(not run.finished(), repr(str(folder)), "be an unfinished run", "a finished one", "Name another --out.")
    known, settings = _columns_of(run, about), _config_of(run, about)
    fix = "Leave the flags out, or fit a new run."
    require(columns in (Columns(), known), "with --resume, columns", f"be those of the run ({known})", columns, fix)
    require(config in (TableConfig(), settings), "with --resume, settings", "be those of the run", "others", fix)
    columns, config = known, settings
    frame = _same_table(run, about, source)
    split = runs.read_array(run.split) if run.split.exists() else _held_out(frame, columns)
    prepared = _prepare(frame, columns, config, split, say)
    if run.checkpoint.exists():
        prepared.table_run.state.restore(*runs.read_tensors(run.checkpoint))
        say(f"Going on from step {prepared.table_run.state.step} of {prepared.table_run.state.steps}.")
    runs.write_array(run.split, split)
    runs.write_array(run.seen, np.unique(row_hashes(prepared.x)))
    return _finish(run, prepared, columns, callbacks, say)


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


def embed(folder: Path, source: Path, out: Path, say: Say = print) -> None:
    """Embed the rows of a table and write them, with the id columns, as Parquet.

    Args:
        folder: A finished run.
        source: The table: the fit's columns by name; those that the fit set aside may be there or not.
        out: The Parquet file to write, replaced whole or not at all.
        say: Told in words what was done.
    """
    require(out.suffix == ".parquet", "--out", "name a .parquet file", shown(str(out)))
    embedder, columns = load(folder), _columns_of(Run(folder), _about_of(Run(folder)))
    frame = read_table(source, text=embedder.spec.text_names)
    z = embedder.transform(frame, ignore=columns.set_aside)
    write_embeddings(out, z, frame, tuple(name for name in columns.id if name in frame.names))
    say(f"Wrote {len(z):,} rows of {z.shape[1]} numbers to {out}.")


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
    embedder, about = load(folder), _about_of(run)
    columns = _columns_of(run, about)
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
        frame = _same_table(run, about, None)
        return _judge(run, frame, embedder, replace(columns, labels=labels), split)
    frame = read_table(source, text=embedder.spec.text_names)
    return _judge(run, frame, embedder, replace(columns, labels=labels), None)


def write_embeddings(path: Path, z: NDArray[np.float32], frame: Frame, id_columns: tuple[str, ...]) -> None:
    """The id columns and the embedding's dimensions (vicreg0, vicreg1, ...) as a Parquet file."""
    names = [f"vicreg{index}" for index in range(z.shape[1])]
    arrays = [pa.array(frame.column(name)) for name in id_columns]
    table = pa.table([*arrays, *(pa.array(column) for column in z.T)], names=[*id_columns, *names])
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer)
    runs.write_atomically(path, buffer.getvalue())


@dataclass(frozen=True, eq=False)
class _Prepared:
    """A run ready to train, and what belongs to it."""

    table_run: TableRun
    frame: Frame
    x: NDArray[np.float32]
    spec: TableSpec
    split: NDArray[np.bool_]
    config: TableConfig


def _prepare(frame: Frame, columns: Columns, config: TableConfig, split: NDArray[np.bool_], say: Say) -> _Prepared:
    inputs = _inputs(frame, columns)
    train = inputs.take(np.flatnonzero(~split)) if split.any() else inputs
    held = f", {split.sum():,} of them held out to judge on" if split.any() else ""
    say(f"{frame.n_rows:,} rows{held}; {len(inputs.names)} input columns.")
    spec = fit_spec(train)
    x = spec.apply(train)
    views = table_views(config.views, config.view_rate)
    return _Prepared(table_run(config, x, spec.sources, views), frame, x, spec, split, config)


def _finish(run: Run, prepared: _Prepared, columns: Columns, callbacks: Sequence[Callback], say: Say) -> Judged:
    """Train, and leave the encoder, the embeddings and what judging finds."""
    with _checkpoints(run) as checkpoint:
        state = prepared.table_run.train([*callbacks, checkpoint])
    _write_metrics(run, state)
    embedder = Embedder(state.model.encoder, prepared.spec)
    baseline = pca(prepared.x, embedder.width)
    _write_baseline(run, baseline)
    z = embedder.transform(prepared.frame, ignore=columns.set_aside)
    write_embeddings(run.embeddings, z, prepared.frame, columns.id)
    embedder.save(run.folder)
    if columns.labels is None:
        say("Fitting once more from another seed, to see how stable the embedding is.")
        other = replace(prepared.config, seed=prepared.config.seed + 1)
        views = table_views(other.views, other.view_rate)
        again = table_run(other, prepared.x, prepared.spec.sources, views).train()
        z_again = Embedder(again.model.encoder, prepared.spec).encode(prepared.x)
        return Judged(None, readings(prepared.x, embedder.encode(prepared.x), z_again))
    return _judge(run, prepared.frame, embedder, columns, prepared.split)


def _judge(run: Run, frame: Frame, embedder: Embedder, columns: Columns, split: NDArray[np.bool_] | None) -> Judged:
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


def _inputs(frame: Frame, columns: Columns) -> Frame:
    for option, names in (
        ("--labels", columns.labels and (columns.labels,)),
        ("--exclude", columns.exclude),
        ("--id", columns.id),
    ):
        unknown = [name for name in names or () if name not in frame.names]
        require(not unknown, option, f"name columns of the table ({listed(frame.names, 20)})", listed(unknown))
    return frame.drop(set(columns.set_aside)) if columns.set_aside else frame


def _held_out(frame: Frame, columns: Columns) -> NDArray[np.bool_]:
    """A fifth of the labelled rows, in the classes' proportions where every class has two rows; none without labels."""
    held = np.zeros(frame.n_rows, bool)
    _inputs(frame, columns)
    if columns.labels is None:
        return held
    labels, rows = frame.labels(columns.labels)
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    got = f"{len(counts)} in column {shown(columns.labels)}"
    require(len(counts) >= 2, "labels", "have at least two classes or values", got, "Name another --labels column.")
    stratify = None if infer_task(labels) == "regression" else np.where(counts[codes] < 5, -1, codes)
    if stratify is not None and np.unique(stratify, return_counts=True)[1].min() < 5:
        stratify = None
    _, test = train_test_split(rows, test_size=HELD_OUT, random_state=0, stratify=stratify)
    held[test] = True
    return held


def _about(source: Path, columns: Columns, config: TableConfig, frame: Frame) -> dict[str, Any]:
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(config).items()}
    aside = {"labels": columns.labels, "exclude": list(columns.exclude), "id": list(columns.id)}
    versions = {"vicreg": vicreg.__version__, "torch": str(torch.__version__), "python": platform.python_version()}
    table = {"source": str(source.absolute()), "rows": frame.n_rows, "fingerprint": fingerprint(frame)}
    return {**table, **aside, "settings": plain, "versions": versions}


def _about_of(run: Run) -> dict[str, Any]:
    """What :func:`_about` wrote, with all its parts."""
    about = run.read_config()
    lacking = {"source", "fingerprint", "labels", "exclude", "id", "settings"} - set(about)
    if lacking:
        raise runs.damaged(run.config, f"a file without {listed(sorted(lacking))}")
    return about


def _columns_of(run: Run, about: dict[str, Any]) -> Columns:
    def texts(name: str) -> tuple[str, ...]:
        value = about.get(name) or []
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise runs.damaged(run.config, f"{name}: {shown(value)}")
        return tuple(value)

    labels = about.get("labels")
    if labels is not None and not isinstance(labels, str):
        raise runs.damaged(run.config, f"labels: {shown(labels)}")
    return Columns(labels, texts("exclude"), texts("id"))


def _config_of(run: Run, about: dict[str, Any]) -> TableConfig:
    try:
        return from_mapping(about.get("settings"))
    except (ValueError, TypeError) as failure:
        raise runs.damaged(run.config, f"settings of which {failure}") from failure


def _same_table(run: Run, about: dict[str, Any], source: Path | None) -> Frame:
    """The table of the run, read again and known to be unchanged."""
    known = Path(str(about.get("source"))) if source is None else source
    frame = read_table(known)
    unchanged = fingerprint(frame) == about.get("fingerprint")
    require(unchanged, repr(str(known)), "be the table that the run was fitted on", "another content", "Fit a new run.")
    return frame


def _write_metrics(run: Run, state: State) -> None:
    history = state.history()
    runs.write_csv(run.metrics, ["step", *history], zip(range(1, state.step + 1), *history.values(), strict=True))


def _write_baseline(run: Run, baseline: PrincipalComponents) -> None:
    arrays = {"mean": baseline.mean, "components": baseline.components}
    runs.write_tensors(
        run.baseline, {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in arrays.items()}, {}
    )


def _read_baseline(run: Run) -> PrincipalComponents:
    tensors, _ = runs.read_tensors(run.baseline)
    if set(tensors) != {"mean", "components"}:
        raise runs.damaged(run.baseline, "other tensors")
    return PrincipalComponents(tensors["mean"].numpy(), tensors["components"].numpy())


@contextmanager
def _checkpoints(run: Run) -> Iterator[Callback]:
    """A callback that saves now and then, and when SIGINT or SIGTERM asks the run to stop."""
    asked: list[int] = []
    before = {number: signal.signal(number, lambda got, _: asked.append(got)) for number in _signals()}
    saved = time.monotonic()

    def checkpoint(state: State) -> None:
        nonlocal saved
        if not asked and time.monotonic() - saved < SECONDS_BETWEEN_CHECKPOINTS:
            return
        runs.write_tensors(run.checkpoint, state.tensors(), state.plain())
        _write_metrics(run, state)
        saved = time.monotonic()
        if asked:
            raise Interrupted(asked[0], state.step)

    try:
        yield checkpoint
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _signals() -> tuple[signal.Signals, ...]:
    """The signals to listen for: only the main thread may."""
    main = threading.current_thread() is threading.main_thread()
    return (signal.SIGINT, signal.SIGTERM) if main else ()
