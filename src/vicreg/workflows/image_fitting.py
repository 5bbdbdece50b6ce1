"""Fitting a run on pictures, and going on with one that was interrupted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from torch import nn

from vicreg import runs
from vicreg._checks import require, shown
from vicreg.data import Subset
from vicreg.distributed import by_first
from vicreg.inference import ImageEmbedder
from vicreg.runs import Run
from vicreg.training.config import SAME_FOLDER, ImageConfig
from vicreg.training.engine import Callback, Diverged, Machine, State, machine
from vicreg.training.image import ImageRun, image_run, shard_run
from vicreg.training.settings import to_mapping
from vicreg.views import evaluation_view
from vicreg.workflows.checkpoints import Stop, stoppable, train
from vicreg.workflows.collapse import Guard
from vicreg.workflows.embedding import Say
from vicreg.workflows.image_about import Pictures, about_images, open_pictures, read_about_images, same_pictures
from vicreg.workflows.image_judging import judge_held_out, judge_without_labels
from vicreg.workflows.judging import Judged
from vicreg.workflows.watching import Watch


def fit_images(
    where: str,
    folder: Path,
    labels: str | None,
    config: ImageConfig,
    *,
    encoders: Sequence[nn.Module] = (),
    callbacks: Sequence[Callback] = (),
    say: Say = print,
    stop_on_collapse: bool = False,
) -> Judged:
    """Fit a run on pictures and leave it in a folder, judged.

    Args:
        where: Folder, Parquet, ``.npz``, or shards.
        folder: The run's folder, new or empty.
        labels: What to judge by: ``folder``, a column or an array. A fifth of the labelled pictures is then held out.
        config: The settings.
        encoders: Modules of one's own in place of the configured encoder.
        callbacks: Called after every step.
        say: Told in words what is going on.
        stop_on_collapse: Whether the first collapse that is named ends the run.

    Returns:
        The comparison on held-out pictures, or without labels the readings.

    Raises:
        ValueError: Source or settings that cannot be worked with, or a folder that is not empty.
        OSError: The folder cannot be written to.
        Interrupted: SIGINT or SIGTERM came; a checkpoint was written.
        Collapsed: There was a collapse to stop on; a checkpoint was written.
    """
    config.check()
    run = Run(folder)
    place = machine(config.device, config.devices, config.nodes, config.precision)
    say = say if place.first else _silent
    by_first(run.check_free)
    pictures = open_pictures(where, labels)
    _check_views(pictures, config)
    prepared = _prepare(pictures, config, place, encoders, say)
    by_first(lambda: _begin(run, pictures, config))
    try:
        with stoppable() as stop:
            return _train_and_judge(run, pictures, config, prepared, callbacks, stop, say, stop_on_collapse)
    except ValueError as failure:
        # No word to the other processes here: they may be in the midst of a step, and would never hear it.
        lost = isinstance(failure, Diverged) or not run.checkpoint.exists()
        if place.first and lost:  # nothing to go on from, or --resume would only meet it again
            run.withdraw()
        raise


def resume_images(
    where: str | None,
    folder: Path,
    labels: str | None,
    config: ImageConfig,
    *,
    encoders: Sequence[nn.Module] = (),
    callbacks: Sequence[Callback] = (),
    say: Say = print,
    stop_on_collapse: bool = False,
) -> Judged:
    """Go on with an interrupted run: on a CPU to the very bits that it would have reached uninterrupted.

    Args:
        where: The source; its place may have changed, its content may not.
        folder: The run's folder.
        labels: Those of the run, or None.
        config: The settings of the run, or the defaults.
        encoders: As for the fit.
        callbacks: Called after every step.
        say: Told in words what is going on.
        stop_on_collapse: Whether the first collapse that is named ends the run.

    Raises:
        ValueError: The run is finished or damaged, or the source has changed since.
        OSError: The folder cannot be written to.
        Interrupted: SIGINT or SIGTERM came; a checkpoint was written.
        Collapsed: There was a collapse to stop on; a checkpoint was written.
    """
    run = Run(folder)
    found, settings = read_about_images(run)
    require(not run.finished(), repr(str(folder)), "be an unfinished run", "a finished one", "Name another --out.")
    fix = "Leave the flags out, or fit a new run."
    require(labels in (None, found["labels"]), "with --resume, --labels", "be that of the run", labels, fix)
    _check_settings(config, settings)
    place = machine(settings.device, settings.devices, settings.nodes, settings.precision)
    say = say if place.first else _silent
    pictures = same_pictures(run, found, where)
    by_first(lambda: runs.write_array(run.split, pictures.held))
    prepared = _prepare(pictures, settings, place, encoders, say)
    with stoppable() as stop:
        return _train_and_judge(run, pictures, settings, prepared, callbacks, stop, say, stop_on_collapse)


def _check_settings(given: ImageConfig, kept: ImageConfig) -> None:
    """Of a run that goes on the settings are those that it has."""
    mine, own, usual = to_mapping(kept), to_mapping(given), to_mapping(ImageConfig())
    others = [f"{name} = {shown(value)} for {shown(mine[name])}" for name, value in own.items() if value != mine[name]]
    fix = "Leave the flags out, or fit a new run."
    got = ", ".join(others)
    require(not others or own == usual, "with --resume, settings", "be those of the run", got, fix)


def _check_views(pictures: Pictures, config: ImageConfig) -> None:
    """Two pictures of one folder as views would teach the labels, where folders are the classes."""
    groups = None if pictures.source is None else pictures.source.groups
    if config.views != SAME_FOLDER or pictures.codes is None or groups is None:
        return
    known = pictures.codes >= 0
    pairs = {*zip(groups[known].tolist(), pictures.codes[known].tolist(), strict=True)}
    fix = "Leave --labels out, or put each clip or product of a class into a folder of its own."
    require(
        len(pairs) > len(pictures.classes),
        "--labels",
        "tell more than the folders whose pictures are paired",
        "the same folders",
        fix,
    )


def _silent(text: str) -> None:
    """Only the first of several processes speaks."""


def _prepare(
    pictures: Pictures, config: ImageConfig, place: Machine, encoders: Sequence[nn.Module], say: Say
) -> ImageRun:
    """The run at its start, and words on what it is about to do."""
    if pictures.source is None:
        run = shard_run(config, pictures.where, place, encoders)
        say(f"A stream of pictures from {pictures.where}.")
    else:
        rows = pictures.rows
        codes = None if pictures.codes is None else pictures.codes[rows]
        source = pictures.source if len(rows) == len(pictures.source) else Subset(pictures.source, rows)
        run = image_run(config, source, place, codes, encoders)
        held = f", {pictures.held.sum():,} of them held out to judge on" if pictures.held.any() else ""
        say(f"{len(pictures.source):,} pictures{held}.")
    parameters = sum(one.numel() for one in run.state.model.encoder.parameters())
    name = type(encoders[0]).__name__ if encoders else config.encoder
    say(f"{name} of {parameters / 1e6:.3g} million parameters on views of {run.size} x {run.size} pixels.")
    say(f"{run.how.steps:,} steps, {run.epoch:,} to an epoch, on {place.count} x {place.device}.")
    for note in run.notes:
        say(note)
    return run


def _train_and_judge(
    run: Run,
    pictures: Pictures,
    config: ImageConfig,
    prepared: ImageRun,
    callbacks: Sequence[Callback],
    stop: Stop,
    say: Say,
    stop_on_collapse: bool,
) -> Judged:
    """Train, and leave the encoder and what judging finds. The checkpoint goes last: then it is all done."""
    watch = Watch(prepared, pictures, config.workers)
    told = _telling(prepared, watch, say)
    guard = Guard(prepared.objective, run, say, stop if stop_on_collapse else None, prepared.place.count)
    write = partial(_write_metrics, run, watch, guard)
    shown = callbacks if prepared.place.first else ()
    state = train(prepared, run.checkpoint, [*shown, watch, told, guard], stop, write, say, [watch, guard])
    if not prepared.place.first:  # the others need not wait
        return Judged(None, None)
    write(state)
    embedder = ImageEmbedder(state.model.encoder, evaluation_view(prepared.size))
    judged = _leave(run, pictures, config, embedder, watch, say)
    return replace(judged, notes=(*judged.notes, *guard.notes))


def _begin(run: Run, pictures: Pictures, config: ImageConfig) -> None:
    run.begin(about_images(pictures, config))
    runs.write_array(run.split, pictures.held)


def _leave(
    run: Run, pictures: Pictures, config: ImageConfig, embedder: ImageEmbedder, watch: Watch, say: Say
) -> Judged:
    embedder.save(run.folder)
    if pictures.labels is None:
        judged = judge_without_labels(run, watch.lines[-1] if watch.lines else {}, embedder.width)
    else:
        say("Judging on the pictures held out.")
        judged = judge_held_out(run, pictures, embedder, config)
    run.finish()
    return judged


def _telling(prepared: ImageRun, watch: Watch, say: Say) -> Callable[[State], None]:
    """A callback that says what is new: of pictures that cannot be read, and of epochs."""
    seldom = max(1, prepared.how.steps // prepared.epoch // 20)

    def tell(state: State) -> None:
        for text in prepared.ledger.news():
            say(f"left out: {text}")
        ended = bool(watch.lines) and watch.lines[-1]["step"] == state.step
        if ended and (len(watch.lines) % seldom == 0 or state.step == state.steps):
            say(epoch_in_words(watch.lines[-1]))

    return tell


def epoch_in_words(line: dict[str, float]) -> str:
    """One line on an epoch.

    Example:
        >>> epoch_in_words({"epoch": 3.0, "rankme": 17.31, "knn": 0.8125, "pictures_per_second": 1234.5})
        'epoch 3: RankMe 17.3, kNN .812, 1,230 pictures a second'
    """
    parts = [f"RankMe {line['rankme']:.3g}"] if "rankme" in line else []
    for name, said in (("knn", "kNN"), ("online_linear", "online linear probe")):
        parts += [f"{said} {line[name]:.3f}".replace(" 0.", " .")] if name in line else []
    speed = float(f"{line.get('pictures_per_second', 0):.3g}")
    return f"epoch {line['epoch']:g}: {', '.join([*parts, f'{speed:,.0f} pictures a second'])}"


def _write_metrics(run: Run, watch: Watch, guard: Guard, state: State) -> None:
    guard.write()
    history = state.history()
    runs.write_csv(run.metrics, ["step", *history], zip(range(1, state.step + 1), *history.values(), strict=True))
    if watch.lines:
        names = list(dict.fromkeys(name for line in watch.lines for name in line))
        runs.write_csv(run.epochs, names, [[line.get(name, "") for name in names] for line in watch.lines])
