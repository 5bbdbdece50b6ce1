"""Which places of two views' feature maps belong together: VICRegL."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vicreg._checks import check_integer, require
from vicreg.functional.collective import full_precision
from vicreg.functional.terms import check_embedding, widened


def matched(
    maps_a: Tensor, maps_b: Tensor, matches: int | None = None, points: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """For each place of one map the place of the other that is nearest; the nearest of these pairs.

    Source: Bardes, Ponce, LeCun, "VICRegL", NeurIPS 2022, arXiv:2210.01571: feature-based matching, or with ``points``
    location-based matching. Cost: O(n t u d), or O(n t u) with points.

    Args:
        maps_a: (n, t, d) features of t places.
        maps_b: (n, u, d).
        matches: How many pairs of each sample to keep, at least 1; they stay in the order of the places. All by
            default, or where there are fewer.
        points: Where the places of each map are in the picture, (n, t, 2) and (n, u, 2) (:func:`middles`): those
            nearest there are matched. By default those whose features are nearest.

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
    left, right = points or (maps_a, maps_b)
    got = f"{tuple(left.shape)} and {tuple(right.shape)}"
    fits = left.shape[:2] == maps_a.shape[:2] and right.shape[:2] == maps_b.shape[:2]
    require(fits, "points", f"be of {tuple(maps_a.shape[:2])} and {tuple(maps_b.shape[:2])} places", got)
    with torch.no_grad(), full_precision(maps_a):
        distances, nearest = torch.cdist(widened(left), widened(right)).min(dim=2)
        kept = None
        if matches is not None and matches < maps_a.shape[1]:
            kept = distances.topk(matches, dim=1, largest=False).indices.sort(dim=1).values
            nearest = nearest.gather(1, kept)
    chosen = maps_a if kept is None else _at(maps_a, kept)
    return chosen, _at(maps_b, nearest)


def middles(cuts: Tensor, count: int) -> Tensor:
    """Where the middles of a map's places are in the picture that the view was cut out of.

    Args:
        cuts: (n, 5) top, left, height and width of each view in pixels of its picture, and whether it was then flipped
            left to right (1 or 0).
        count: How many places the map has, row by row of a square.

    Returns:
        (n, count, 2) from the top and from the left, in pixels, float32 at least.

    Raises:
        ValueError: ``cuts`` is of another shape, or ``count`` is no square.

    Example:
        >>> middles(torch.tensor([[10.0, 20.0, 4.0, 8.0, 1.0]]), 4).tolist()
        [[[11.0, 26.0], [11.0, 22.0], [13.0, 26.0], [13.0, 22.0]]]
    """
    require(cuts.ndim == 2 and cuts.shape[1] == 5, "cuts", "have shape (n, 5)", tuple(cuts.shape))
    side = math.isqrt(count)
    require(side * side == count > 0, "The places of a map", "make up a square to be found in the picture", count)
    top, left, height, width, flipped = widened(cuts)[..., None].unbind(dim=1)  # (n, 1) each
    share = (torch.arange(side, device=cuts.device, dtype=top.dtype) + 0.5) / side
    down = top + height * share
    along = left + width * torch.where(flipped > 0, 1 - share, share)
    grid = (len(cuts), side, side)
    return torch.stack((down[:, :, None].expand(grid), along[:, None, :].expand(grid)), dim=3).flatten(1, 2)


def _at(maps: Tensor, places: Tensor) -> Tensor:
    return maps.gather(1, places[..., None].expand(-1, -1, maps.shape[2]))
