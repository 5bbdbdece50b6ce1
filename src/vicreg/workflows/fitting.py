"""Fitting a run on a table in a file, and going on with one that was interrupted."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vicreg import runs
from vicreg._checks import require
from vicreg.data import Frame, TableSpec, fit_spec, read_table, row_hashes
from vicreg.evaluation import pca, readings
from vicreg.inference import Embedder
from vicreg.runs import Run
from vicreg.training.config import TableConfig
from vicreg.training.engine import Callback, State
from vicreg.training.table import TableRun, table_run
from vicreg.views import table_views
from vicreg.workflows.about import (
    Columns,
    about,
    columns_of,
    config_of,
    held_out,
    inputs,
    read_about,
    same_table,
)
from vicreg.workflows.embedding import Say, write_embeddings
from vicreg.workflows.judging import Judged, judge, write_baseline

SECONDS_BETWEEN_CHECKPOINTS = 10.0


class Interrupted(Exception):  # noqa: N818  # not an error: somebody asked
    """A run was asked to stop, and saved.

    Attributes:
        signal: The signal's number.
    """

    def __init__(self, signal_number: int, step: int) -> None:
        super().__init__(f"stopped and saved at step {step}")
        self.signal = signal_number


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
    prepared = _prepare(frame, columns, config, say)
    run.begin(about(source, columns, config, frame))
    return _train_and_judge(run, prepared, callbacks, say)


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
    found = read_about(run)
    require(not run.finished(), repr(str(folder)), "be an unfinished run", "a finished one", "Name another --out.")
    known, settings = columns_of(run, found), config_of(run, found)
    fix = "Leave the flags out, or fit a new run."
    require(columns in (Columns(), known), "with --resume, columns", f"be those of the run ({known})", columns, fix)
    require(config in (TableConfig(), settings), "with --resume, settings", "be those of the run", "others", fix)
    frame = same_table(run, found, source)
    prepared = _prepare(frame, known, settings, say)
    if run.checkpoint.exists():
        prepared.table_run.state.restore(*runs.read_tensors(run.checkpoint))
        say(f"Going on from step {prepared.table_run.state.step} of {prepared.table_run.state.steps}.")
    return _train_and_judge(run, prepared, callbacks, say)


@dataclass(frozen=True, eq=False)
class _Prepared:
    """A run ready to train, and what belongs to it."""

    table_run: TableRun
    frame: Frame
    columns: Columns
    config: TableConfig
    split: NDArray[np.bool_]
    spec: TableSpec
    x: NDArray[np.float32]


def _prepare(frame: Frame, columns: Columns, config: TableConfig, say: Say) -> _Prepared:
    """Hold rows out, vectorise the others, and draw the networks."""
    split = held_out(frame, columns)
    train = inputs(frame, columns)
    train = train.take(np.flatnonzero(~split)) if split.any() else train
    held = f", {split.sum():,} of them held out to judge on" if split.any() else ""
    say(f"{frame.n_rows:,} rows{held}; {len(train.names)} input columns.")
    spec = fit_spec(train)
    x = spec.apply(train)
    run = table_run(config, x, spec.sources, table_views(config.views, config.view_rate))
    return _Prepared(run, frame, columns, config, split, spec, x)


def _train_and_judge(run: Run, prepared: _Prepared, callbacks: Sequence[Callback], say: Say) -> Judged:
    """Train, and leave the encoder, the embeddings and what judging finds."""
    runs.write_array(run.split, prepared.split)
    runs.write_array(run.seen, np.unique(row_hashes(prepared.x)))
    with _checkpoints(run) as checkpoint:
        state = prepared.table_run.train([*callbacks, checkpoint])
    _write_metrics(run, state)
    embedder = Embedder(state.model.encoder, prepared.spec)
    write_baseline(run, pca(prepared.x, embedder.width))
    columns = prepared.columns
    z = embedder.transform(prepared.frame, ignore=columns.set_aside)
    write_embeddings(run.embeddings, z, prepared.frame, columns.id)
    embedder.save(run.folder)
    if columns.labels is not None:
        return judge(run, prepared.frame, embedder, columns, prepared.split)
    say("Fitting once more from another seed, to see how stable the embedding is.")
    return Judged(None, readings(prepared.x, z, _from_another_seed(prepared)))


def _from_another_seed(prepared: _Prepared) -> NDArray[np.float32]:
    config = replace(prepared.config, seed=prepared.config.seed + 1)
    views = table_views(config.views, config.view_rate)
    state = table_run(config, prepared.x, prepared.spec.sources, views).train()
    return Embedder(state.model.encoder, prepared.spec).encode(prepared.x)


def _write_metrics(run: Run, state: State) -> None:
    history = state.history()
    runs.write_csv(run.metrics, ["step", *history], zip(range(1, state.step + 1), *history.values(), strict=True))


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
