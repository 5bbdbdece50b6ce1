"""Judging an encoder: raw data, PCA, the encoder before training and after it, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicreg import runs
from vicreg._checks import check_number, message, require, shown
from vicreg.data import FOLDER, Corrupt
from vicreg.evaluation import (
    Comparison,
    ProbeComparison,
    hold_out,
    leading_components,
)
from vicreg.inference import load_as
from vicreg.runs import Run
from vicreg.training.collection import threads
from vicreg.training.engine import device_of
from vicreg.workflows.collection_about import Collection, classes_of, read_about_collection, same_collection
from vicreg.workflows.collection_probing import augmented_probe, tuned
from vicreg.workflows.judging import Judged, written
from vicreg.workflows.kinds import kind_of_run
from vicreg.workflows.labelled import Labelled
from vicreg.workflows.media import MEDIA
from vicreg.workflows.medium import Embeds, Medium, Reading, Settings

MOST_FOR_PCA = 10_000

Pair = tuple[Any, Any]


def judge_held_out(run: Run, collection: Collection, embedder: Embeds, config: Settings) -> Judged:
    """Judge a run on the items that its fit held out, and write the scores; or say why it cannot be judged."""
    train, test = _parts(collection)
    try:
        judged = _judged(collection.medium, embedder, train, test, config)
    except ValueError as failure:
        return Judged(None, None, (f"The run cannot be judged because {failure}",))
    return written(judged, run.scores)


def judge_without_labels(run: Run, line: Mapping[str, float], width: int, medium: Medium) -> Judged:
    """Write the readings of a run without labels."""
    found = {name: value for name, value in line.items() if name in ("rankme", "alpha_req", "dead_dimensions")}
    if not found:
        return Judged(None, None, ("The run was too short for readings.",))
    runs.write_json(run.readings, {"readings": {**found, "width": float(width)}})
    return Judged(None, None, (unlabelled_in_words(found, width, medium.nouns),))


def unlabelled_in_words(found: Mapping[str, float], width: int, nouns: str) -> str:
    """Readings without labels in words that claim no usefulness.

    Example:
        >>> print(unlabelled_in_words({"rankme": 120.4, "dead_dimensions": 3.0}, 512, "pictures"))
        Without labels there is no telling how useful the representation is. Its effective rank (RankMe) is 120 of 512;
        3 of its numbers hardly vary. Judge it on labelled pictures: vicreg evaluate RUN SOURCE.
    """
    dead = int(found.get("dead_dimensions", 0))
    rank = f"Its effective rank (RankMe) is {found['rankme']:.3g} of {width}"
    still = f"; {dead} of its numbers hardly vary" if dead else ""
    begin = "Without labels there is no telling how useful the representation is."
    return f"{begin} {rank}{still}. Judge it on labelled {nouns}: vicreg evaluate RUN SOURCE."


def evaluate_collection(
    folder: Path,
    where: str | None = None,
    reading: Reading | None = None,
    test: str | None = None,
    *,
    augmented: bool = False,
    shares: Sequence[float] = (),
    device: str = "auto",
    say: Callable[[str], None] = print,
) -> Judged:
    """Judge a finished run by labelled items: those it held out, others, or a training and a test set.

    Args:
        folder: The run, on pictures or signals.
        where: Labelled items. A fifth of them is held out to judge on, unless ``test`` is given. None is the run's own.
        reading: What they are judged by, a folder's sub-folders by default, and how they are read; None for as the
            run's own source was.
        test: Labelled items to judge on.
        augmented: Whether also a linear probe is trained on items cropped (pictures also flipped) anew at every epoch,
            as in the paper's protocol.
        shares: Shares of the labels with which the whole encoder is fine-tuned, such as .01 and .1.
        device: auto, cpu, cuda, cuda:N or mps.
        say: Told in words what is going on.

    Raises:
        ValueError: Items without labels, or a run on something else.
    """
    run, medium = Run(folder), MEDIA[kind_of_run(folder)]
    about, own, config = read_about_collection(run, medium)
    embedder: Embeds = load_as(medium.embedder, folder).to(device_of(device))
    for share in shares:
        check_number("each of --shares", share, 0, 1, open_low=True)
    if where is None:
        rule = f"come with labelled {medium.nouns} to train on"
        require(test is None, "--test", rule, shown(test), "Name both sources.")
        if about["labels"] is None:
            found = runs.read_json(run.readings).get("readings") if run.readings.exists() else None
            require(isinstance(found, dict), repr(str(folder)), "hold readings to show without labels", "none")
            return Judged(None, None, (unlabelled_in_words(dict(found or {}), embedder.width, medium.nouns),))
        learnt, judged_on = _parts(same_collection(run, about, medium, own, None))
        path = run.scores
    else:
        given = (reading or Reading()).check()
        learnt = _labelled(medium, where, given, own, embedder)
        judged_on = learnt if test is None else _labelled(medium, test, given, own, embedder)
        if test is None:
            held = hold_out(learnt.labels.astype(str))
            judged_on = replace(learnt, rows=learnt.rows[held], labels=learnt.labels[held])
            learnt = replace(learnt, rows=learnt.rows[~held], labels=learnt.labels[~held])
        path = run.scores_on(Path(where).name)
    judged = _judged(medium, embedder, learnt, judged_on, config)
    notes = list(judged.notes)
    if where is not None and medium.fingerprint(learnt.source) == about["fingerprint"]:
        which = f"the {medium.nouns} in {where}, or most of them"
        notes.append(f"The encoder has learnt from {which}, without their labels.")
    if augmented:
        say(f"Training a linear probe on {medium.nouns} cropped anew at every epoch.")
        notes.append(augmented_probe(medium, embedder, learnt, judged_on, config))
    for share in shares:
        say(f"Fine-tuning on {share:.3g} of the labels.")
        notes.append(tuned(medium, embedder, learnt, judged_on, share, config))
    return written(replace(judged, notes=tuple(notes)), path)


def _parts(collection: Collection) -> tuple[Labelled, Labelled]:
    source, codes = collection.source, collection.codes
    if source is None or codes is None:
        raise ValueError(message("the run", "have labels to be judged by", "none"))
    learnt, held = (np.flatnonzero(which & (codes >= 0)) for which in (~collection.held, collection.held))
    return (
        Labelled(source, learnt, collection.classes[codes[learnt]]),
        Labelled(source, held, collection.classes[codes[held]]),
    )


def _labelled(medium: Medium, where: str, given: Reading, own: Reading, embedder: Embeds) -> Labelled:
    """The labelled items of a source that is not the run's own."""
    if medium.streams(where):
        rule, got = f"be {medium.nouns} that can be judged on one by one", medium.stream and medium.stream.noun
        require(False, shown(where), rule, got, "Judge on a folder, a .parquet or an .npz.")
    labels = given.labels or own.labels or (FOLDER if Path(where).is_dir() else None)
    if labels is None:
        raise ValueError(message("--labels", f"name the labels of {shown(where)}", "none, and the run had none"))
    source = medium.opened(where, medium.like(where, replace(given, labels=labels), own, embedder))
    classes, codes = classes_of(source, labels, medium)
    rows = np.flatnonzero(codes >= 0)
    return Labelled(source, rows, classes[codes[rows]])


def _judged(medium: Medium, embedder: Embeds, train: Labelled, test: Labelled, config: Settings) -> Judged:
    untrained = medium.untrained(embedder, config)
    ledger = Corrupt(config.max_corrupt, of=len(train.rows) + len(test.rows))
    parts = [_represented(medium, part, embedder, untrained, ledger, config) for part in (train, test)]
    learnt, judged = parts
    some = learnt.raw[:: -(-len(learnt.raw) // MOST_FOR_PCA)]
    baseline = leading_components(some, embedder.width)
    sets: dict[str, Pair] = {
        "raw": (learnt.raw, judged.raw),
        "pca": (_float32(baseline.transform(learnt.raw)), _float32(baseline.transform(judged.raw))),
    }
    if untrained is not None:
        sets["random"] = (learnt.untrained, judged.untrained)
    sets["vicreg"] = (learnt.trained, judged.trained)
    notes = [f"{len(ledger.names)} {medium.nouns} could not be read and are left out."] if ledger.names else []
    comparison: Comparison = ProbeComparison(sets, learnt.labels, judged.labels, random_state=config.seed % 2**32)
    notes += short_in_words(comparison, config, len(train.rows))
    return Judged(comparison, None, tuple(notes))


def short_in_words(comparison: Comparison, config: Settings, count: int) -> list[str]:
    """A note on a run of few steps whose encoder is no better than it was drawn.

    Args:
        comparison: Of ``vicreg`` with others.
        config: The run's settings.
        count: Items that are learnt from.
    """
    steps, usual = config.steps_for(count), type(config)().steps_for(count)
    if steps >= usual or "random" not in comparison.widths:
        return []
    better = any(one.sign == 1 for one in comparison.differences("vicreg", "random").values())
    said = f"After {steps:,} steps, where the default makes {usual:,}, it does no better than untrained"
    return [] if better else [f"{said}: more --steps may help."]


def _float32(x: NDArray[Any]) -> NDArray[np.float32]:
    return x.astype(np.float32)


@dataclass(frozen=True, eq=False)
class _Represented:
    raw: NDArray[Any]
    trained: NDArray[np.float32]
    untrained: NDArray[np.float32] | None
    labels: NDArray[Any]


def _represented(
    medium: Medium, part: Labelled, embedder: Embeds, untrained: Embeds | None, ledger: Corrupt, config: Settings
) -> _Represented:
    """Each item is opened once."""
    rows, raw, trained, drawn = [], [], [], []
    for some, plain, crops in medium.looked(embedder, part.source, part.rows, ledger, threads(config.workers)):
        rows.append(some)
        raw.append(plain)
        trained.append(embedder.encode(crops))
        if untrained is not None:
            drawn.append(untrained.encode(crops))
    require(bool(rows), f"the {medium.nouns}", "be readable", "none that is")
    before = np.concatenate(drawn) if drawn else None
    return _Represented(np.concatenate(raw), np.concatenate(trained), before, part.kept(np.concatenate(rows)))
