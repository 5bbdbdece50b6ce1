"""How far predictions of other views are from what they predict: BYOL, SimSiam; and views from their centre: LeJEPA."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vicreg._checks import check_integer, require
from vicreg.distributed import Batch
from vicreg.functional.collective import summed, whole
from vicreg.functional.fused import Formula, evaluate
from vicreg.functional.terms import check_embedding, widened


def prediction_error(p: Sequence[Tensor], target: Sequence[Tensor], batch: Batch | None = None) -> Tensor:
    """Squared distance between unit vectors, of each view's prediction from every other view's target: 2 - 2 cos.

    The mean over rows and over the pairs (i, j) with i != j. No gradient reaches the targets.

    Source: Grill et al., "BYOL", NeurIPS 2020, arXiv:2006.07733, equation 2, where the two pairs of two views are
    summed; and Chen and He, "SimSiam", CVPR 2021, arXiv:2011.10566, equations 1 to 4, where it is -cos. Cost: O(n d).

    Args:
        p: Predictions, (n, d) for each view.
        target: (n, d) for each view, or only for the first few (large crops), at least one.
        batch: The global batch of which these are this process's rows; by default they are the batch.

    Returns:
        A scalar between 0 and 4.

    Raises:
        TypeError: A view is no floating tensor.
        ValueError: Shapes differ or are not (n, d), or there is no pair.

    Example:
        >>> a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])
        >>> prediction_error((a, b), (a, b)).item(), prediction_error((a, b), (b, a)).item()
        (2.0, 0.0)
    """
    _check_alike("p and target", (*p, *target))
    count = len(target) * (len(p) - 1)
    require(count > 0 and len(target) <= len(p), "p", "have two or more views", f"{len(p)} and {len(target)} targets")
    batch = batch or whole(p[0])
    aims = [normalize(widened(one.detach()), dim=1) for one in target]
    every = torch.stack(aims).sum(dim=0)
    others = [every - aims[i] if i < len(aims) else every for i in range(len(p))]
    cosines = [(normalize(widened(one), dim=1) * other).sum() for one, other in zip(p, others, strict=True)]
    return 2 - 2 * summed(torch.stack(cosines).sum(), batch) / (batch.n * count)


def deviation(views: Sequence[Tensor], n_large: int | None = None, batch: Batch | None = None) -> Tensor:
    """Mean squared deviation of the views from their mean.

    Of two views it is a quarter of VICReg's invariance term.

    Source: Balestriero and LeCun, "LeJEPA", arXiv:2511.08544: the prediction term, whose centre is the mean of the
    large views. Cost: O(n d).

    Args:
        views: (n, d) for each.
        n_large: Of how many of the views, the first ones, the mean is taken; all by default.
        batch: The global batch of which these are this process's rows; by default they are the batch.

    Returns:
        A scalar of at least 0.

    Raises:
        TypeError: A view is no floating tensor.
        ValueError: Shapes differ or are not (n, d), or ``n_large`` is out of its range.

    Example:
        >>> round(deviation((torch.zeros(3, 2), torch.ones(3, 2))).item(), 6)
        0.25
    """
    _check_alike("the views", views)
    large = check_integer("n_large", n_large or len(views), 1, len(views))
    batch = batch or whole(views[0])
    if large == len(views) > 1:  # then it is the mean over the pairs of views, which has a closed form
        formula = Formula(invariance=(large - 1) / (2 * large))
        return evaluate(formula, views, batch=batch, lift=batch.lift("mean")).total
    wide = torch.stack([widened(view) for view in views])
    squares = (wide - wide[:large].mean(dim=0)).square().sum()
    return summed(squares, batch) / (batch.n * len(views) * wide.shape[-1])


def _check_alike(what: str, views: Sequence[Tensor]) -> None:
    for view in views:
        check_embedding(what, view, least=0)
    shapes = list(dict.fromkeys(tuple(view.shape) for view in views))
    require(len(shapes) == 1 and len(shapes[0]) == 2, what, "have one shape (n, d)", " and ".join(map(str, shapes)))
