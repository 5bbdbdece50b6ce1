"""Fitting a run on a table in a file, and going on with one that was interrupted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vicreg import runs
from vicreg._checks import listed, require
from vicreg.data import Frame, TableSpec, fit_spec, read_table, row_hashes
from vicreg.evaluation import pca
from vicreg.inference import Embedder
from vicreg.portrait import Portrait
from vicreg.runs import Run
from vicreg.training.config import TableConfig
from vicreg.training.engine import Callback, State
from vicreg.training.loggers import check_logger
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
    repeated_in_words,
    same_table,
)
from vicreg.workflows.checkpoints import Stop, stoppable, train
from vicreg.workflows.embedding import Say, write_embeddings
from vicreg.workflows.judging import Judged, judge_fit, judge_without_labels, write_baseline
from vicreg.workflows.portraying import command_of, leave_facts, report_on, words_of
from vicreg.workflows.portraying_tables import portray_table
from vicreg.workflows.recording import Recording


def fit(
    source: Path,
    folder: Path,
    columns: Columns,
    config: TableConfig,
    *,
    callbacks: Sequence[Callback] = (),
    say: Say = print,
    stop_on_collapse: bool = False,
    logger: str | None = None,
) -> Judged:
    """Fit a run on a table in a file and leave it in a folder, judged.

    Args:
        source: The table.
        folder: The run's folder, new or empty.
        columns: The source's columns that are no inputs.
        config: The settings.
        callbacks: Called after every step.
        say: Told in words what is going on.
        stop_on_collapse: Whether the first collapse that is named ends the run.
        logger: Also log to the run's ``logs``: ``csv`` or ``tensorboard``.

    Returns:
        The comparison on held-out rows, or without labels the readings; where neither can be had, the reason.

    Raises:
        ValueError: Source, columns or settings that cannot be worked with, or a folder that is not empty.
        OSError: The folder cannot be written to.
        Interrupted: SIGINT or SIGTERM came; a checkpoint was written.
        Collapsed: There was a collapse to stop on; a checkpoint was written.
    """
    config.check()
    check_logger(logger)
    run = Run(folder)
    run.check_free()
    frame = read_table(source, exact=columns.id)
    prepared = _prepare(source, frame, columns, config, say)
    run.begin(about(source, columns, config, frame))
    try:
        with stoppable() as stop:
            return _train_and_judge(run, prepared, callbacks, stop, say, stop_on_collapse, logger)
    except ValueError:  # such as training that diverged: --resume would only meet it again
        run.withdraw()
        raise


def resume(
    source: Path,
    folder: Path,
    columns: Columns,
    config: TableConfig,
    *,
    callbacks: Sequence[Callback] = (),
    say: Say = print,
    stop_on_collapse: bool = False,
    logger: str | None = None,
) -> Judged:
    """Go on with an interrupted run, to the very bits that it would have reached uninterrupted.

    Args:
        source: The table; its path may have changed, its content may not.
        folder: The run's folder.
        columns: Those of the run, or none.
        config: The settings of the run, or the defaults.
        callbacks: Called after every step.
        say: Told in words what is going on.
        stop_on_collapse: Whether the first collapse that is named ends the run.
        logger: Also log to the run's ``logs``: ``csv`` or ``tensorboard``.

    Raises:
        ValueError: The run is finished or damaged, or the table has changed since.
        OSError: The folder cannot be written to.
        Interrupted: SIGINT or SIGTERM came; a checkpoint was written.
        Collapsed: There was a collapse to stop on; a checkpoint was written.
    """
    check_logger(logger)
    run = Run(folder)
    found = read_about(run)
    require(not run.finished(), repr(str(folder)), "be an unfinished run", "a finished one", "Name another --out.")
    known, settings = columns_of(run, found), config_of(run, found)
    fix = "Leave the flags out, or fit a new run."
    require(columns in (Columns(), known), "with --resume, columns", f"be those of the run ({known})", columns, fix)
    require(config in (TableConfig(), settings), "with --resume, settings", "be those of the run", "others", fix)
    frame = same_table(run, found, source)
    prepared = _prepare(source, frame, known, settings, say)
    with stoppable() as stop:
        return _train_and_judge(run, prepared, callbacks, stop, say, stop_on_collapse, logger)


LABEL_NAMES = {"y", "label", "labels", "target", "class"}
"""Columns of these names are seldom meant as inputs."""


@dataclass(frozen=True, eq=False)
class _Prepared:
    """A run ready to train, and what belongs to it."""

    table_run: TableRun
    source: str
    frame: Frame
    columns: Columns
    config: TableConfig
    split: NDArray[np.bool_]
    spec: TableSpec
    x: NDArray[np.float32]


def _prepare(source: Path, frame: Frame, columns: Columns, config: TableConfig, say: Say) -> _Prepared:
    """Hold rows out, vectorise the others, and draw the networks."""
    split = held_out(frame, columns)
    learnt = inputs(frame, columns)
    learnt = learnt.take(np.flatnonzero(~split)) if split.any() else learnt
    held = f", {split.sum():,} of them held out to judge on" if split.any() else ""
    say(f"{frame.n_rows:,} rows{held}; {len(learnt.names)} input columns.")
    for text in repeated_in_words(frame, columns):
        say(text)
    spec = fit_spec(learnt)
    say(spec.in_words())
    likely = [] if columns.labels else [name for name in spec.names if name.lower() in LABEL_NAMES]
    if likely:
        say(f"{listed(likely)} is an input like the others; if it is a label, name it by --labels or --exclude.")
    x = spec.apply(learnt)
    run = table_run(config, x, spec.sources, table_views(config.views, config.view_rate))
    return _Prepared(run, str(source), frame, columns, config, split, spec, x)


def _train_and_judge(
    run: Run,
    prepared: _Prepared,
    callbacks: Sequence[Callback],
    stop: Stop,
    say: Say,
    stop_on_collapse: bool,
    logger: str | None,
) -> Judged:
    """Train, and leave the encoder, the embeddings and what judging finds. The checkpoint goes last: it is all done."""
    runs.write_array(run.split, prepared.split)
    runs.write_array(run.seen, np.unique(row_hashes(prepared.x)))
    recording = Recording(run, prepared.table_run, say, stop if stop_on_collapse else None, logger)
    watching = [*callbacks, *recording.callbacks]
    state = train(prepared.table_run, run.checkpoint, watching, stop, recording.write, say, recording.kept)
    recording.write(state)
    embedder = Embedder(state.model.encoder, prepared.spec)
    write_baseline(run, pca(prepared.x, embedder.width))
    z = embedder.transform(prepared.frame, ignore=prepared.columns.set_aside)
    write_embeddings(run.embeddings, z, prepared.frame, prepared.columns.id)
    embedder.save(run.folder)
    if prepared.columns.labels is not None:
        judged = judge_fit(run, prepared.frame, embedder, prepared.columns, prepared.split)
    else:
        judged = judge_without_labels(run, prepared.x, z, _from_another_seed(run, prepared, callbacks, stop, say))
    judged = replace(judged, notes=(*judged.notes, *recording.guard.notes))
    portrait, attempts = Portrait(run.portrait), recording.attempts
    portray_table(portrait, prepared.frame, prepared.columns, prepared.split, embedder, prepared.x, z, attempts)
    leave_facts(
        run,
        recording,
        kind="table",
        words=words_of(judged),
        notes=judged.notes,
        device=state.device,
        command=command_of([prepared.source], run.folder, asdict(prepared.columns), prepared.config),
    )
    run.finish()
    report_on(run, attempts, say)
    return judged


def _from_another_seed(
    run: Run, prepared: _Prepared, callbacks: Sequence[Callback], stop: Stop, say: Say
) -> NDArray[np.float32] | None:
    """The embedding of the rows of the fit by a second one, to compare with; None if that fails."""
    say("Fitting once more from another seed, to see how stable the embedding is.")
    config = replace(prepared.config, seed=abs(prepared.config.seed - 1))  # within bounds, too
    second = table_run(config, prepared.x, prepared.spec.sources, table_views(config.views, config.view_rate))
    try:
        state = train(second, run.second_checkpoint, callbacks, stop, _nothing, say)
    except ValueError as failure:
        say(f"The stability cannot be told because {failure}")
        return None
    return Embedder(state.model.encoder, prepared.spec).encode(prepared.x)


def _nothing(_: State) -> None:
    """The second fit is only there to compare with: it leaves no metrics."""
