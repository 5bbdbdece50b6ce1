"""The nearest items of each item on a map, as a person expects them: exact, equal ones included."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

ENTRIES_AT_ONCE = {"cpu": 2**20, "cuda": 2**26}
"""Distances that are there at once: on a CPU as many as stay in its cache."""
PARCEL = 64
"""Distances whose least one stands for them: looking at minima is much faster than putting all in order."""
SPARE = 6
"""So many more are found by products than are asked for, and put in order by differences, which lose no digits."""


def nearest(x: NDArray[np.floating[Any]], k: int = 10, device: torch.device | str = "cpu") -> NDArray[np.int32]:
    """The nearest other rows by Euclidean distance, nearest first, (n, k).

    Rows that equal a row are its neighbours like others, and which of equally near ones are taken is not said. Unlike
    :func:`vicreg.views.distinct_neighbors`, which pairs rows to learn from, it neither leaves out equal rows nor
    approximates.

    Args:
        x: (n, p) finite rows.
        k: How many; where there are fewer other rows, the last places are -1.
        device: Where they are searched: 50,000 rows of 16 numbers take some seconds on a core, and no time on a GPU.

    Example:
        >>> nearest(np.array([[0.0], [0.0], [1.0], [3.0]]), k=2)
        array([[1, 2],
               [0, 2],
               [0, 1],
               [2, 0]], dtype=int32)
    """
    n = len(x)
    found = np.full((n, k), -1, np.int32)
    if n < 2:
        return found
    rows = torch.from_numpy(np.ascontiguousarray(x, np.float32)).to(device)
    rows = rows - rows.mean(0)
    whole = torch.nn.functional.pad(rows, (0, 0, 0, -n % PARCEL))
    lengths = torch.nn.functional.pad(rows.square().sum(1), (0, -n % PARCEL), value=torch.inf)
    asked, wanted = min(k, n - 1), min(k + SPARE, n - 1)
    most = ENTRIES_AT_ONCE.get(rows.device.type, ENTRIES_AT_ONCE["cpu"])
    step = max(1, most // n)
    for begin in range(0, n, step):
        some = rows[begin : begin + step]
        distance = torch.addmm(lengths[None], some, whole.T, alpha=-2)  # but for the asked row's own length
        distance[:, begin : begin + len(some)].fill_diagonal_(torch.inf)
        likely = _least(distance, wanted).sort(dim=1).values
        found[begin : begin + step, :asked] = _ordered(some, rows, likely, asked, most).cpu().numpy()
    return found


def _least(distance: torch.Tensor, wanted: int) -> torch.Tensor:
    """The columns of the smallest entries of each row: they lie in as many parcels, those of the smallest minima."""
    parcels = distance.view(len(distance), -1, PARCEL)
    chosen = parcels.amin(2).topk(min(wanted, parcels.shape[1]), dim=1, largest=False, sorted=False).indices
    columns = (chosen[:, :, None] * PARCEL + torch.arange(PARCEL, device=distance.device)).flatten(1)
    places = distance.gather(1, columns).topk(wanted, dim=1, largest=False, sorted=False).indices
    found: torch.Tensor = columns.gather(1, places)
    return found


def _ordered(some: torch.Tensor, rows: torch.Tensor, likely: torch.Tensor, k: int, most: int) -> torch.Tensor:
    """The k nearest of likely ones, by the differences' own lengths; a part at a time, since these are wide."""
    step = max(1, most // (likely.shape[1] * rows.shape[1]))
    parts = []
    for begin in range(0, len(some), step):
        among = likely[begin : begin + step]
        distance = (rows[among] - some[begin : begin + step, None]).square().sum(2)
        order = distance.sort(dim=1, stable=True).indices[:, :k]
        parts.append(among.gather(1, order))
    return torch.cat(parts).int()
