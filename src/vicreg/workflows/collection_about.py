"""What a run on a collection knows of itself: its source, what it is judged by, its settings."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import vicreg
from vicreg import runs
from vicreg._checks import listed, message, require, shown
from vicreg.data import is_url
from vicreg.evaluation import hold_out
from vicreg.runs import Run
from vicreg.training.settings import from_mapping, to_mapping
from vicreg.workflows.medium import Medium, Reading, Settings, Source


@dataclass(frozen=True, eq=False)
class Collection:
    """Pictures or signals, opened.

    Attributes:
        medium: Which of them.
        where: Path, URL or pattern, as given.
        source: With random access; None for a stream.
        reading: How they are read; its labels are what they are judged by.
        classes: The names of the classes.
        codes: (n,) the number of each item's class, -1 for none; None without labels.
        held: (n,) which items no fit sees.
    """

    medium: Medium
    where: str
    source: Source | None
    reading: Reading
    classes: NDArray[Any]
    codes: NDArray[np.int64] | None
    held: NDArray[np.bool_]

    @property
    def rows(self) -> NDArray[np.int64]:
        """The items that are learnt from."""
        return np.flatnonzero(~self.held)

    @property
    def count(self) -> int | None:
        """How many there are; None where nobody knows."""
        return None if self.source is None else len(self.source)

    def fingerprint(self) -> str:
        """What tells these items from others."""
        if self.source is None and self.medium.stream is not None:
            return self.medium.stream.fingerprint(self.where)
        return self.medium.fingerprint(self.source)

    def labels_fingerprint(self) -> str | None:
        """What tells these labels from others; None without labels."""
        if self.codes is None:
            return None
        evidence = repr([str(one) for one in self.classes]).encode() + self.codes.tobytes()
        return hashlib.blake2b(evidence, digest_size=16).hexdigest()


def open_collection(medium: Medium, where: str, reading: Reading) -> Collection:
    """Open a source and hold a fifth of its labelled items out, to judge on.

    Args:
        medium: What it holds.
        where: Folder, file, or a stream.
        reading: How; without labels all items are learnt from.

    Raises:
        ValueError: There are no such labels, too few of them, or no items.
        FileNotFoundError: There is no such source.
    """
    labels = reading.labels
    if medium.streams(where) and medium.stream is not None:
        medium.stream.fingerprint(where)
        fix = "Judge later: vicreg evaluate RUN FOLDER."
        require(labels is None, "--labels", f"be left out for {medium.stream.noun}", shown(labels), fix)
        return Collection(medium, where, None, reading, np.empty(0), None, np.zeros(0, bool))
    source: Source = medium.opened(where, reading)
    held = np.zeros(len(source), bool)
    if labels is None:
        return Collection(medium, where, source, reading, np.empty(0), None, held)
    classes, codes = classes_of(source, labels, medium)
    known = np.flatnonzero(codes >= 0)
    held[known] = hold_out(np.asarray([str(classes[code]) for code in codes[known]]))
    return Collection(medium, where, source, reading, classes, codes, held)


def classes_of(source: Source, labels: str, medium: Medium) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The classes' names, and each item's class by its number, -1 for none.

    Raises:
        ValueError: The source has no labels.
    """
    if source.labels is None:
        fix = f"Put the {medium.nouns} of each class into a sub-folder, or leave --labels out."
        require(False, "--labels", "name labels that the source has", f"{shown(labels)}, and it has none", fix)
    every = np.asarray(source.labels)
    known = np.array([label is not None for label in every]) if every.dtype == object else np.ones(len(every), bool)
    codes = np.full(len(every), -1, np.int64)
    texts = every[known]
    classes, codes[known] = np.unique(texts.astype(str) if texts.dtype == object else texts, return_inverse=True)
    return classes, codes


def about_collection(collection: Collection, config: Settings) -> dict[str, Any]:
    """All that is needed to run again, as YAML can hold it."""
    medium, reading = collection.medium, collection.reading
    versions = {"vicreg": vicreg.__version__, "torch": str(torch.__version__), "python": platform.python_version()}
    where = collection.where if is_url(collection.where) else str(Path(collection.where).absolute())
    found = {"kind": medium.kind, "source": where, medium.nouns: collection.count}
    labels = {"labels": reading.labels, "labels_fingerprint": collection.labels_fingerprint()}
    how = {"reading": reading.plain()} if reading.plain() else {}
    settings = {"settings": to_mapping(config), "versions": versions}
    return {**found, "fingerprint": collection.fingerprint(), **how, **labels, **settings}


def read_about_collection(run: Run, medium: Medium) -> tuple[dict[str, Any], Reading, Settings]:
    """What :func:`about_collection` described: all of it, how the source is read, and the settings.

    Raises:
        ValueError: The run is on another kind of source, or its file is damaged.
    """
    found = run.read_config()
    kind = found.get("kind")
    if kind != medium.kind:
        rule = f"be the folder of a run on {medium.nouns}"
        raise ValueError(message(repr(str(run.folder)), rule, f"one of the kind {shown(kind)}", "Name another --out."))
    lacking = {"source", "fingerprint", "labels", "settings"} - set(found)
    if lacking:
        raise runs.damaged(run.config, f"a file without {listed(sorted(lacking))}")
    if not isinstance(found["labels"], str | None) or not isinstance(found["source"], str):
        raise runs.damaged(run.config, f"labels: {shown(found['labels'])}, source: {shown(found['source'])}")
    try:
        reading = from_mapping(found.get("reading", {}), Reading)
    except (ValueError, TypeError) as failure:
        raise runs.damaged(run.config, f"a reading of which {str(failure).rstrip('.')}") from failure
    try:
        settings = from_mapping(found["settings"], medium.config)
    except (ValueError, TypeError) as failure:
        raise runs.damaged(run.config, f"settings of which {str(failure).rstrip('.')}") from failure
    return found, replace(reading, labels=found["labels"]), settings


def same_collection(run: Run, found: dict[str, Any], medium: Medium, reading: Reading, where: str | None) -> Collection:
    """The source of the run, opened again and known to be unchanged; its path may be another.

    Args:
        run: Its file says which items were held out.
        found: Its description.
        medium: What it is on.
        reading: How its source is read.
        where: The source; None is where it was.

    Raises:
        ValueError: Items or labels have changed.
    """
    collection = open_collection(medium, found["source"] if where is None else where, reading)
    rule, fix = "be the source that the run was fitted on", "Fit a new run."
    unchanged = collection.fingerprint() == found["fingerprint"]
    require(unchanged, shown(collection.where), rule, "another content", fix)
    same = collection.labels_fingerprint() == found.get("labels_fingerprint")
    require(same, shown(collection.where), rule, "other labels", fix)
    if not run.split.exists():  # killed before it was written: what it would have been
        return collection
    held = runs.read_array(run.split)
    if held.shape != collection.held.shape or held.dtype != bool:
        raise runs.damaged(run.split, f"{held.dtype} of shape {held.shape} for {collection.count} {medium.nouns}")
    return replace(collection, held=held)
