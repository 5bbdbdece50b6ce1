"""What a run knows of itself: its table, which columns are inputs, its settings."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

import vicreg
from vicreg import runs
from vicreg._checks import listed, message, near, require, shown
from vicreg.data import Frame, fingerprint, read_table
from vicreg.data.cells import as_arrow
from vicreg.evaluation import hold_out
from vicreg.runs import Run
from vicreg.training.config import TableConfig
from vicreg.training.settings import Settings, from_mapping, to_mapping

C = TypeVar("C", bound=Settings)

EMBEDDING_COLUMN = re.compile(r"vicreg\d+")


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
        ValueError: A column set aside is not in the table, or an id column has the name of an embedding's column.
    """
    for option, names in (
        ("--labels", columns.labels and (columns.labels,)),
        ("--exclude", columns.exclude),
        ("--id", columns.id),
    ):
        unknown = [name for name in names or () if name not in frame.names]
        fix = near(unknown[0], frame.names) if unknown else ""
        require(not unknown, option, f"name columns of the table ({listed(frame.names, 20)})", listed(unknown), fix)
    taken = [name for name in columns.id if EMBEDDING_COLUMN.fullmatch(name)]
    require(not taken, "--id", "name columns other than vicreg0, vicreg1, ...", listed(taken), "Rename the column.")
    return frame.drop(set(columns.set_aside)) if columns.set_aside else frame


SERIES = 5
"""Ids that come so often each may be those of signals."""


def repeated_in_words(frame: Frame, columns: Columns) -> list[str]:
    """A hint where ids come many times each, as in a long table of signals.

    Example:
        >>> import pyarrow as pa
        >>> from vicreg.data import as_frame
        >>> repeated_in_words(as_frame(pa.table({"walk": ["a", "b"] * 8})), Columns(id=("walk",)))
        ["'walk' has 2 ids in 16 rows: if each is a signal, --id walk --time COLUMN learns from signals."]
    """
    found = []
    for name in columns.id:
        count = pc.count_distinct(as_arrow(frame.column(name))).as_py()
        if count * SERIES <= frame.n_rows:
            said = f"{shown(name)} has {count:,} id{'' if count == 1 else 's'} in {frame.n_rows:,} rows"
            found.append(f"{said}: if each is a signal, --id {name} --time COLUMN learns from signals.")
    return found


def held_out(frame: Frame, columns: Columns) -> NDArray[np.bool_]:
    """A fifth of the labelled rows, drawn so that the run can be judged on them; none without labels.

    Raises:
        ValueError: There are too few labelled rows, or too few classes.
    """
    held = np.zeros(frame.n_rows, bool)
    inputs(frame, columns)
    if columns.labels is not None:
        labels, rows = frame.labels(columns.labels)
        held[rows] = hold_out(labels)
    return held


def about(source: Path, columns: Columns, config: TableConfig, frame: Frame) -> dict[str, Any]:
    """All that is needed to run again, as YAML can hold it."""
    aside = {"labels": columns.labels, "exclude": list(columns.exclude), "id": list(columns.id)}
    versions = {"vicreg": vicreg.__version__, "torch": str(torch.__version__), "python": platform.python_version()}
    table = {"kind": "table", "source": str(source.absolute()), "rows": frame.n_rows, "fingerprint": fingerprint(frame)}
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
        return from_mapping(about.get("settings"), TableConfig)
    except (ValueError, TypeError) as failure:
        raise runs.damaged(run.config, f"settings of which {str(failure).rstrip('.')}") from failure


def read_settings(path: Path, kind: type[C]) -> C:
    """Settings from a YAML file of somebody's own, or from a run's ``config.yaml``.

    Args:
        path: The file.
        kind: Their dataclass.

    Raises:
        ValueError: It is no YAML, or does not hold settings.
        FileNotFoundError: There is no such file.
    """
    where = f"the file {shown(str(path))}"
    if not path.exists():
        raise FileNotFoundError(message(where, "exist", "no such file"))
    try:
        found = runs.read_yaml(path)
    except ValueError as failure:
        got = " ".join(str(failure.__cause__ or "no mapping of names to values").split())
        raise ValueError(message(where, "hold settings as YAML, such as steps: 1500", shown(got))) from failure
    return from_mapping(found.get("settings", found), kind)


def same_table(run: Run, about: dict[str, Any], source: Path | None) -> Frame:
    """The table of the run, read again and known to be unchanged."""
    known = Path(str(about.get("source"))) if source is None else source
    frame = read_table(known, exact=columns_of(run, about).id)
    unchanged = fingerprint(frame) == about.get("fingerprint")
    require(unchanged, repr(str(known)), "be the table that the run was fitted on", "another content", "Fit a new run.")
    return frame
