"""The search for settings from Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from vicreg._checks import listed, require
from vicreg.data import Frame, as_frame, fingerprint, source_name
from vicreg.estimators import VICReg
from vicreg.evaluation import hold_out, infer_task, knn, linear_probe
from vicreg.evaluation.inputs import check_labels
from vicreg.evaluation.words import number
from vicreg.inference import load
from vicreg.objectives import Objective
from vicreg.training.config import ImageConfig, TableConfig
from vicreg.training.settings import COEFFICIENTS
from vicreg.training.signal_config import SignalConfig
from vicreg.tuning.ledger import Row
from vicreg.tuning.scores import Custom
from vicreg.tuning.search import BEST, Found, chooses_by_labels, refitted, search
from vicreg.tuning.space import Range, default_space
from vicreg.tuning.subjects import Subject, collection_subject, table_material, table_subject
from vicreg.workflows import Columns, Judged, Reading

Model = VICReg | TableConfig | ImageConfig | SignalConfig
STUDIES = "studies"


@dataclass(frozen=True, eq=False)
class Tuned:
    """What a search for settings found.

    Attributes:
        best: Of an estimator a clone with the best settings, fitted on all rows; else the encoder of the best run.
        config: The best settings.
        score: The name of the score that trials were judged by.
        trials: Every attempt at a trial, with its values, its score and, where it has none, the reason.
        importances: How much each parameter mattered among the complete trials, the sum being 1; empty where there are
            too few of them.
        words: All of it in words: what tuning gained by the score over the default settings, and with labels the
            accuracy of both on rows that nothing was chosen on.
        study: The ``optuna.Study``, for Optuna's own pictures and tools.
    """

    best: Any
    config: Any
    score: str
    trials: tuple[Row, ...]
    importances: dict[str, float]
    words: str
    study: Any

    def __str__(self) -> str:
        return self.words


def tune(
    model: Model,
    data: Any,
    *,
    labels: Any = None,
    space: Mapping[str, Range] | None = None,
    score: str | Custom | None = None,
    trials: int = 50,
    out: str | Path | None = None,
    storage: str | None = None,
    exclude: tuple[str, ...] = (),
    id: tuple[str, ...] = (),  # as the command line calls it
    reading: Reading | None = None,
    halving: bool = True,
    say: Callable[[str], None] = print,
) -> Tuned:
    """Search for settings, with labels or without: ``vicreg tune`` for Python.

    Each trial learns from four fifths of the rows and is judged by a score on the others. No score knows the weights
    that are searched, as the loss does: minimising that finds small weights. The first trial is ``model`` as it is, so
    that the answer says what tuning gained. docs/tuning.md has the scores, and how far they can be trusted.

    Args:
        model: Where the search starts: an estimator, or settings of a table, of pictures or of signals in a file.
        data: For an estimator the rows, an array or data frame; for settings the path.
        labels: For an estimator (n,) classes or numbers; for settings a column, an array's name, or ``folder``. A fifth
            of the rows is then set aside for the answer alone, and trials are chosen by a linear probe unless a score
            without labels is named.
        space: From names of settings to :class:`vicreg.tuning.Float`, :class:`vicreg.tuning.Integer` or
            :class:`vicreg.tuning.Choice`; ``encoder_width``, ``encoder_depth``, ``expander_width`` and
            ``expander_depth`` stand for layers that are alike. By default ``vicreg.tuning.default_space(settings)``.
        score: A name in ``vicreg.tuning.SCORES``, the name of a scorer of scikit-learn's (with labels), or a function
            of a linear probe, the representation of held-out rows, and their labels, of which more is better.
        trials: How many in all, over all processes that share the study.
        out: The study's folder; the same call goes on with the study in it. By default ``studies/NAME`` for a file, and
            none, everything being kept in memory, for an estimator.
        storage: The URL of a storage of Optuna's, such as a database that many machines share.
        exclude: Columns of a file that are no inputs.
        id: Columns of a file that are no inputs and go through to the embeddings.
        reading: How signals in a file are read.
        halving: Whether a trial ends early whose score is among the lower half at a quarter, or half, of its steps.
        say: Told of each trial.

    Returns:
        The best, fitted, with the study.

    Raises:
        ValueError: A space with an unknown parameter or an empty range, labels of one class, a storage that cannot be
            reached or holds another study, or no trial with a score: the message says why.
        ImportError: Optuna is not installed.

    Example:
        >>> from sklearn.datasets import load_wine
        >>> from vicreg.tuning import Float
        >>> X, _ = load_wine(return_X_y=True)
        >>> start = VICReg(n_components=4, steps=10, random_state=0, device="cpu")
        >>> tuned = tune(start, X, space={"view_rate": Float(0.1, 0.9)}, trials=3, say=lambda text: None)
        >>> tuned.best.transform(X).shape, len(tuned.trials)
        ((178, 4), 3)
    """
    where = Path(out) if out is not None else None
    how: dict[str, Any] = {"score": score, "space": space, "trials": trials, "storage": storage}
    how |= {"halving": halving, "say": say}
    by_labels = chooses_by_labels(score, labelled=labels is not None)
    if isinstance(model, VICReg):
        return _tune_estimator(model, data, labels, where, by_labels=by_labels, **how)
    known = isinstance(model, TableConfig | ImageConfig | SignalConfig)
    require(known, "model", "be a VICReg or settings", type(model).__name__, error=TypeError)
    path = isinstance(data, str | Path)
    require(path, "data", "be a path where settings are tuned", type(data).__name__, "Or tune a VICReg.", TypeError)
    if isinstance(model, TableConfig):
        columns = Columns(labels, tuple(exclude), tuple(id))
        subject = table_subject(Path(data), columns, model, by_labels=by_labels)
    else:
        read = replace(reading or Reading(), labels=labels)
        subject = collection_subject(str(data), read, model, by_labels=by_labels)
    folder = where or Path(STUDIES) / source_name(str(data).rstrip("/"))
    found = search(subject, folder.name, folder=folder, **how)
    words = "\n".join([found.words, refitted(subject, found, folder, say)])
    (folder / "answer.txt").write_text(words + "\n")
    return _tuned(found, load(folder / BEST), words)


def _tune_estimator(
    estimator: VICReg, X: Any, labels: ArrayLike | None, folder: Path | None, *, by_labels: bool, **how: Any
) -> Tuned:
    frame = as_frame(X)
    y = None if labels is None else check_labels(np.asarray(labels), frame.n_rows)
    apart = np.zeros(frame.n_rows, bool) if y is None else hold_out(y)
    base, given, fixed = _parts(estimator)
    if how["space"] is None:
        how["space"] = {name: one for name, one in default_space(base).items() if name not in fixed}
    taken = [name for name in how["space"] if name in fixed]
    fix = "Give the estimator names and numbers there."
    require(not taken, "a space", "leave out what the estimator has an object for", listed(taken), fix)
    kept = np.flatnonzero(~apart)
    seen = frame.take(kept)
    known = None if y is None or not by_labels else y[kept]
    material, words = table_material(seen, base, known, np.ones(len(kept), bool), **given)
    about = {"kind": "table", "fingerprint": fingerprint(frame), "by_labels": by_labels}
    subject = Subject(material, base, about, words, _no_run, y is not None, by_labels)
    found = search(subject, folder.name if folder else "vicreg", folder=folder, **how)
    values = {name: value for name, value in vars(found.config).items() if value != getattr(base, name)}
    best = clone(estimator).set_params(**values)
    said = [found.words]
    if y is not None:
        pair = [_judged(clone(one), frame, y, apart) for one in (best, estimator)]
        both = zip(("linear probe", "5-NN"), *pair, strict=True)
        text = ", ".join(f"{probe} {number(mine)} (default {number(its)})" for probe, mine, its in both)
        said.append(f"Judged by the labels on {apart.sum():,} rows that nothing was chosen on: {text}.")
    return _tuned(found, best.fit(X), "\n".join(said))


def _parts(estimator: VICReg) -> tuple[TableConfig, dict[str, Any], set[str]]:
    """An estimator's settings, the objects in place of some, and the parameters that those stand for.

    The estimator tells settings from objects when it fits; here the same is asked of it.
    """
    given: dict[str, Any] = {}
    fixed: set[str] = set()
    if not isinstance(estimator.views, str):
        given["views"] = estimator._views()
        fixed |= {"views", "view_rate"}
    if encoders := estimator._encoders():
        given["encoders"] = encoders
        fixed |= {"n_components", "encoder", "encoder_width", "encoder_depth", "encoder_norm", "linear_path"}
    if isinstance(estimator.objective, Objective):
        given["objective"] = estimator.objective
        fixed |= {"objective", *COEFFICIENTS, "reconstruction", "anchor"}
    return estimator._config(), given, fixed


def _judged(estimator: VICReg, frame: Frame, y: NDArray[Any], apart: NDArray[np.bool_]) -> tuple[float, float]:
    """Linear probe and 5-NN on rows set aside, of an estimator fitted on the others."""
    seen, others = (frame.take(np.flatnonzero(which)) for which in (~apart, apart))
    estimator.fit(_plain(seen))
    h, asked = estimator.transform(_plain(seen)), estimator.transform(_plain(others))
    task = infer_task(y)
    found = [probe(h, y[~apart], asked, y[apart], task=task).mean() for probe in (linear_probe, knn)]
    linear, near = found if task == "classification" else [1 - one / y[apart].var() for one in found]
    return float(linear), float(near)


def _plain(frame: Frame) -> Any:
    """A frame as estimators take them."""
    return frame.values


def _no_run(folder: Path, config: Any, say: Callable[[str], None]) -> Judged:
    """The winner among estimators is an estimator, and no run."""
    raise NotImplementedError


def _tuned(found: Found, best: Any, words: str) -> Tuned:
    return Tuned(best, found.config, found.score, tuple(found.rows), found.importances, words, found.study)
