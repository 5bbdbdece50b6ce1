"""What a run knows of itself: its table, which columns are inputs, its settings."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

import vicreg
from vicreg import runs
from vicreg._checks import listed, require, shown
from vicreg.data import Frame, fingerprint, read_table
from vicreg.evaluation import infer_task
from vicreg.runs import Run
from vicreg.training.config import TableConfig, from_mapping, to_mapping

HELD_OUT = 0.2


@dataclass(frozen=True)
class Columns:
    """Which columns of a source are no inputs.

    Attributes:
        labels: What to judge by; never an input.
        exclude: Left out.
        id: Left out, and carried through to the embeddings.
    """

    labels: str | None = None
    exclude: tuple[str, ...] = ()
    id: tuple[str, ...] = ()

    @property
    def set_aside(self) -> tuple[str, ...]:
        """All columns that are no inputs."""
        return (*(() if self.labels is None else (self.labels,)), *self.exclude, *self.id)


def inputs(frame: Frame, columns: Columns) -> Frame:
    """The input columns.

    Raises:
        ValueError: A column set aside is not in the table.
    """
    for option, names in (
        ("--labels", columns.labels and (columns.labels,)),
        ("--exclude", columns.exclude),
        ("--id", columns.id),
    ):
        unknown = [name for name in names or () if name not in frame.names]
        require(not unknown, option, f"name columns of the table ({listed(frame.names, 20)})", listed(unknown))
    return frame.drop(set(columns.set_aside)) if columns.set_aside else frame


def held_out(frame: Frame, columns: Columns) -> NDArray[np.bool_]:
    """A fifth of the labelled rows, in the classes' proportions where every class has two rows; none without labels."""
    held = np.zeros(frame.n_rows, bool)
    inputs(frame, columns)
    if columns.labels is None:
        return held
    labels, rows = frame.labels(columns.labels)
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    got = f"{len(counts)} in column {shown(columns.labels)}"
    require(len(counts) >= 2, "labels", "have at least two classes or values", got, "Name another --labels column.")
    stratify = None if infer_task(labels) == "regression" else np.where(counts[codes] < 5, -1, codes)
    if stratify is not None and np.unique(stratify, return_counts=True)[1].min() < 5:
        stratify = None
    _, test = train_test_split(rows, test_size=HELD_OUT, random_state=0, stratify=stratify)
    held[test] = True
    return held


def about(source: Path, columns: Columns, config: TableConfig, frame: Frame) -> dict[str, Any]:
    """All that is needed to run again, as YAML can hold it."""
    aside = {"labels": columns.labels, "exclude": list(columns.exclude), "id": list(columns.id)}
    versions = {"vicreg": vicreg.__version__, "torch": str(torch.__version__), "python": platform.python_version()}
    table = {"source": str(source.absolute()), "rows": frame.n_rows, "fingerprint": fingerprint(frame)}
    return {**table, **aside, "settings": to_mapping(config), "versions": versions}


def read_about(run: Run) -> dict[str, Any]:
    """What :func:`about` described, with all its parts."""
    found = run.read_config()
    lacking = {"source", "fingerprint", "labels", "exclude", "id", "settings"} - set(found)
    if lacking:
        raise runs.damaged(run.config, f"a file without {listed(sorted(lacking))}")
    return found


def columns_of(run: Run, about: dict[str, Any]) -> Columns:
    """The columns that the fit set aside."""

    def texts(name: str) -> tuple[str, ...]:
        value = about.get(name) or []
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise runs.damaged(run.config, f"{name}: {shown(value)}")
        return tuple(value)

    labels = about.get("labels")
    if labels is not None and not isinstance(labels, str):
        raise runs.damaged(run.config, f"labels: {shown(labels)}")
    return Columns(labels, texts("exclude"), texts("id"))


def config_of(run: Run, about: dict[str, Any]) -> TableConfig:
    """The settings of the fit."""
    try:
        return from_mapping(about.get("settings"))
    except (ValueError, TypeError) as failure:
        raise runs.damaged(run.config, f"settings of which {failure}") from failure


def same_table(run: Run, about: dict[str, Any], source: Path | None) -> Frame:
    """The table of the run, read again and known to be unchanged."""
    known = Path(str(about.get("source"))) if source is None else source
    frame = read_table(known)
    unchanged = fingerprint(frame) == about.get("fingerprint")
    require(unchanged, repr(str(known)), "be the table that the run was fitted on", "another content", "Fit a new run.")
    return frame
