"""What a run on pictures knows of itself: its source, what it is judged by, its settings."""

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
from vicreg._checks import require, shown
from vicreg.data import (
    FOLDER,
    ImageSource,
    fingerprint_images,
    fingerprint_shards,
    is_url,
    read_images,
    shard_urls,
)
from vicreg.evaluation import hold_out
from vicreg.runs import Run
from vicreg.training.config import ImageConfig
from vicreg.training.settings import from_mapping, to_mapping
from vicreg.workflows.kinds import kind_of_pictures


@dataclass(frozen=True, eq=False)
class Pictures:
    """A source of pictures, opened.

    Attributes:
        where: Its path, URL or pattern, as given.
        source: With random access; None for shards.
        labels: What it is judged by; None for nothing.
        classes: The names of the classes.
        codes: (n,) the number of each picture's class, -1 for none; None without labels.
        held: (n,) which pictures no fit sees.
    """

    where: str
    source: ImageSource | None
    labels: str | None
    classes: NDArray[Any]
    codes: NDArray[np.int64] | None
    held: NDArray[np.bool_]

    @property
    def rows(self) -> NDArray[np.int64]:
        """The pictures that are learnt from."""
        return np.flatnonzero(~self.held)

    @property
    def count(self) -> int | None:
        """How many there are; None where nobody knows."""
        return None if self.source is None else len(self.source)

    def fingerprint(self) -> str:
        """What tells these pictures from others."""
        return fingerprint_shards(shard_urls(self.where)) if self.source is None else fingerprint_images(self.source)

    def labels_fingerprint(self) -> str | None:
        """What tells these labels from others; None without labels."""
        if self.codes is None:
            return None
        evidence = repr([str(one) for one in self.classes]).encode() + self.codes.tobytes()
        return hashlib.blake2b(evidence, digest_size=16).hexdigest()


def open_pictures(where: str, labels: str | None) -> Pictures:
    """Open a source and hold a fifth of its labelled pictures out, to judge on.

    Args:
        where: Folder, file, or shards.
        labels: ``folder``, or the name of a column or array; None to learn from all pictures.

    Raises:
        ValueError: There are no such labels, too few of them, or no pictures.
        FileNotFoundError: There is no such source.
    """
    if kind_of_pictures(where) == "shards":
        shard_urls(where)
        fix = "Judge later: vicreg evaluate RUN FOLDER."
        require(labels is None, "--labels", "be left out for shards", shown(labels), fix)
        return Pictures(where, None, None, np.empty(0), None, np.zeros(0, bool))
    source = read_images(where, None if labels == FOLDER and Path(where).is_dir() else labels)
    if labels is None:
        return Pictures(where, source, None, np.empty(0), None, np.zeros(len(source), bool))
    classes, codes = classes_of(source, labels)
    held = np.zeros(len(source), bool)
    known = np.flatnonzero(codes >= 0)
    held[known] = hold_out(np.asarray([str(classes[code]) for code in codes[known]]))
    return Pictures(where, source, labels, classes, codes, held)


def classes_of(source: ImageSource, labels: str) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The classes' names, and each picture's class by its number, -1 for none.

    Raises:
        ValueError: The source has no labels.
    """
    if source.labels is None:
        fix = "Put the pictures of each class into a sub-folder, or leave --labels out."
        require(False, "--labels", "name labels that the source has", f"{shown(labels)}, and it has none", fix)
    every = np.asarray(source.labels)
    known = np.array([label is not None for label in every]) if every.dtype == object else np.ones(len(every), bool)
    codes = np.full(len(every), -1, np.int64)
    texts = every[known]
    classes, codes[known] = np.unique(texts.astype(str) if texts.dtype == object else texts, return_inverse=True)
    return classes, codes


def about_images(pictures: Pictures, config: ImageConfig) -> dict[str, Any]:
    """All that is needed to run again, as YAML can hold it."""
    versions = {"vicreg": vicreg.__version__, "torch": str(torch.__version__), "python": platform.python_version()}
    where = pictures.where if is_url(pictures.where) else str(Path(pictures.where).absolute())
    described = {"kind": "image", "source": where, "pictures": pictures.count, "fingerprint": pictures.fingerprint()}
    labels = {"labels": pictures.labels, "labels_fingerprint": pictures.labels_fingerprint()}
    return {**described, **labels, "settings": to_mapping(config), "versions": versions}


def read_about_images(run: Run) -> tuple[dict[str, Any], ImageConfig]:
    """What :func:`about_images` described: all of it, and the settings.

    Raises:
        ValueError: The run is on another kind of source, or its file is damaged.
    """
    found = run.read_config()
    lacking = {"source", "fingerprint", "labels", "settings"} - set(found)
    if found.get("kind") != "image" or lacking:
        raise runs.damaged(run.config, f"a file that describes no run on pictures (kind: {shown(found.get('kind'))})")
    if not isinstance(found["labels"], str | None) or not isinstance(found["source"], str):
        raise runs.damaged(run.config, f"labels: {shown(found['labels'])}, source: {shown(found['source'])}")
    try:
        return found, from_mapping(found["settings"], ImageConfig)
    except (ValueError, TypeError) as failure:
        raise runs.damaged(run.config, f"settings of which {str(failure).rstrip('.')}") from failure


def same_pictures(run: Run, found: dict[str, Any], where: str | None) -> Pictures:
    """The source of the run, opened again and known to be unchanged; its path may be another.

    Args:
        run: Its file says which pictures were held out.
        found: Its description.
        where: The source; None is where it was.

    Raises:
        ValueError: Pictures or labels have changed.
    """
    pictures = open_pictures(found["source"] if where is None else where, found["labels"])
    rule, fix = "be the source that the run was fitted on", "Fit a new run."
    unchanged = pictures.fingerprint() == found["fingerprint"]
    require(unchanged, shown(pictures.where), rule, "another content", fix)
    same = pictures.labels_fingerprint() == found.get("labels_fingerprint")
    require(same, shown(pictures.where), rule, "other labels", fix)
    if not run.split.exists():  # killed before it was written: what it would have been
        return pictures
    held = runs.read_array(run.split)
    if held.shape != pictures.held.shape or held.dtype != bool:
        raise runs.damaged(run.split, f"{held.dtype} of shape {held.shape} for {pictures.count} pictures")
    return replace(pictures, held=held)
