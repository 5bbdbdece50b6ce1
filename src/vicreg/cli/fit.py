"""The command `fit`, for each kind of source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes, Positional, UseAppendAction, arg

from vicreg import workflows
from vicreg._checks import require, shown
from vicreg.cli.given import kind_given, readings_of, settings_of, sources_in, wants_help
from vicreg.cli.report import UNWATCHED, Watching, watching
from vicreg.cli.speech import say, tell, tell_place
from vicreg.data import source_name
from vicreg.distributed import own_number
from vicreg.training.config import ImageConfig, TableConfig
from vicreg.training.pair_config import PairConfig
from vicreg.training.progress import progress
from vicreg.training.signal_config import SignalConfig
from vicreg.workflows import Columns, Pairing, Reading

Source = Annotated[Path, Positional, arg(metavar="SOURCE")]
AnySource = Annotated[str, Positional, arg(metavar="SOURCE")]  # a path would break the slashes of a URL
Logger = Literal["csv", "tensorboard"]
Names = UseAppendAction[tuple[tuple[str, ...], ...]]
SHORTER = "--steps, --epochs or --width 16 shorten it"
PAIR_SHORTER = "--steps, --epochs or, of pictures and signals, --width 16 shorten it"


def fit_for(given: Sequence[str]) -> Callable[..., None]:
    """The command `fit` with the settings of its source's kind, which flags start from."""
    sources = sources_in(given)
    for source in sources:
        if not wants_help(given):
            workflows.check_there(source)
    if len(sources) > 1:
        return partial(fit_pair, settings=settings_of(given, PairConfig))
    kind = kind_given(sources[0], given) if sources else "table"
    if kind == "pair":  # --resume names its run
        fix = "Name the sources as before: vicreg fit LEFT RIGHT --resume."
        require(False, "the sources of a run on pairs", "be two", shown(sources[0]), fix)
    if kind == "table":
        return partial(fit, settings=settings_of(given, TableConfig))
    if kind == "signal":
        return partial(fit_signals, settings=settings_of(given, SignalConfig))
    return partial(fit_images, settings=settings_of(given, ImageConfig))


def fit(
    source: Source,
    out: Path | None = None,
    labels: str | None = None,
    exclude: Names = (),
    id: Names = (),  # the flag's name
    resume: bool = False,
    stop_on_collapse: bool = False,
    logger: Logger | None = None,
    shown: OmitArgPrefixes[Watching] = UNWATCHED,
    config: Path | None = None,
    *,
    settings: OmitArgPrefixes[TableConfig],
) -> None:
    """Learn from a table without labels, and leave a run. For pictures and signals: vicreg fit FOLDER --help.

    For two sources whose rows belong together, such as photographs and a table: vicreg fit LEFT RIGHT --help.

    Args:
        source: The table.
        out: The run's folder; runs/NAME-OF-THE-SOURCE if left out.
        labels: A column to judge by: kept out of the inputs, and a fifth of its rows held out.
        exclude: Columns to leave out.
        id: Columns to leave out of the inputs and to carry through to the embeddings. A long table of signals is named
            by --id and --time together.
        resume: Go on with the interrupted run in the folder, with its own settings.
        stop_on_collapse: End the run, with a checkpoint, at the first collapse that is seen.
        logger: Also log each term, the learning rate and what is looked at to RUN/logs.
        shown: Whether and where it is watched.
        config: A YAML file of settings, or the config.yaml of another run; flags beside it win.
        settings: Settings of the run.
    """
    folder = out or Path("runs") / source_name(source)
    columns = Columns(labels, tuple(dict.fromkeys(chain(*exclude))), tuple(dict.fromkeys(chain(*id))))
    with watching(folder, shown), progress() as callback:
        begin = workflows.resume if resume else workflows.fit
        options = {"callbacks": [callback], "say": say, "stop_on_collapse": stop_on_collapse, "logger": logger}
        judged = begin(source, folder, columns, settings, **options)  # type: ignore[arg-type]  # of several types
    tell(judged)
    tell_place(folder)


def fit_images(
    source: AnySource,
    out: Path | None = None,
    labels: str | None = None,
    resume: bool = False,
    stop_on_collapse: bool = False,
    logger: Logger | None = None,
    shown: OmitArgPrefixes[Watching] = UNWATCHED,
    config: Path | None = None,
    recipe: str | None = None,
    *,
    settings: OmitArgPrefixes[ImageConfig],
) -> None:
    """Learn from pictures without labels, and leave a run with an encoder.

    Args:
        source: A folder of pictures, a .parquet file with a column of them, an .npz array, or .tar shards.
        out: The run's folder; runs/NAME-OF-THE-SOURCE if left out.
        labels: What to judge by, never to learn from: folder for the sub-folders, or the name of a column or array. A
            fifth of the labelled pictures is held out.
        resume: Go on with the interrupted run in the folder, with its own settings.
        stop_on_collapse: End the run, with a checkpoint, at the first collapse that is seen.
        logger: Also log each term, the learning rate and what is looked at to RUN/logs.
        shown: Whether and where it is watched.
        config: A YAML file of settings, or the config.yaml of another run; flags beside it win.
        recipe: Published settings by name (imagenet-resnet50, cifar10-resnet18, cifar10-resnet18-1000); flags win.
        settings: Settings of the run.
    """
    _fit_collection(source, out, Reading(labels), settings, resume, stop_on_collapse, logger, shown)


def fit_signals(
    source: AnySource,
    out: Path | None = None,
    labels: str | None = None,
    rate: float | None = None,
    channels: int | None = None,
    id: str | None = None,  # the flag's name
    time: str | None = None,
    values: tuple[str, ...] = (),
    resume: bool = False,
    stop_on_collapse: bool = False,
    logger: Logger | None = None,
    shown: OmitArgPrefixes[Watching] = UNWATCHED,
    config: Path | None = None,
    *,
    settings: OmitArgPrefixes[SignalConfig],
) -> None:
    """Learn from sounds or other signals without labels, and leave a run with its encoders.

    Args:
        source: A folder of recordings, a .parquet file with a column of them or of lists of numbers, an .npz or .npy
            array (n, time) or (n, channels, time), or with --id and --time a long table.
        out: The run's folder; runs/NAME-OF-THE-SOURCE if left out.
        labels: What to judge by, never to learn from: folder for the sub-folders, or the name of a column or array. A
            fifth of the labelled signals is held out.
        rate: Samples a second. Recordings are resampled to it, by default to the rate that most of them have; of
            arrays and lists it says what they have.
        channels: Of recordings: 1 is the mean of a recording's, and of more a recording with one repeats it.
        id: The column of a long table that tells its signals apart.
        time: The column of a long table that orders a signal's rows.
        values: The columns of a long table with the signals' channels; all others with numbers if left out.
        resume: Go on with the interrupted run in the folder, with its own settings.
        stop_on_collapse: End the run, with a checkpoint, at the first collapse that is seen.
        logger: Also log each term, the learning rate and what is looked at to RUN/logs.
        shown: Whether and where it is watched.
        config: A YAML file of settings, or the config.yaml of another run; flags beside it win.
        settings: Settings of the run.
    """
    reading = Reading(labels, rate, channels, id, time, values)
    _fit_collection(source, out, reading, settings, resume, stop_on_collapse, logger, shown)


def fit_pair(
    left: Annotated[str, Positional, arg(metavar="LEFT")],
    right: Annotated[str, Positional, arg(metavar="RIGHT")],
    out: Path | None = None,
    key: str | None = None,
    labels: str | None = None,
    exclude: Names = (),
    id: Names = (),  # the flag's name
    rate: float | None = None,
    channels: int | None = None,
    resume: bool = False,
    stop_on_collapse: bool = False,
    logger: Logger | None = None,
    shown: OmitArgPrefixes[Watching] = UNWATCHED,
    config: Path | None = None,
    *,
    settings: OmitArgPrefixes[PairConfig],
) -> None:
    """Learn from two sources of the same things without labels: two tables, pictures and a table, sounds and pictures.

    A fifth of the pairs is held out, to see how well a row's partner is found on the other side.

    Args:
        left: One source: a table, pictures or signals.
        right: The other. Its rows belong to those of LEFT in the same order, unless there is a --key.
        out: The run's folder; runs/LEFT-RIGHT if left out.
        key: The column, on both sides, that tells which rows belong together; of folders the names of the files.
        labels: What each side is judged by, never to learn from: a column or array of either side, or folder for a
            folder's sub-folders.
        exclude: Columns of either table to leave out.
        id: Columns of either table to leave out of the inputs and to carry through to the embeddings.
        rate: Samples a second, of a side with signals: as for vicreg fit SOUNDS.
        channels: Of recordings: as for vicreg fit SOUNDS.
        resume: Go on with the interrupted run in the folder, with its own settings.
        stop_on_collapse: End the run, with a checkpoint, at the first collapse that is seen.
        logger: Also log each term, the learning rate and what is looked at to RUN/logs.
        shown: Whether and where it is watched.
        config: A YAML file of settings, or the config.yaml of another run; flags beside it win.
        settings: Settings of the run.
    """
    folder = out or Path("runs") / "-".join(source_name(one.rstrip("/")) for one in (left, right))
    aside = (tuple(dict.fromkeys(chain(*exclude))), tuple(dict.fromkeys(chain(*id))))
    pairing = Pairing(key, labels, *aside, *readings_of((left, right), rate, channels))
    with watching(folder, shown), progress(PAIR_SHORTER) as callback:
        begin = workflows.resume_pair if resume else workflows.fit_pair
        options = {"callbacks": [callback], "say": say, "stop_on_collapse": stop_on_collapse, "logger": logger}
        judged = begin(left, right, folder, pairing, settings, **options)  # type: ignore[arg-type]  # of several types
    say("\n" + judged.in_words())
    tell_place(folder)


def _fit_collection(
    source: str,
    out: Path | None,
    reading: Reading,
    settings: ImageConfig | SignalConfig,
    resume: bool,
    stop_on_collapse: bool,
    logger: Logger | None,
    shown: Watching,
) -> None:
    folder = out or Path("runs") / source_name(source.rstrip("/"))
    with watching(folder, shown), progress(SHORTER) as callback:
        begin = workflows.resume_collection if resume else workflows.fit_collection
        options = {"callbacks": [callback], "say": say, "stop_on_collapse": stop_on_collapse, "logger": logger}
        judged = begin(source, folder, reading, settings, **options)  # type: ignore[arg-type]  # of several types
    if own_number() == 0:
        tell(judged)
        tell_place(folder)
