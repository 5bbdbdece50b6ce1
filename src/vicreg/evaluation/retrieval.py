"""Retrieval between the two sides of a pair: is what belongs to a row the nearest of all?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vicreg._checks import check_choice, check_integer, require
from vicreg.evaluation.inputs import FloatArray, check_representation
from vicreg.evaluation.resampling import Interval, accuracy_difference

DEPTHS = (1, 5, 10)
METRICS = ("euclidean", "cosine")
CHUNK_NUMBERS = 2**24
"""Distances that are held at once."""
ROUNDING = 1e-9
"""Squared distances closer than this share of the rows' own scale are equal."""


@dataclass(frozen=True)
class Retrieval:
    """How well what belongs together is found among all.

    Attributes:
        count: Pairs, among which each row's partner is looked for.
        recall: By depth k the mean of both directions: the share of rows whose partner is among the k nearest.
        from_a: By depth, asked with rows of the first side among those of the second.
        from_b: The other way round.
        median_rank: Of the partner, from 1, over both directions.
        first: (count,) of each pair the mean of both directions: 1 where the partner is the nearest, less where others
            are as near, 0 where one is nearer.
    """

    count: int
    recall: dict[int, float]
    from_a: dict[int, float]
    from_b: dict[int, float]
    median_rank: float
    first: FloatArray = field(repr=False, compare=False)

    def over(self, other: Retrieval | None = None, random_state: int = 0) -> Interval:
        """How much more often partners are found first than by another representation of the same pairs.

        Args:
            other: That one's; None for chance, which finds one of ``count``.
            random_state: Seed of the resampling.

        Returns:
            The difference, with its 95 % interval from resampled pairs.

        Raises:
            ValueError: They are not of as many pairs.

        Example:
            >>> x = np.random.default_rng(0).normal(size=(40, 2))
            >>> retrieval(x, x).over().value
            0.975
        """
        theirs = np.full(self.count, 1 / self.count) if other is None else other.first
        require(len(theirs) == self.count, "the other", f"be of {self.count} pairs", len(theirs))
        return accuracy_difference(self.first, theirs, random_state)

    def rows(self) -> list[tuple[str, str, float]]:
        """Direction, metric and value, line by line, as a file holds them."""
        named = (("both", self.recall), ("a to b", self.from_a), ("b to a", self.from_b))
        found = [(way, f"recall@{k}", value) for way, recalls in named for k, value in recalls.items()]
        return [*found, ("both", "median rank", self.median_rank)]


def retrieval(a: Any, b: Any, depths: Sequence[int] = DEPTHS, metric: str = "euclidean") -> Retrieval:
    """Recall at several depths, both ways, and the median rank.

    Ties are counted fairly: of m rows as near as the partner, itself among them, each place is as probable as the
    others, so that equal representations find their partner by chance only.

    Args:
        a: (n, k) representations of one side.
        b: (n, k) of the other; row i belongs to row i.
        depths: The k of recall@k, each at least 1.
        metric: ``euclidean``, or ``cosine`` for representations whose length says nothing.

    Raises:
        ValueError: The sides differ in shape, or hold NaN or infinity.

    Example:
        >>> found = retrieval([[0.0], [1.0], [5.0]], [[0.1], [9.0], [4.0]], depths=(1, 2))
        >>> {k: round(value, 3) for k, value in found.from_a.items()}, found.median_rank
        ({1: 0.667, 2: 0.667}, 1.0)
        >>> retrieval(np.zeros((4, 2)), np.zeros((4, 2)), depths=(1,)).recall
        {1: 0.25}
    """
    a, b = check_representation("a", a), check_representation("b", b)
    fix = "Representations that differ in width cannot be compared."
    require(a.shape == b.shape, "a and b", "have the same shape", f"{a.shape} and {b.shape}", fix)
    for depth in depths:
        check_integer("each depth", depth, 1)
    if check_choice("metric", metric, METRICS) == "cosine":
        a, b = _unit(a), _unit(b)
    ways = [_places(a, b), _places(b, a)]
    from_a, from_b = ({k: float(_share(nearer, equal, k).mean()) for k in depths} for nearer, equal in ways)
    first = np.mean([_share(nearer, equal, 1) for nearer, equal in ways], axis=0)
    ranks = np.concatenate([nearer + (equal + 1) / 2 for nearer, equal in ways])
    both = {k: (from_a[k] + from_b[k]) / 2 for k in depths}
    return Retrieval(len(a), both, from_a, from_b, float(np.median(ranks)), first)


def _unit(x: FloatArray) -> FloatArray:
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(length > 0, length, 1)


def _places(asked: FloatArray, among: FloatArray) -> tuple[FloatArray, FloatArray]:
    """For each row how many are nearer than its partner, and how many as near, the partner included."""
    middle = among.mean(axis=0)  # near the origin products lose fewer digits
    asked, among = asked - middle, among - middle
    lengths, own = (among**2).sum(axis=1), (asked**2).sum(axis=1)
    nearer, equal = np.empty(len(asked)), np.empty(len(asked))
    step = max(1, CHUNK_NUMBERS // len(among))
    for begin in range(0, len(asked), step):
        some = slice(begin, begin + step)
        distance = lengths - 2 * asked[some] @ among.T  # but for the asked row's own length
        rows = np.arange(len(distance))
        partner = distance[rows, begin + rows][:, None]
        room = ROUNDING * (own[some] + lengths[some])[:, None]
        nearer[some] = (distance < partner - room).sum(axis=1)
        equal[some] = (np.abs(distance - partner) <= room).sum(axis=1)
    return nearer, equal


def _share(nearer: FloatArray, equal: FloatArray, depth: int) -> FloatArray:
    """How probable it is, row by row, that the partner is among the nearest."""
    share: FloatArray = np.clip((depth - nearer) / equal, 0, 1)
    return share
