"""Each row's nearest distinct rows.

Neighbours are searched among distinct rows: a table in which many rows have exact twins would otherwise make every
pair a pair of equals.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from vicreg._checks import message, require

EXACT_UP_TO = 20_000
"""Distinct rows up to which the search is exact; beyond, cells of an inverted file are probed."""

CELLS_PER_ROOT = 2
"""Cells of the inverted file per square root of the rows: the search costs n^1.5."""

PROBES = 8
"""Cells searched for each row: more find more of the true neighbours, and cost in proportion."""


def distinct_neighbors(x: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """The ``k`` nearest distinct rows of each row, by Euclidean distance.

    Args:
        x: (n, p) vectorised rows.
        k: Neighbours wanted, at least 1; where there are fewer other distinct rows, all of those.

    Returns:
        (n, min(k, distinct - 1)) row indices, nearest first; a distinct row is represented by its first occurrence.

    Raises:
        ValueError: All rows are equal.
        ImportError: The table is large and faiss is not installed.

    Example:
        >>> x = np.array([[0.0], [0.0], [1.0], [3.0]], dtype=np.float32)
        >>> distinct_neighbors(x, k=2)
        array([[2, 3],
               [2, 3],
               [0, 3],
               [2, 0]])
    """
    first, inverse = distinct_rows(x)
    require(len(first) > 1, "X", "hold at least two distinct rows", f"{len(x)} equal rows")
    k = min(k, len(first) - 1)
    unique = x[first]
    near = _exact(unique, k) if len(first) <= EXACT_UP_TO else _approximate(unique, k)
    return first[near][inverse]


def distinct_rows(x: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First occurrence of every distinct row, (m,), and for each row the one that it equals, (n,).

    Example:
        >>> distinct_rows(np.array([[2.0], [1.0], [2.0]], dtype=np.float32))
        (array([0, 1]), array([0, 1, 0]))
    """
    rows = np.ascontiguousarray(x + 0.0)  # -0.0 becomes 0.0: equal rows get equal bytes
    as_bytes = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
    _, first, inverse = np.unique(as_bytes, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[inverse]


def _exact(x: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(x)
    near = search.kneighbors(return_distance=False)  # without X, a row is not its own neighbour
    return np.asarray(near, dtype=np.int64)


def _approximate(x: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    faiss = _faiss()
    n, p = x.shape
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(p), p, CELLS_PER_ROOT * int(n**0.5))
    index.cp.niter = 10
    index.cp.max_points_per_centroid = 64
    index.train(x)
    index.add(x)
    index.nprobe = PROBES
    _, found = index.search(x, k + 1)
    return _without_self(found, k)


def _without_self(found: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """The first k of k + 1 found rows that are not the row itself; its nearest stands in for those not found."""
    own = np.arange(len(found))[:, None]
    order = np.argsort((found == own) | (found < 0), axis=1, kind="stable")[:, :k]
    near = np.take_along_axis(found, order, axis=1)
    lacking = (near < 0) | (near == own)
    fallback = np.where(lacking[:, :1], (own + 1) % len(found), near[:, :1])
    return np.where(lacking, fallback, near)


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as missing:
        raise ImportError(
            message(
                "faiss-cpu",
                f"be installed to search neighbours among more than {EXACT_UP_TO:,} distinct rows",
                "no such package",
                "Run pip install 'vicreg[table]', or choose views='marginal', which needs no neighbours.",
            )
        ) from missing
    return faiss
