"""Pairs to look at: what belongs together and is found, or not, and how the sides' dimensions go together."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicreg._checks import require

RIGHT, WRONG = 12, 12
SHOWN = 5
SIDES = ("a", "b")
WIDEST = 128


def retrieval_examples(
    a: NDArray[np.floating[Any]], b: NDArray[np.floating[Any]], seed: int = 0
) -> list[dict[str, Any]]:
    """Rows whose partner is the nearest on the other side, and rows whose is not: 12 of each, half of them each way.

    Args:
        a: (n, k) representations of one side.
        b: (n, k) of the other; row i belongs to row i.
        seed: Of the draw.

    Returns:
        For each the side asked with, the row, its 5 nearest on the other side in order, and the place of its partner
        among all, from 1; of equally near ones it is the first.

    Raises:
        ValueError: The sides differ in shape.

    Example:
        >>> found = retrieval_examples(np.array([[0.0], [1.0], [5.0]]), np.array([[0.1], [9.0], [4.0]]))
        >>> [(one["query_side"], one["query"], one["found"], one["rank"]) for one in found if one["query"] == 1]
        [('a', 1, [0, 2, 1], 3), ('b', 1, [2, 1, 0], 2)]
    """
    require(a.shape == b.shape, "a and b", "have the same shape", f"{a.shape} and {b.shape}")
    rng = np.random.default_rng(seed)
    sides = dict(zip(SIDES, (a.astype(np.float64), b.astype(np.float64)), strict=True))
    right: list[dict[str, Any]] = []
    wrong: list[dict[str, Any]] = []
    for name, other in (SIDES, SIDES[::-1]):
        asked, among = sides[name], sides[other]
        ranks = _ranks(asked, among)
        for rows, most, kept in ((ranks == 1, RIGHT // 2, right), (ranks > 1, WRONG // 2, wrong)):
            places = np.flatnonzero(rows)
            for row in np.sort(rng.choice(places, min(most, len(places)), replace=False)).tolist():
                order = np.argsort(((among - asked[row]) ** 2).sum(1), kind="stable")[:SHOWN]
                kept.append({"query_side": name, "query": row, "found": order.tolist(), "rank": int(ranks[row])})
    return right + wrong


def _ranks(asked: NDArray[np.float64], among: NDArray[np.float64]) -> NDArray[np.int64]:
    """Of each row's partner, from 1: how many are nearer, and itself."""
    middle = among.mean(0)
    asked, among = asked - middle, among - middle
    lengths = (among**2).sum(1)
    ranks = np.empty(len(asked), np.int64)
    step = max(1, 2**24 // max(1, len(among)))
    for begin in range(0, len(asked), step):
        some = asked[begin : begin + step]
        distance = lengths - 2 * some @ among.T
        own = distance[np.arange(len(some)), begin + np.arange(len(some))]
        room = 1e-9 * ((some**2).sum(1) + lengths[begin : begin + len(some)])
        ranks[begin : begin + step] = 1 + (distance < (own - room)[:, None]).sum(1)
    return ranks


def cross_correlation(a: NDArray[np.floating[Any]], b: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """How the dimensions of both sides' representations go together: correlations, (min(p, 128), min(q, 128)).

    Args:
        a: (n, p) representations of one side.
        b: (n, q) of the other; row i belongs to row i.

    Returns:
        Between -1 and 1; 0 for a dimension that does not vary.

    Example:
        >>> a = np.array([[0.0, 7.0], [1.0, 7.0], [2.0, 7.0]])
        >>> cross_correlation(a, -a).round(3).tolist()
        [[-1.0, 0.0], [0.0, 0.0]]
    """
    left, right = (_standardised(np.asarray(one[:, :WIDEST], np.float64)) for one in (a, b))
    return (left.T @ right / max(1, len(a))).clip(-1, 1).astype(np.float32)


def _standardised(x: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = x - x.mean(0)
    deviation = centred.std(0)
    still = deviation <= 1e-7 * np.abs(x).max(0, initial=0)
    scaled: NDArray[np.float64] = np.where(still, 0, centred) / np.where(still, 1, deviation)
    return scaled
