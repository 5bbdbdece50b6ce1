"""Which rows a probe is fitted on and which it is judged on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicreg._checks import listed, require
from vicreg.evaluation.inputs import IntArray, check_labels, class_codes, infer_task

FOLDS = 5
MOST_TRAINING_ROWS = 20_000
MOST_JUDGED_ROWS = 10_000
KEPT_PER_CLASS = 5
FEWEST_TO_FIT = 5
"""As many as the nearest neighbours that are asked."""

ONE_HELD_OUT_OF = 5


@dataclass(frozen=True)
class Split:
    """Row numbers of one fit: ``train`` is fitted on, ``test`` judged; they share no row."""

    train: IntArray
    test: IntArray


def hold_out(labels: Any, random_state: int = 0) -> NDArray[np.bool_]:
    """A fifth of the rows to judge a fit on, drawn so that a comparison can.

    Classes keep their proportions, and each of two rows or more has rows on both sides; a row that is alone in its
    class is fitted on. Numbers are held out evenly over their range.

    Args:
        labels: (n,) classes or numbers.
        random_state: Seed.

    Returns:
        (n,) which rows are held out.

    Raises:
        ValueError: Fewer than two classes of two rows, or too few rows to fit a probe on some and judge on others.

    Example:
        >>> labels = np.array(["common"] * 97 + ["rare"] * 3)
        >>> held = labels[hold_out(labels)]
        >>> len(held), int((held == "rare").sum())
        (21, 1)
    """
    array = np.asarray(labels)
    array = check_labels(array, len(array) if array.ndim else 0)
    classes = infer_task(array) == "classification"
    keys = class_codes(array) if classes else array
    order = np.lexsort((np.random.default_rng(random_state).permutation(len(keys)), keys))
    if classes:
        counts = np.bincount(keys)
        shared = int((counts > 1).sum())
        got = f"{shared} such"
        require(
            shared > 1, "labels", "have at least two classes of two rows or more", got, "Name another label column."
        )
        order = order[counts[keys[order]] > 1]
    held = np.zeros(len(keys), bool)
    held[order[1::ONE_HELD_OUT_OF]] = True
    if classes:
        first = order[np.unique(keys[order], return_index=True)[1]]
        held[first[~np.isin(keys[first], keys[held])]] = True
    enough = held.sum() > 1 and np.sum(~held) >= FEWEST_TO_FIT
    rule = f"be enough to fit probes on {FEWEST_TO_FIT} and to judge on 2 others"
    require(bool(enough), "labelled rows", rule, len(keys), "Label more rows, or go without labels.")
    return held


def check_test(test: Any, rows: int) -> IntArray:
    """The held-out rows' numbers, ascending, from a boolean mask or from row numbers.

    Raises:
        TypeError: Neither booleans nor whole numbers.
        ValueError: No row or every row held out, another length of mask, a number out of range or given twice.

    Example:
        >>> check_test([False, True, True, False], 4).tolist(), check_test([2, 1], 4).tolist()
        ([1, 2], [1, 2])
    """
    array = np.asarray(test)
    require(array.ndim == 1, "test", "be one mask or one list of row numbers", f"shape {array.shape}")
    require(array.size > 0, "test", "hold out at least one row", "none", "Leave test=None to cross-validate.")
    require(array.dtype.kind in "biu", "test", "be booleans or row numbers", f"dtype {array.dtype}", error=TypeError)
    if array.dtype.kind == "b":
        require(len(array) == rows, "test", f"have one entry for each of the {rows} rows", len(array))
        array = np.flatnonzero(array)
        require(array.size > 0, "test", "hold out at least one row", "none", "Leave test=None to cross-validate.")
    outside = array[(array < 0) | (array >= rows)]
    require(outside.size == 0, "test", f"number rows from 0 to {rows - 1}", listed(outside.tolist()))
    held_out: IntArray = np.unique(array).astype(np.intp)
    require(len(held_out) == len(array), "test", "name each row once", f"{len(array) - len(held_out)} repeated")
    require(len(held_out) < rows, "test", "leave rows to fit the probes on", f"all {rows}")
    return held_out


def one_split(test: IntArray, groups: IntArray, rng: np.random.Generator) -> tuple[Split, ...]:
    """Fit on the rows outside ``test``, judge on ``test``; drawn at random where either is very large.

    At most 20,000 rows are fitted on, among them five of each class (or all it has), and 10,000 judged, among them one
    of each class.

    Args:
        test: (m,) row numbers.
        groups: (n,) class of each row (all 0 if there are none).
        rng: Source of chance.

    Returns:
        One split.
    """
    train = np.setdiff1d(np.arange(len(groups)), test)
    if len(train) > MOST_TRAINING_ROWS:
        rank, size = _rank_within(groups[train], rng)
        order = np.argsort(np.where(rank < KEPT_PER_CLASS, -1, rank / size), kind="stable")
        train = np.sort(train[order[:MOST_TRAINING_ROWS]])
    if len(test) > MOST_JUDGED_ROWS:
        rank, size = _rank_within(groups[test], rng)
        test = np.sort(test[np.argsort(rank / size, kind="stable")[:MOST_JUDGED_ROWS]])
    return (Split(train, test),)


def cross_validation(groups: IntArray, rng: np.random.Generator, folds: int = FOLDS) -> tuple[Split, ...]:
    """Stratified folds: every row is judged once, by a fit that did not see it.

    Members of one class are dealt to the folds in turn, so a class of two or more is always known to the fit that
    judges its rows. A row that is alone in its class could only be got wrong: it is fitted on and never judged.
    At most 10,000 rows take part, drawn at random.

    Args:
        groups: (n,) class of each row (all 0 if there are none).
        rng: Source of chance.
        folds: How many; fewer if there are fewer rows to judge.

    Returns:
        One split per fold; none if every row is alone in its class.

    Example:
        >>> splits = cross_validation(np.array([0, 0, 1, 1, 2]), np.random.default_rng(0), folds=2)
        >>> [sorted(np.array([0, 0, 1, 1, 2])[split.test].tolist()) for split in splits]
        [[0, 1], [0, 1]]
    """
    rows = some_of(np.arange(len(groups)), MOST_JUDGED_ROWS, rng)
    drawn = groups[rows]
    _, size = _rank_within(drawn, rng)
    fold = np.full(len(rows), -1)
    dealt = np.lexsort((rng.permutation(len(rows)), drawn))
    dealt = dealt[size[dealt] > 1]
    fold[dealt] = np.arange(len(dealt)) % folds
    used = range(min(folds, len(dealt)))
    return tuple(Split(rows[fold != number], rows[fold == number]) for number in used)


def some_of(rows: IntArray, most: int, rng: np.random.Generator) -> IntArray:
    """All rows, or ``most`` of them drawn at random, in ascending order.

    Example:
        >>> len(some_of(np.arange(100), 10, np.random.default_rng(0)))
        10
    """
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))


def _rank_within(groups: IntArray, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
    """Each row's place in a random order of its class, and the size of its class."""
    _, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.lexsort((rng.permutation(len(groups)), inverse))
    starts = np.cumsum(counts) - counts
    rank = np.empty(len(groups), dtype=np.intp)
    rank[order] = np.arange(len(groups)) - starts[inverse[order]]
    return rank, counts[inverse]
