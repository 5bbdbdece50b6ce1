"""Fitting a run on a collection, and going on with one that was interrupted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from torch import nn

from vicreg import runs
from vicreg._checks import require, shown
from vicreg.distributed import by_first
from vicreg.portrait import Portrait
from vicreg.runs import Run
from vicreg.training.engine import Callback, Diverged, Machine, State, machine
from vicreg.training.loggers import check_logger
from vicreg.training.settings import to_mapping
from vicreg.workflows.checkpoints import Stop, stoppable, train
from vicreg.workflows.collection_about import (
    Collection,
    about_collection,
    open_collection,
    read_about_collection,
    same_collection,
)
from vicreg.workflows.collection_judging import judge_held_out, judge_without_labels
from vicreg.workflows.embedding import Say
from vicreg.workflows.judging import Judged
from vicreg.workflows.media import medium_of
from vicreg.workflows.medium import Embeds, Prepared, Reading, Settings
from vicreg.workflows.portraying import command_of, leave_facts, report_on, words_of
from vicreg.workflows.portraying_collections import portray_collection
from vicreg.workflows.recording import Recording
from vicreg.workflows.watching import Watch


def fit_collection(
    where: str,
    folder: Path,
    reading: Reading,
    config: Settings,
    *,
    encoders: Sequence[nn.Module] = (),
    callbacks: Sequence[Callback] = (),
    say: Say = print,
    stop_on_collapse: bool = False,
    logger: str | None = None,
) -> Judged:
    """Fit a run on pictures or signals and leave it in a folder, judged.

    Args:
        where: Folder, file, or shards of pictures.
        folder: The run's folder, new or empty.
        reading: How they are read, and what to judge by: of the labelled ones a fifth is then held out.
        config: The settings. Their class says what the source holds.
        encoders: Modules of one's own in place of the configured encoder.
        callbacks: Called after every step.
        say: Told in words what is going on.
        stop_on_collapse: Whether the first collapse that is named ends the run.
        logger: Also log to the run's ``logs``: ``csv`` or ``tensorboard``.

    Returns:
        The comparison on held-out items, or without labels the readings.

    Raises:
        ValueError: Source or settings that cannot be worked with, or a folder that is not empty.
        OSError: The folder cannot be written to.
        Interrupted: SIGINT or SIGTERM came; a checkpoint was written.
        Collapsed: There was a collapse to stop on; a checkpoint was written.
    """
    config.check()
    check_logger(logger)
    run = Run(folder)
    place = machine(config.device, config.devices, config.nodes, config.precision)
    say = say if place.first else _silent
    by_first(run.check_free)
    collection = open_collection(medium_of(config), where, reading.check())
    _check_views(collection, config)
    prepared = _prepare(collection, config, place, encoders, say)
    by_first(lambda: _begin(run, collection, config))
    try:
        with stoppable() as stop:
            return _train_and_judge(run, collection, config, prepared, callbacks, stop, say, stop_on_collapse, logger)
    except ValueError as failure:
        # No word to the other processes here: they may be in the midst of a step, and would never hear it.
        lost = isinstance(failure, Diverged) or not run.checkpoint.exists()
        if place.first and lost:  # nothing to go on from, or --resume would only meet it again
            run.withdraw()
        raise


def resume_collection(
    where: str | None,
    folder: Path,
    reading: Reading,
    config: Settings,
    *,
    encoders: Sequence[nn.Module] = (),
    callbacks: Sequence[Callback] = (),
    say: Say = print,
    stop_on_collapse: bool = False,
    logger: str | None = None,
) -> Judged:
    """Go on with an interrupted run: on a CPU to the very bits that it would have reached uninterrupted.

    Args:
        where: The source; its place may have changed, its content may not.
        folder: The run's folder.
        reading: That of the run, or nothing; also its labels alone.
        config: The settings of the run, or the defaults.
        encoders: As for the fit.
        callbacks: Called after every step.
        say: Told in words what is going on.
        stop_on_collapse: Whether the first collapse that is named ends the run.
        logger: Also log to the run's ``logs``: ``csv`` or ``tensorboard``.

    Raises:
        ValueError: The run is finished or damaged, or the source has changed since.
        OSError: The folder cannot be written to.
        Interrupted: SIGINT or SIGTERM came; a checkpoint was written.
        Collapsed: There was a collapse to stop on; a checkpoint was written.
    """
    check_logger(logger)
    run = Run(folder)
    medium = medium_of(config)
    found, own, settings = read_about_collection(run, medium)
    require(not run.finished(), repr(str(folder)), "be an unfinished run", "a finished one", "Name another --out.")
    fix = "Leave the flags out, or fit a new run."
    require(reading.labels in (None, own.labels), "with --resume, --labels", "be that of the run", reading.labels, fix)
    others = {name: value for name, value in reading.plain().items() if own.plain().get(name) != value}
    require(not others, "with --resume, how the source is read", "be as in the run", shown(others), fix)
    _check_settings(config, settings)
    place = machine(settings.device, settings.devices, settings.nodes, settings.precision)
    say = say if place.first else _silent
    collection = same_collection(run, found, medium, own, where)
    by_first(lambda: runs.write_array(run.split, collection.held))
    prepared = _prepare(collection, settings, place, encoders, say)
    with stoppable() as stop:
        return _train_and_judge(run, collection, settings, prepared, callbacks, stop, say, stop_on_collapse, logger)


def _check_settings(given: Settings, kept: Settings) -> None:
    """Of a run that goes on the settings are those that it has."""
    mine, own, usual = to_mapping(kept), to_mapping(given), to_mapping(type(kept)())
    others = [f"{name} = {shown(value)} for {shown(mine[name])}" for name, value in own.items() if value != mine[name]]
    fix = "Leave the flags out, or fit a new run."
    got = ", ".join(others)
    require(not others or own == usual, "with --resume, settings", "be those of the run", got, fix)


def _check_views(collection: Collection, config: Settings) -> None:
    """Two items of one folder as views would teach the labels, where folders are the classes."""
    groups = None if collection.source is None else collection.source.groups
    if not collection.medium.paired_folders(config) or collection.codes is None or groups is None:
        return
    known = collection.codes >= 0
    pairs = {*zip(groups[known].tolist(), collection.codes[known].tolist(), strict=True)}
    fix = "Leave --labels out, or put each clip or product of a class into a folder of its own."
    require(
        len(pairs) > len(collection.classes),
        "--labels",
        f"tell more than the folders whose {collection.medium.nouns} are paired",
        "the same folders",
        fix,
    )


def _silent(text: str) -> None:
    """Only the first of several processes speaks."""


def _prepare(
    collection: Collection, config: Settings, place: Machine, encoders: Sequence[nn.Module], say: Say
) -> Prepared:
    """The run at its start, and words on what it is about to do."""
    medium = collection.medium
    if collection.source is None and medium.stream is not None:
        run = medium.stream.run(config, collection.where, place, encoders)
        say(f"A stream of {medium.nouns} from {collection.where}.")
    else:
        rows, count = collection.rows, len(collection.held)
        codes = None if collection.codes is None else collection.codes[rows]
        source = collection.source if len(rows) == count else medium.subset(collection.source, rows)
        run = medium.run(config, source, place, codes, encoders)
        held = f", {collection.held.sum():,} of them held out to judge on" if collection.held.any() else ""
        say(f"{count:,} {medium.nouns}{held}.")
    say(medium.words(run, config, encoders))
    say(f"{run.how.steps:,} steps, {run.epoch:,} to an epoch, on {place.count} x {place.device}.")
    for note in run.notes:
        say(note)
    return run


def _train_and_judge(
    run: Run,
    collection: Collection,
    config: Settings,
    prepared: Prepared,
    callbacks: Sequence[Callback],
    stop: Stop,
    say: Say,
    stop_on_collapse: bool,
    logger: str | None,
) -> Judged:
    """Train, and leave the encoder and what judging finds. The checkpoint goes last: then it is all done."""
    watch = Watch(prepared, collection, config.workers)
    told = _telling(prepared, watch, collection.medium.nouns, say)
    recording = Recording(run, prepared, say, stop if stop_on_collapse else None, logger)
    write = partial(_write, run, watch, recording)
    shown = callbacks if prepared.place.first else ()
    watching: list[Callback] = [*shown, watch, told, *recording.callbacks]
    state = train(prepared, run.checkpoint, watching, stop, write, say, [watch, *recording.kept])
    if not prepared.place.first:  # the others need not wait
        return Judged(None, None)
    write(state)
    embedder = collection.medium.trained(prepared)
    embedder.save(run.folder)
    judged = _judge(run, collection, config, embedder, watch, say)
    judged = replace(judged, notes=(*judged.notes, *recording.guard.notes))
    portray_collection(Portrait(run.portrait), collection, embedder, config, recording.attempts)
    leave_facts(
        run,
        recording,
        kind=collection.medium.kind,
        words=words_of(judged),
        notes=judged.notes,
        device=prepared.place.device,
        command=command_of([collection.where], run.folder, asdict(collection.reading), config),
    )
    run.finish()
    report_on(run, recording.attempts, say)
    return judged


def _begin(run: Run, collection: Collection, config: Settings) -> None:
    run.begin(about_collection(collection, config))
    runs.write_array(run.split, collection.held)


def _judge(run: Run, collection: Collection, config: Settings, embedder: Embeds, watch: Watch, say: Say) -> Judged:
    if collection.codes is None:
        line = watch.lines[-1] if watch.lines else {}
        return judge_without_labels(run, line, embedder.width, collection.medium)
    say(f"Judging on the {collection.medium.nouns} held out.")
    return judge_held_out(run, collection, embedder, config)


def _telling(prepared: Prepared, watch: Watch, nouns: str, say: Say) -> Callable[[State], None]:
    """A callback that says what is new: of items that cannot be read, and of epochs."""
    seldom = max(1, prepared.how.steps // prepared.epoch // 20)

    def tell(state: State) -> None:
        for text in prepared.ledger.news():
            say(f"left out: {text}")
        ended = bool(watch.lines) and watch.lines[-1]["step"] == state.step
        if ended and (len(watch.lines) % seldom == 0 or state.step == state.steps):
            say(epoch_in_words(watch.lines[-1], nouns))
        if state.step == state.steps:
            for text in prepared.ledger.in_all(nouns):
                say(text)

    return tell


def epoch_in_words(line: dict[str, float], nouns: str) -> str:
    """One line on an epoch.

    Example:
        >>> line = {"epoch": 3.0, "rankme": 17.31, "knn": 0.8125, "pictures_per_second": 1234.5}
        >>> epoch_in_words(line, "pictures")
        'epoch 3: RankMe 17.3, kNN .812, 1,230 pictures a second'
    """
    parts = [f"RankMe {line['rankme']:.3g}"] if "rankme" in line else []
    for name, said in (("knn", "kNN"), ("online_linear", "online linear probe")):
        parts += [f"{said} {line[name]:.3f}".replace(" 0.", " .")] if name in line else []
    speed = float(f"{line.get(f'{nouns}_per_second', 0):.3g}")
    return f"epoch {round(line['epoch'], 1):g}: {', '.join([*parts, f'{speed:,.0f} {nouns} a second'])}"


def _write(run: Run, watch: Watch, recording: Recording, state: State) -> None:
    recording.write(state)
    if watch.lines:
        names = list(dict.fromkeys(name for line in watch.lines for name in line))
        runs.write_csv(run.epochs, names, [[line.get(name, "") for name in names] for line in watch.lines])
