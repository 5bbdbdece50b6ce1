"""The command `tune`, for each kind of source."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from tyro.conf import OmitArgPrefixes

from vicreg import workflows
from vicreg._checks import require
from vicreg.cli.fit import AnySource, Names, Source
from vicreg.cli.given import kind_given, settings_of, sources_in, wants_help
from vicreg.cli.speech import say
from vicreg.training.config import ImageConfig, TableConfig
from vicreg.training.signal_config import SignalConfig
from vicreg.tuning import read_space
from vicreg.tuning.tuned import Model, tune
from vicreg.workflows import Interrupted, Reading


def tune_for(given: Sequence[str]) -> Callable[..., None]:
    """The command `tune` with the settings of its source's kind, which the search starts from."""
    words = ["fit", *given[1:]] if given[:1] == ["tune"] else []
    sources = sources_in(words)
    for source in sources:
        if not wants_help(given):
            workflows.check_there(source)
    fix = "Tune each side by itself."
    require(len(sources) < 2, "the source of vicreg tune", "be one", f"{len(sources)} of them", fix)
    kind = kind_given(sources[0], words) if sources else "table"
    if kind == "table":
        return partial(tune_table, settings=settings_of(words, TableConfig))
    if kind == "signal":
        return partial(tune_signals, settings=settings_of(words, SignalConfig))
    return partial(tune_images, settings=settings_of(words, ImageConfig))


def tune_table(
    source: Source,
    out: Path | None = None,
    labels: str | None = None,
    exclude: Names = (),
    id: Names = (),  # the flag's name
    score: str | None = None,
    space: Path | None = None,
    trials: int = 50,
    storage: str | None = None,
    no_halving: bool = False,
    config: Path | None = None,
    *,
    settings: OmitArgPrefixes[TableConfig],
) -> None:
    """Search for settings, without labels or with them, and leave a study with the best run.

    The same command goes on with the study, also beside others that are at it. For pictures and signals: vicreg tune
    FOLDER --help.

    Args:
        source: The table.
        out: The study's folder; studies/NAME-OF-THE-SOURCE if left out.
        labels: A column to choose and to judge by: kept out of the inputs, and a fifth of its rows is judged on alone.
        exclude: Columns to leave out.
        id: Columns to leave out of the inputs and to carry through to the embeddings.
        score: What trials are chosen by. Without labels: columns, mixture, own-columns, rankme, rankme-embedding,
            lidar, alpha-req, trustworthiness, neighbors or stability. With labels: linear, knn, silhouette, or a scorer
            of scikit-learn's. Left out: columns without labels, linear with them.
        space: A YAML file of what is searched, as the study's space.yaml has it.
        trials: In all, over all processes that share the study.
        storage: The URL of a database, or another of Optuna's storages, that many machines share; a journal in the
            study's folder if left out.
        no_halving: Let all trials run to their end. Otherwise the lower half ends at a quarter, and again at half.
        config: A YAML file of settings to start from, or the config.yaml of a run; flags beside it win.
        settings: Settings that the search starts from; those that are not searched stay.
    """
    aside = {name: tuple(dict.fromkeys(chain(*given))) for name, given in (("exclude", exclude), ("id", id))}
    how = {"labels": labels, "score": score, "trials": trials, "out": out, "storage": storage, **aside}
    _search(settings, str(source), space, halving=not no_halving, **how)


def tune_images(
    source: AnySource,
    out: Path | None = None,
    labels: str | None = None,
    score: str | None = None,
    space: Path | None = None,
    trials: int = 50,
    storage: str | None = None,
    no_halving: bool = False,
    config: Path | None = None,
    recipe: str | None = None,
    *,
    settings: OmitArgPrefixes[ImageConfig],
) -> None:
    """Search for settings for pictures, without labels or with them, and leave a study with the best run.

    The same command goes on with the study, also beside others that are at it.

    Args:
        source: A folder of pictures, a .parquet file with a column of them, or an .npz array.
        out: The study's folder; studies/NAME-OF-THE-SOURCE if left out.
        labels: What to choose and to judge by: folder for the sub-folders, or the name of a column or array.
        score: What trials are chosen by. Without labels: rankme, rankme-embedding, lidar, alpha-req, trustworthiness,
            neighbors or stability. With labels: linear, knn, silhouette, or a scorer of scikit-learn's. Left out:
            neighbors without labels, linear with them.
        space: A YAML file of what is searched, as the study's space.yaml has it.
        trials: In all, over all processes that share the study.
        storage: The URL of a database, or another of Optuna's storages, that many machines share; a journal in the
            study's folder if left out.
        no_halving: Let all trials run to their end. Otherwise the lower half ends at a quarter, and again at half.
        config: A YAML file of settings to start from, or the config.yaml of a run; flags beside it win.
        recipe: Published settings by name, to start from; flags win.
        settings: Settings that the search starts from; those that are not searched stay.
    """
    how: dict[str, Any] = {"labels": labels, "score": score, "trials": trials, "out": out, "storage": storage}
    _search(settings, source, space, halving=not no_halving, **how)


def tune_signals(
    source: AnySource,
    out: Path | None = None,
    labels: str | None = None,
    rate: float | None = None,
    channels: int | None = None,
    id: str | None = None,  # the flag's name
    time: str | None = None,
    values: tuple[str, ...] = (),
    score: str | None = None,
    space: Path | None = None,
    trials: int = 50,
    storage: str | None = None,
    no_halving: bool = False,
    config: Path | None = None,
    *,
    settings: OmitArgPrefixes[SignalConfig],
) -> None:
    """Search for settings for sounds or other signals, and leave a study with the best run.

    The same command goes on with the study, also beside others that are at it.

    Args:
        source: As for vicreg fit.
        out: The study's folder; studies/NAME-OF-THE-SOURCE if left out.
        labels: What to choose and to judge by: folder for the sub-folders, or the name of a column or array.
        rate: Samples a second, as for vicreg fit.
        channels: Of recordings, as for vicreg fit.
        id: The column of a long table that tells its signals apart.
        time: The column of a long table that orders a signal's rows.
        values: The columns of a long table with the signals' channels; all others with numbers if left out.
        score: What trials are chosen by. Without labels: rankme, rankme-embedding, lidar, alpha-req, trustworthiness,
            neighbors or stability. With labels: linear, knn, silhouette, or a scorer of scikit-learn's. Left out:
            neighbors without labels, linear with them.
        space: A YAML file of what is searched, as the study's space.yaml has it.
        trials: In all, over all processes that share the study.
        storage: The URL of a database, or another of Optuna's storages, that many machines share; a journal in the
            study's folder if left out.
        no_halving: Let all trials run to their end. Otherwise the lower half ends at a quarter, and again at half.
        config: A YAML file of settings to start from, or the config.yaml of a run; flags beside it win.
        settings: Settings that the search starts from; those that are not searched stay.
    """
    how: dict[str, Any] = {"labels": labels, "score": score, "trials": trials, "out": out, "storage": storage}
    how["reading"] = Reading(labels, rate, channels, id, time, values)
    _search(settings, source, space, halving=not no_halving, **how)


def _search(settings: Model, source: str, space: Path | None, **how: Any) -> None:
    ranges = None
    if space is not None:
        ranges, fixed = read_space(space, type(settings))
        settings = replace(settings, **fixed)
    try:
        tuned = tune(settings, source, space=ranges, say=say, **how)
    except Interrupted as stop:
        print(f"vicreg: {stop}; the same command goes on.", file=sys.stderr)
        sys.exit(128 + stop.signal)
    say("\n" + tuned.words)
