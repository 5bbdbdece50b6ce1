"""Fitting a run on pairs, and going on with one that was interrupted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from vicreg import runs
from vicreg._checks import message, require, shown
from vicreg.inference import Embedder, ImageEmbedder, PairEmbedder, SignalEmbedder
from vicreg.inference.pair import SIDES
from vicreg.portrait import Portrait
from vicreg.runs import Run
from vicreg.training.branches import BranchForm
from vicreg.training.engine import Callback, Diverged, Machine, check_launched, machine
from vicreg.training.loggers import check_logger
from vicreg.training.pair import PairRun, pair_run
from vicreg.training.pair_config import PairConfig
from vicreg.training.settings import to_mapping
from vicreg.training.sides import PictureSide, Side, SignalSide, TableSide, picture_side, signal_side, table_side
from vicreg.views import evaluation_view, table_views
from vicreg.workflows.checkpoints import Stop, stoppable, train
from vicreg.workflows.embedding import Say, write_embeddings
from vicreg.workflows.media import MEDIA
from vicreg.workflows.pair_about import (
    TABLE,
    OpenedPair,
    OpenedSide,
    Pairing,
    about_pair,
    open_pair,
    read_about_pair,
    same_pair,
)
from vicreg.workflows.pair_judging import JudgedPair, judge_held_out, keep_baseline
from vicreg.workflows.portraying import command_of, leave_facts, report_on
from vicreg.workflows.portraying_pairs import portray_pair
from vicreg.workflows.recording import Recording


def fit_pair(
    left: str,
    right: str,
    folder: Path,
    pairing: Pairing,
    config: PairConfig,
    *,
    callbacks: Sequence[Callback] = (),
    say: Say = print,
    stop_on_collapse: bool = False,
    logger: str | None = None,
) -> JudgedPair:
    """Fit a run on pairs and leave it in a folder, judged on a fifth of the pairs, which are held out.

    Args:
        left: Path of one source: a table, pictures or signals.
        right: Path of the other.
        folder: The run's folder, new or empty.
        pairing: Which rows belong together, and what is no input.
        config: The settings.
        callbacks: Called after every step.
        say: Told in words what is going on.
        stop_on_collapse: Whether the first collapse that is named ends the run.
        logger: Also log to the run's ``logs``: ``csv`` or ``tensorboard``.

    Returns:
        Retrieval between the sides, and each side's own scores or readings.

    Raises:
        ValueError: Sources or settings that cannot be worked with, or a folder that is not empty.
        FileNotFoundError: There is no such source.
        OSError: The folder cannot be written to.
        Interrupted: SIGINT or SIGTERM came; a checkpoint was written.
        Collapsed: There was a collapse to stop on; a checkpoint was written.
    """
    config.check()
    check_logger(logger)
    run = Run(folder)
    run.check_free()
    place = machine(config.device, precision=config.precision)
    pair = open_pair(left, right, pairing)
    prepared = _prepare(pair, config, place, say)
    run.begin(about_pair(pair, config))
    try:
        runs.write_array(run.split, pair.held)
        with stoppable() as stop:
            return _train_and_judge(run, prepared, callbacks, stop, say, stop_on_collapse, logger)
    except ValueError as failure:
        if isinstance(failure, Diverged) or not run.checkpoint.exists():  # --resume would only meet it again
            run.withdraw()
        raise


def resume_pair(
    left: str | None,
    right: str | None,
    folder: Path,
    pairing: Pairing,
    config: PairConfig,
    *,
    callbacks: Sequence[Callback] = (),
    say: Say = print,
    stop_on_collapse: bool = False,
    logger: str | None = None,
) -> JudgedPair:
    """Go on with an interrupted run: on a CPU to the very bits that it would have reached uninterrupted.

    Args:
        left: One source; its place may have changed, its content may not. None is where it was.
        right: The other.
        folder: The run's folder.
        pairing: That of the run, or none.
        config: The settings of the run, or the defaults.
        callbacks: Called after every step.
        say: Told in words what is going on.
        stop_on_collapse: Whether the first collapse that is named ends the run.
        logger: Also log to the run's ``logs``: ``csv`` or ``tensorboard``.

    Raises:
        ValueError: The run is finished or damaged, or a source has changed since.
        OSError: The folder cannot be written to.
        Interrupted: SIGINT or SIGTERM came; a checkpoint was written.
        Collapsed: There was a collapse to stop on; a checkpoint was written.
    """
    check_logger(logger)
    run = Run(folder)
    found, own, settings = read_about_pair(run)
    require(not run.finished(), repr(str(folder)), "be an unfinished run", "a finished one", "Name another --out.")
    fix = "Leave the flags out, or fit a new run."
    rule = "be as in the run"
    require(pairing in (Pairing(), own), "with --resume, how the sources are read", rule, shown(pairing), fix)
    _check_settings(config, settings)
    place = machine(settings.device, precision=settings.precision)
    pair = same_pair(run, found, own, left, right)
    runs.write_array(run.split, pair.held)
    prepared = _prepare(pair, settings, place, say)
    with stoppable() as stop:
        return _train_and_judge(run, prepared, callbacks, stop, say, stop_on_collapse, logger)


def _check_settings(given: PairConfig, kept: PairConfig) -> None:
    mine, own = to_mapping(kept), to_mapping(given)
    others = [f"{name} = {shown(value)} for {shown(mine[name])}" for name, value in own.items() if value != mine[name]]
    fix = "Leave the flags out, or fit a new run."
    same = not others or given == PairConfig()
    require(same, "with --resume, settings", "be those of the run", ", ".join(others), fix)


@dataclass(frozen=True, eq=False)
class _Prepared:
    """A run ready to train, and what belongs to it."""

    run: PairRun
    pair: OpenedPair
    config: PairConfig
    sides: tuple[Side, Side]

    def embedder(self) -> PairEmbedder:
        """Both encoders as they are now."""
        encoders = self.run.state.model.encoders
        a, b = (_embedder(encoder.eval(), side) for encoder, side in zip(encoders, self.sides, strict=True))
        return PairEmbedder(a, b, self.config.aligns([side.kind for side in self.sides]))


def _embedder(encoder: nn.Module, side: Side) -> Embedder | ImageEmbedder | SignalEmbedder:
    match side:
        case PictureSide():
            return ImageEmbedder(encoder, evaluation_view(side.view.size))
        case SignalSide():
            return SignalEmbedder.of([(encoder, side.view.still())], side.spec, side.windows)
        case TableSide():
            return Embedder(encoder, side.spec)
    raise TypeError(message("a side", "be a table, pictures or signals", type(side).__name__))


def _prepare(pair: OpenedPair, config: PairConfig, place: Machine, say: Say) -> _Prepared:
    """The run at its start, and words on what it is about to do."""
    check_launched(place.count, "Pairs are learnt from by one process: leave torchrun out.")
    held = f", {pair.held.sum():,} of them held out to judge on" if pair.held.any() else ""
    nouns = " and ".join(dict.fromkeys(side.noun for side in pair.sides))
    say(f"{len(pair):,} pairs of {nouns}{held}.")
    for text in pair.notes:
        say(text)
    forms: Sequence[BranchForm | None] = config.forms() or (None, None)
    views: Sequence[str | None] = config.views or (None, None)
    left, right = (
        _side(side, rows[~pair.held], form, view, config)
        for side, rows, form, view in zip(pair.sides, pair.rows, forms, views, strict=True)
    )
    for side, where in ((left, pair.left.where), (right, pair.right.where)):
        for text in side.notes:
            say(f"{where}: {text}")
    run = pair_run(config, left, right, place)
    for ledger, opened in zip(run.ledgers, pair.sides, strict=True):
        for text in ledger.news():
            say(f"left out, and its partner: {text}")
        for text in ledger.in_all(opened.noun):
            say(text)
    for text in run.notes:
        say(text)
    aligned = "aligned" if config.aligns((left.kind, right.kind)) else "not aligned"
    say(f"{run.how.steps:,} steps, {run.epoch:,} to an epoch, on {place.device}; the sides are {aligned}.")
    return _Prepared(run, pair, config, (left, right))


def _side(
    side: OpenedSide, rows: NDArray[np.int64], form: BranchForm | None, view: str | None, config: PairConfig
) -> Side:
    """The rows that are learnt from."""
    if side.kind == TABLE:
        seen = table_views("identity" if view is None else (view, view))[0]
        return table_side(side.inputs.take(rows), form, seen)
    whole = np.array_equal(rows, np.arange(len(side)))
    source = side.data if whole else MEDIA[side.kind].subset(side.data, rows)
    return (picture_side if side.kind == "image" else signal_side)(config, source, form, view)


def _train_and_judge(
    run: Run,
    prepared: _Prepared,
    callbacks: Sequence[Callback],
    stop: Stop,
    say: Say,
    stop_on_collapse: bool,
    logger: str | None,
) -> JudgedPair:
    """Train, and leave the encoders and what judging finds. The checkpoint goes last: it is all done."""
    recording = Recording(run, prepared.run, say, stop if stop_on_collapse else None, logger)
    watching = [*callbacks, *recording.callbacks]
    state = train(prepared.run, run.checkpoint, watching, stop, recording.write, say, recording.kept)
    recording.write(state)
    embedder, pair = prepared.embedder(), prepared.pair
    keep_baseline(run, prepared.sides, embedder)
    for name, side in zip(SIDES, pair.sides, strict=True):
        if side.kind == TABLE:
            carried = tuple(one for one in dict.fromkeys(_carried(pair.pairing)) if one in side.data.names)
            z = embedder.side(name).transform(side.inputs)
            write_embeddings(run.folder / name / "embeddings.parquet", z, side.data, carried)
    embedder.save(run.folder)
    judged = judge_held_out(run, pair, embedder, prepared.config)
    judged = replace(judged, notes=(*judged.notes, *recording.guard.notes))
    portray_pair(Portrait(run.portrait), pair, embedder, prepared.config, recording.attempts)
    aside = {name: getattr(pair.pairing, name) for name in ("key", "labels", "exclude", "id")}
    how = pair.left.reading.plain() | pair.right.reading.plain()
    leave_facts(
        run,
        recording,
        kind="pair",
        words=judged.words(),
        notes=judged.notes,
        device=state.device,
        command=command_of([side.where for side in pair.sides], run.folder, aside | how, prepared.config),
    )
    run.finish()
    report_on(run, recording.attempts, say)
    return judged


def _carried(pairing: Pairing) -> tuple[str, ...]:
    """The columns that go with embeddings."""
    return (*pairing.id, *(() if pairing.key is None else (pairing.key,)))
