"""Which rows of two sources belong together: by their order, or by a key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import product
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vicreg._checks import listed, message, require, shown
from vicreg.data.cells import Cells, from_values

Rows = NDArray[np.int64]
Keys = list[str | None]


def in_order(left: int, right: int) -> tuple[Rows, Rows]:
    """The rows of two sources in their own order, row k of the one with row k of the other.

    Args:
        left: How many rows one has.
        right: How many the other has.

    Raises:
        ValueError: Not as many.
    """
    fix = "Name the column that tells which belong together by --key."
    require(left == right, "the two sources", "have as many rows", f"{left:,} and {right:,}", fix)
    return np.arange(left), np.arange(right)


def by_key(left: Sequence[str | None], right: Sequence[str | None], names: tuple[str, str]) -> tuple[Rows, Rows]:
    """The rows of two sources that have the same key, in the order of the left one.

    Args:
        left: The key of each row of one; None where it has none.
        right: The same of the other.
        names: What the two keys are called in errors.

    Returns:
        (n,) rows of the one and (n,) rows of the other.

    Raises:
        ValueError: A key is missing, repeats, or has no partner: which, and how many.

    Example:
        >>> by_key(["a", "b", "c"], ["c", "a", "b"], ("'id' of the left side", "'id' of the right side"))
        (array([0, 1, 2]), array([1, 2, 0]))
    """
    for keys, name in ((left, names[0]), (right, names[1])):
        empty = [row for row, key in enumerate(keys) if key is None]
        got = f"none in {_counted(len(empty), 'row')} (row {listed(empty)}, counted from 0)"
        require(not empty, name, "have a key in every row", got, "Fill or leave out those rows.")
        several = [key for key, count in Counter(keys).items() if count > 1]
        rule, got = "have every key once", f"{_counted(len(several), 'key')} more than once ({listed(several)})"
        require(not several, name, rule, got, "One row must belong to one row.")
    place = {key: row for row, key in enumerate(right)}
    known = set(left)
    alone = [key for key in left if key not in place], [key for key in right if key not in known]
    if any(alone):
        of = [
            f"{len(keys):,} of {name} alone ({listed(keys)})" for keys, name in zip(alone, names, strict=True) if keys
        ]
        fix = "Leave out what has no partner." if place.keys() & known else "Are these the right keys?"
        raise ValueError(message("the keys of both sides", "be the same", " and ".join(of), fix))
    return np.arange(len(left)), np.array([place[key] for key in left], np.int64)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def as_keys(cells: Cells | Sequence[Any]) -> Keys:
    """The cells of a column as keys: text, whole numbers as such text, None for gaps.

    Raises:
        TypeError: A cell is no text and no whole number.

    Example:
        >>> as_keys(np.array([1.0, float("nan")])), as_keys(["a", None, 7])
        (['1', None], ['a', None, '7'])
    """
    values = cells if hasattr(cells, "to_pylist") else from_values(cells, "of keys")
    return [_key(value) for value in values.to_pylist()]


def _key(value: Any) -> str | None:
    if value is None or (isinstance(value, float | np.floating) and np.isnan(value)) or value == "":
        return None
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    plain = isinstance(value, str | int | np.integer) and not isinstance(value, bool)
    require(plain, "each key", "be text or a whole number", shown(value), error=TypeError)
    return str(value)


def same_keys(left: Cells, right: Cells) -> Literal["same", "shuffled"] | None:
    """Whether two columns hold the same keys: text or whole numbers, each of them once.

    Args:
        left: A column of one table.
        right: A column of another.

    Returns:
        ``same`` row by row, ``shuffled`` in another order; None where they are no keys, or others.

    Example:
        >>> same_keys(np.array([3, 1, 2]), np.array([1, 2, 3])), same_keys(np.array([1, 1]), np.array([1, 1]))
        ('shuffled', None)
    """
    try:
        ours, theirs = as_keys(left), as_keys(right)
    except TypeError:
        return None
    known = set(ours)
    if None in known or not len(known) == len(ours) == len(theirs) > 1 or known != set(theirs):
        return None
    return "same" if ours == theirs else "shuffled"


def name_forms(names: Sequence[str]) -> list[Keys]:
    """The names of files as keys may write them: paths below a folder, these without suffix, names alone, stems.

    Example:
        >>> [form[0] for form in name_forms(["cats/7.jpg"])]
        ['cats/7.jpg', 'cats/7', '7.jpg', '7']
    """
    paths = [PurePosixPath(name) for name in names]
    return [
        list(names),
        [str(path.with_suffix("")) for path in paths],
        [path.name for path in paths],
        [path.stem for path in paths],
    ]


def most_alike(left: Sequence[Keys], right: Sequence[Keys]) -> tuple[Keys, Keys]:
    """Of several ways to write the keys of both sides the first two that have the most keys in common.

    Example:
        >>> most_alike([["7", "8"]], name_forms(["cats/7.jpg", "dogs/8.jpg", "dogs/9.jpg"]))[1]
        ['7', '8', '9']
    """
    return max(product(left, right), key=lambda both: len(set(both[0]) & set(both[1])))
