"""What a run on pairs knows of itself: its two sources, which rows belong together, its settings."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import vicreg
from vicreg import runs
from vicreg._checks import listed, message, near, require, shown
from vicreg.data import (
    FOLDER,
    Frame,
    as_keys,
    by_key,
    fingerprint,
    in_order,
    kind_of,
    most_alike,
    name_forms,
    read_table,
    same_keys,
)
from vicreg.evaluation import hold_out
from vicreg.runs import Run
from vicreg.training.pair_config import PairConfig
from vicreg.training.settings import check_types, from_mapping, to_mapping
from vicreg.workflows.about import EMBEDDING_COLUMN
from vicreg.workflows.kinds import check_there
from vicreg.workflows.media import MEDIA
from vicreg.workflows.medium import Reading

KIND = "pair"
TABLE = "table"
SIDE_NAMES = ("left", "right")
ONE_OF = 5
"""One pair of so many is held out."""
FEWEST_TO_HOLD = 15
"""Of fewer pairs all are learnt from, unless there are labels."""


@dataclass(frozen=True)
class Pairing:
    """How two sources are read, and what in them is no input.

    Attributes:
        key: The column that tells which rows belong together; of files of pictures or sounds their names. None: by
            their order.
        labels: What is judged by: a column or array of either side, or ``folder``; never an input.
        exclude: Columns of either table that are left out.
        id: Columns of either table that are left out, and carried through to the embeddings.
        left: How the left source is read beside that.
        right: How the right one is.
    """

    key: str | None = None
    labels: str | None = None
    exclude: tuple[str, ...] = ()
    id: tuple[str, ...] = ()
    left: Reading = field(default_factory=Reading)
    right: Reading = field(default_factory=Reading)

    @property
    def set_aside(self) -> tuple[str, ...]:
        """All columns that are no inputs."""
        named = [name for name in (self.key, self.labels) if name is not None]
        return (*named, *self.exclude, *self.id)

    def check(self) -> Pairing:
        """The same, if it can be followed.

        Raises:
            ValueError: It cannot.
        """
        taken = [name for name in self.id if EMBEDDING_COLUMN.fullmatch(name)]
        require(not taken, "--id", "name columns other than vicreg0, vicreg1, ...", listed(taken), "Rename the column.")
        for reading in (self.left, self.right):
            require(reading.labels is None, "labels of one side", "be those of the pair", shown(reading.labels))
            reading.check()
        return self


@dataclass(frozen=True, eq=False)
class OpenedSide:
    """One source of a pair, opened.

    Attributes:
        kind: ``table``, ``image`` or ``signal``.
        where: Its path, as given.
        data: The table, or pictures or signals with random access.
        reading: How it is read.
        set_aside: Columns of a table that are no inputs.
    """

    kind: str
    where: str
    data: Any
    reading: Reading
    set_aside: tuple[str, ...] = ()

    def __len__(self) -> int:
        return int(self.data.n_rows) if self.kind == TABLE else len(self.data)

    @property
    def noun(self) -> str:
        """What its items are called."""
        return "rows" if self.kind == TABLE else MEDIA[self.kind].nouns

    @property
    def inputs(self) -> Frame:
        """The input columns of a table."""
        aside = {name for name in self.set_aside if name in self.data.names}
        frame: Frame = self.data.drop(aside) if aside else self.data
        return frame

    def fingerprint(self) -> str:
        """What tells its content from others."""
        return fingerprint(self.data) if self.kind == TABLE else MEDIA[self.kind].fingerprint(self.data)

    def about(self) -> dict[str, Any]:
        """What a run's file says of it."""
        found = {"kind": self.kind, "source": str(Path(self.where).absolute()), self.noun: len(self)}
        reading = self.reading.plain()
        return {**found, "fingerprint": self.fingerprint(), **({"reading": reading} if reading else {})}


@dataclass(frozen=True, eq=False)
class OpenedPair:
    """Two sources, opened, and which of their rows belong together.

    Attributes:
        left: One side.
        right: The other.
        rows: For each side the (n,) rows of its source, pair by pair.
        pairing: How they are read.
        labels: (n,) what each pair is judged by, None where it has none; None without labels.
        held: (n,) which pairs no fit sees.
        notes: What a user should know of how the rows were paired.
    """

    left: OpenedSide
    right: OpenedSide
    rows: tuple[NDArray[np.int64], NDArray[np.int64]]
    pairing: Pairing
    labels: NDArray[Any] | None
    held: NDArray[np.bool_]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.held)

    @property
    def sides(self) -> tuple[OpenedSide, OpenedSide]:
        """Left and right."""
        return self.left, self.right

    @property
    def known(self) -> NDArray[np.bool_]:
        """(n,) which pairs have a label."""
        if self.labels is None:
            return np.zeros(len(self), bool)
        return np.array([label is not None for label in self.labels], bool)

    def labels_fingerprint(self) -> str | None:
        """What tells labels and partners from others; None without labels where the order tells the partners."""
        if self.labels is None and self.pairing.key is None:
            return None
        texts = [] if self.labels is None else [str(one) for one in self.labels]
        return hashlib.blake2b(repr((texts, *(one.tolist() for one in self.rows))).encode(), digest_size=16).hexdigest()


def open_pair(left: str, right: str, pairing: Pairing) -> OpenedPair:
    """Open two sources, find which rows belong together, and hold a fifth of the pairs out to judge on.

    Args:
        left: Path of one.
        right: Path of the other.
        pairing: How.

    Raises:
        ValueError: As :func:`paired`, or a source that cannot be read.
        FileNotFoundError: There is no such source.
    """
    pairing.check()
    sides = open_side(left, pairing.left, pairing), open_side(right, pairing.right, pairing)
    return paired(sides, pairing, pairing)


def paired(sides: tuple[OpenedSide, OpenedSide], pairing: Pairing, asked: Pairing) -> OpenedPair:
    """Find which rows of two opened sources belong together, and hold a fifth of the pairs out to judge on.

    Args:
        sides: Left and right.
        pairing: How.
        asked: The labels and columns to leave out that must be there; others may be missing, as in new rows of a run's
            sources.

    Raises:
        ValueError: Sides of different length, keys that are missing, repeat or have no partner, a column of keys in
            another order that is not named as such, no such column, or too few labels.
    """
    _check_columns(sides, asked)
    rows = _aligned(sides, pairing)
    labels = _labels(sides, rows, pairing)
    if labels is None and asked.labels is not None:
        got = " and ".join(f"{shown(side.where)} without" for side in sides)
        known = [name for side in sides if side.kind == TABLE for name in side.data.names]
        fix = near(asked.labels, known)
        raise ValueError(message("--labels", "name labels that a side has", f"{shown(asked.labels)}, {got}", fix))
    notes = _notes_on_keys(sides, pairing) if pairing.key is None else ()
    return OpenedPair(*sides, rows, pairing, labels, held_out(len(rows[0]), labels), notes)


def open_side(where: str, reading: Reading, pairing: Pairing, text: Sequence[str] = ()) -> OpenedSide:
    """Open one source of a pair.

    Args:
        where: Its path.
        reading: How.
        pairing: What is no input.
        text: Columns of a table that are text, whatever they look like.

    Raises:
        ValueError: It is a stream, or cannot be read.
        FileNotFoundError: It does not exist.
    """
    check_there(where)
    kind = "signal" if reading.id is not None else kind_of(where)
    fix = "Unpack them into folders."
    require(kind == TABLE or kind in MEDIA, shown(where), "be a table, pictures or signals", kind, fix)
    if kind == TABLE:
        require(not reading.plain(), f"the table {shown(where)}", "be read as it is", shown(reading.plain()))
        exact = [*pairing.id, *([] if pairing.key is None else [pairing.key])]
        return OpenedSide(kind, where, read_table(where, text=text, exact=exact), reading, pairing.set_aside)
    return OpenedSide(kind, where, MEDIA[kind].opened(where, reading), reading)


def held_out(count: int, labels: NDArray[Any] | None) -> NDArray[np.bool_]:
    """A fifth of the pairs: of those with labels as labels are held out, of all without.

    Args:
        count: Pairs.
        labels: Of each, None for none.

    Example:
        >>> int(held_out(50, None).sum()), int(held_out(14, None).sum())
        (10, 0)
    """
    held = np.zeros(count, bool)
    if labels is not None:
        known = np.flatnonzero([label is not None for label in labels])
        held[known] = hold_out(np.array(labels[known].tolist()))
    elif count >= FEWEST_TO_HOLD:
        held[np.random.default_rng(0).permutation(count)[: count // ONE_OF]] = True
    return held


def _check_columns(sides: Sequence[OpenedSide], pairing: Pairing) -> None:
    tables = [side for side in sides if side.kind == TABLE]
    known = {name for side in tables for name in side.data.names}
    for option, names in (("--exclude", pairing.exclude), ("--id", pairing.id)):
        unknown = [name for name in names if name not in known]
        require(not unknown, option, f"name columns of either table ({listed(sorted(known), 20)})", listed(unknown))


def _aligned(sides: Sequence[OpenedSide], pairing: Pairing) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    left, right = sides
    if pairing.key is None:
        return in_order(len(left), len(right))
    keys = most_alike(*(_keys(side, pairing.key) for side in sides))
    named = [_key_in_words(side, pairing.key, which) for side, which in zip(sides, SIDE_NAMES, strict=True)]
    return by_key(*keys, (named[0], named[1]))


def _notes_on_keys(sides: Sequence[OpenedSide], pairing: Pairing) -> tuple[str, ...]:
    """What columns of one name in two tables say of their order, where no key was named.

    Raises:
        ValueError: One has the same keys on both sides in another order.
    """
    left, right = sides
    if not (left.kind == right.kind == TABLE and left.data.named and right.data.named):
        return ()
    aside = {pairing.labels, *pairing.exclude}
    notes = []
    for name in left.data.names:
        if name not in right.data.names or name in aside:
            continue
        alike = same_keys(left.data.column(name), right.data.column(name))
        what = f"the rows of {shown(left.where)} and {shown(right.where)}"
        got = f"a column {shown(name)} with the same values in another order"
        fix = f"Name it by --key {name}, or leave it out by --exclude {name}."
        require(alike != "shuffled", what, "belong together row by row", got, fix)
        if alike == "same" and name not in pairing.id:
            where = f"{shown(name)} is an input on both sides, different in every row, and alone tells a row's partner"
            notes.append(f"{where}: --key {name} or --exclude {name} would keep it out.")
    return tuple(notes)


def _keys(side: OpenedSide, key: str) -> list[list[str | None]]:
    """The keys of a side's rows, in each of the ways in which they may be meant."""
    if side.kind == TABLE:
        fix = "Both tables must have it."
        require(key in side.data.names, "--key", f"name a column of {shown(side.where)}", shown(key), fix)
        return [as_keys(side.data.column(key))]
    if _has_columns(side):
        return [as_keys(MEDIA[side.kind].opened(side.where, replace(side.reading, labels=key)).labels)]
    return name_forms(side.data.names)


def _key_in_words(side: OpenedSide, key: str, which: str) -> str:
    by_name = side.kind != TABLE and not _has_columns(side)
    return f"the names of the {side.noun} on the {which}" if by_name else f"the key {shown(key)} on the {which}"


def _has_columns(side: OpenedSide) -> bool:
    """Whether pictures or signals lie in a file with columns or arrays beside them, and have no names of their own."""
    where = Path(side.where)
    return side.reading.id is None and (where.is_file() or any(where.glob("*.parquet")))


def _labels(sides: Sequence[OpenedSide], rows: Sequence[NDArray[np.int64]], pairing: Pairing) -> NDArray[Any] | None:
    """What each pair is judged by, None where it has no label: from the first side that has such labels, if one has."""
    name = pairing.labels
    if name is None:
        return None
    for side, own in zip(sides, rows, strict=True):
        found = _labels_of(side, name)
        if found is not None:
            return found[own]
    return None


def _labels_of(side: OpenedSide, name: str) -> NDArray[Any] | None:
    """Of a whole source, None where a row has none; None where there are no such labels at all."""
    if side.kind == TABLE:
        if name not in side.data.names:
            return None
        labels, known = side.data.labels(name)
        every = np.full(len(side), None, object)
        every[known] = labels.tolist()
        return every
    if name == FOLDER and not _has_columns(side):
        return None if side.data.labels is None else np.asarray(side.data.labels, object)
    try:
        found = MEDIA[side.kind].opened(side.where, replace(side.reading, labels=name)).labels
    except ValueError:
        return None
    return None if found is None else np.asarray(found, object)


def about_pair(pair: OpenedPair, config: PairConfig) -> dict[str, Any]:
    """All that is needed to run again, as YAML can hold it."""
    pairing = pair.pairing
    versions = {"vicreg": vicreg.__version__, "torch": str(torch.__version__), "python": platform.python_version()}
    aside = {"labels": pairing.labels, "exclude": list(pairing.exclude), "id": list(pairing.id)}
    return {
        "kind": KIND,
        "left": pair.left.about(),
        "right": pair.right.about(),
        "pairs": len(pair),
        "key": pairing.key,
        **aside,
        "labels_fingerprint": pair.labels_fingerprint(),
        "settings": to_mapping(config),
        "versions": versions,
    }


def read_about_pair(run: Run) -> tuple[dict[str, Any], Pairing, PairConfig]:
    """What :func:`about_pair` described: all of it, how the sources are read, and the settings.

    Raises:
        ValueError: The run is on another kind of source, or its file is damaged.
    """
    found = run.read_config()
    kind = found.get("kind", TABLE)
    fix = "Name the folder of another run."
    require(kind == KIND, repr(str(run.folder)), "be a run on a pair", f"one of the kind {shown(kind)}", fix)
    lacking = {*SIDE_NAMES, "key", "labels", "exclude", "id", "settings"} - set(found)
    if lacking:
        raise runs.damaged(run.config, f"a file without {listed(sorted(lacking))}")
    for name in SIDE_NAMES:
        side = found[name]
        whole = isinstance(side, dict) and {"kind", "source", "fingerprint"} <= set(side)
        if not whole or side["kind"] not in (TABLE, *MEDIA):
            raise runs.damaged(run.config, f"{name}: {shown(side)}")
    try:
        left, right = (from_mapping(found[name].get("reading", {}), Reading) for name in SIDE_NAMES)
        texts = {name: tuple(found[name]) for name in ("exclude", "id")}
        pairing = Pairing(found["key"], found["labels"], **texts, left=left, right=right)
        check_types(pairing)
        return found, pairing, from_mapping(found["settings"], PairConfig)
    except (ValueError, TypeError) as failure:
        raise runs.damaged(run.config, f"settings of which {str(failure).rstrip('.')}") from failure


def same_pair(run: Run, found: dict[str, Any], pairing: Pairing, left: str | None, right: str | None) -> OpenedPair:
    """The sources of the run, opened again and known to be unchanged; their paths may be others.

    Args:
        run: Its file says which pairs were held out.
        found: Its description.
        pairing: How its sources are read.
        left: One source; None is where it was.
        right: The other.

    Raises:
        ValueError: Content, labels or keys have changed.
    """
    kept = [str(found[name]["source"]) for name in SIDE_NAMES]
    pair = open_pair(left or kept[0], right or kept[1], pairing)
    fix = "Fit a new run."
    for side, name in zip(pair.sides, SIDE_NAMES, strict=True):
        same = side.kind == found[name]["kind"] and side.fingerprint() == found[name]["fingerprint"]
        require(same, shown(side.where), "be the source that the run was fitted on", "another content", fix)
    same = pair.labels_fingerprint() == found.get("labels_fingerprint")
    require(same, "the pairs", "have the keys and labels that the run was fitted on", "others", fix)
    if not run.split.exists():  # killed before it was written: what it would have been
        return pair
    held = runs.read_array(run.split)
    if held.shape != pair.held.shape or held.dtype != bool:
        raise runs.damaged(run.split, f"{held.dtype} of shape {held.shape} for {len(pair)} pairs")
    return replace(pair, held=held)
