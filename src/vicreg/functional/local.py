"""Which places of two views' feature maps belong together: VICRegL."""

from __future__ import annotations

import torch
from torch import Tensor

from vicreg._checks import check_integer, require
from vicreg.functional.collective import full_precision
from vicreg.functional.terms import check_embedding, widened


def matched(maps_a: Tensor, maps_b: Tensor, matches: int | None = None) -> tuple[Tensor, Tensor]:
    """For each place of one map the place of the other whose feature is nearest; the nearest of these pairs.

    Source: Bardes, Ponce, LeCun, "VICRegL", NeurIPS 2022, arXiv:2210.01571, equation 5: feature-based matching. Cost:
    O(n t u d).

    Args:
        maps_a: (n, t, d) features of t places.
        maps_b: (n, u, d).
        matches: How many pairs of each sample to keep, at least 1; they stay in the order of the places. All by
            default, or where there are fewer.

    Returns:
        The pairs' features, (n, m, d) each.

    Raises:
        TypeError: A map is no floating tensor.
        ValueError: Shapes do not fit, or ``matches`` is out of its range.

    Example:
        >>> a = torch.tensor([[[0.0], [4.0]]])
        >>> b = torch.tensor([[[9.0], [3.0], [1.0]]])
        >>> [one.flatten().tolist() for one in matched(a, b)]
        [[0.0, 4.0], [1.0, 3.0]]
    """
    for name, maps in (("maps_a", maps_a), ("maps_b", maps_b)):
        check_embedding(name, maps, least=0)
    fits = maps_a.ndim == maps_b.ndim == 3 and (len(maps_a), maps_a.shape[2]) == (len(maps_b), maps_b.shape[2])
    got = f"{tuple(maps_a.shape)} and {tuple(maps_b.shape)}"
    require(fits, "maps_a and maps_b", "have shapes (n, t, d) and (n, u, d)", got)
    if matches is not None:
        check_integer("matches", matches, 1)
    with torch.no_grad(), full_precision(maps_a):
        distances, nearest = torch.cdist(widened(maps_a), widened(maps_b)).min(dim=2)
        kept = None
        if matches is not None and matches < maps_a.shape[1]:
            kept = distances.topk(matches, dim=1, largest=False).indices.sort(dim=1).values
            nearest = nearest.gather(1, kept)
    chosen = maps_a if kept is None else _at(maps_a, kept)
    return chosen, _at(maps_b, nearest)


def _at(maps: Tensor, places: Tensor) -> Tensor:
    return maps.gather(1, places[..., None].expand(-1, -1, maps.shape[2]))
