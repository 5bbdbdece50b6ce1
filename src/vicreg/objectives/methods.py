"""VICReg, and the terms of a decoder that may join any method: short functions that return an objective."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from vicreg._checks import check_choice, check_number, require
from vicreg.functional import terms
from vicreg.functional.terms import CONVENTIONS, Convention, check_coefficients
from vicreg.objectives.objective import Objective, Term, Views


def vicreg(
    sim_coeff: float = 25.0,
    std_coeff: float | Sequence[float] = 25.0,
    cov_coeff: float | Sequence[float] = 1.0,
    variance_target: float | Sequence[float] = 1.0,
    eps: float = 1e-4,
    convention: Convention = "official",
) -> Objective:
    """VICReg (Bardes, Ponce, LeCun, ICLR 2022, arXiv:2105.04906): the terms of ``VICRegLoss``, with its defaults.

    Args:
        sim_coeff: Weight of the invariance term (lambda), at least 0.
        std_coeff: Weight of the variance term (mu), at least 0; or one for each branch.
        cov_coeff: Weight of the covariance term (nu), at least 0; or one for each branch.
        variance_target: Standard deviation that each column should have at least (gamma); or one for each branch.
        eps: Added to the variance under the square root, above 0.
        convention: ``"official"``, ``"algorithm1"`` or ``"paper"``; see ``VICRegLoss``.

    Returns:
        Terms ``invariance``, ``variance`` and ``covariance`` of the embeddings.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: An argument is out of its range.

    Example:
        >>> {name: term.weight for name, term in vicreg().items()}
        {'invariance': 25.0, 'variance': 12.5, 'covariance': 1.0}
    """
    per, half = CONVENTIONS[check_choice("convention", convention, CONVENTIONS)]
    std = check_coefficients("std_coeff", std_coeff)
    options: dict[str, Any] = {
        "target": check_coefficients("variance_target", variance_target),
        "eps": check_number("eps", eps, 0, open_low=True),
    }
    hinge = partial(terms.variance, **options)
    return Objective(
        {
            "invariance": Term(check_number("sim_coeff", sim_coeff, 0), partial(terms.invariance, per=per)),
            "variance": Term(tuple(half * w for w in std) if isinstance(std, tuple) else half * std, hinge),
            "covariance": Term(check_coefficients("cov_coeff", cov_coeff), terms.covariance),
        }
    )


def reconstruction(weight: float | Sequence[float]) -> Objective:
    """Mean squared error of what a decoder makes of the representation against the sample before its view was taken.

    Args:
        weight: Of the term, at least 0; or one for each view, of whose errors the mean is taken.

    Returns:
        One term, ``reconstruction``; it needs a decoder.

    Raises:
        TypeError: ``weight`` is no number.
        ValueError: ``weight`` is negative or not finite.

    Example:
        >>> objective = vicreg() | reconstruction(3.0)
        >>> objective["reconstruction"].weight, sorted(objective.needs)
        (3.0, ['decoder'])
    """
    each = [check_number("weight", one, 0) for one in (weight if isinstance(weight, Sequence) else (weight,))]
    mean = sum(each) / len(each)
    shares = tuple(one / mean if mean else 1.0 for one in each)
    error = _row_error if len(set(shares)) == 1 else partial(_row_error, shares=shares)
    return Objective({"reconstruction": Term(mean, error, on=("decoded", "x"), needs=frozenset({"decoder"}))})


def _row_error(decoded: Views, x: Views, shares: Sequence[float] = ()) -> Tensor:
    """What the decoder gives beyond the sample's own width is not looked at."""
    rows = tuple(one[:, : row.shape[1]] for one, row in zip(decoded, x, strict=True))
    if not shares:
        return mean_squared_error(rows, x)
    errors = [mean_squared_error((one,), (row,)) for one, row in zip(rows, x, strict=True)]
    return torch.stack([share * error for share, error in zip(shares, errors, strict=True)]).mean()


def anchor(weight: float, projection: Tensor, offset: Tensor) -> Objective:
    """Hold on to the principal components: a linear read-out of the representation is to tell a row's.

    The decoder's outputs beyond the row's own width (:class:`vicreg.networks.TableDecoder`) are compared with
    ``projection @ x + offset``. What a linear map of the columns can tell, a linear map of the representation can then
    still tell (docs/experiments.md).

    Args:
        weight: Of the term, at least 0.
        projection: (m, p), from rows to their whitened principal components.
        offset: (m,).

    Returns:
        One term, ``anchor``; it needs a decoder.

    Raises:
        ValueError: ``weight`` is negative or not finite.

    Example:
        >>> list(vicreg() | reconstruction(10.0) | anchor(1.0, torch.eye(2), torch.zeros(2)))
        ['invariance', 'variance', 'covariance', 'reconstruction', 'anchor']
    """
    fn = partial(_read_out_error, projection=projection, offset=offset)
    weight = check_number("weight", weight, 0)
    return Objective({"anchor": Term(weight, fn, on=("decoded", "x"), needs=frozenset({"decoder"}))})


def _read_out_error(decoded: Views, x: Views, *, projection: Tensor, offset: Tensor) -> Tensor:
    read = tuple(one[:, row.shape[1] :] for one, row in zip(decoded, x, strict=True))
    return mean_squared_error(read, tuple(row @ projection.T + offset for row in x))


def mean_squared_error(predicted: Views, wanted: Views) -> Tensor:
    """Mean over the views of the mean squared error of each view's prediction, in float32 at least.

    Raises:
        ValueError: Numbers of views or shapes differ.

    Example:
        >>> import torch
        >>> mean_squared_error((torch.zeros(2, 2), torch.ones(2, 2)), (torch.ones(2, 2), torch.ones(2, 2))).item()
        0.5
    """
    shapes = [[tuple(tensor.shape) for tensor in views] for views in (predicted, wanted)]
    require(shapes[0] == shapes[1], "predicted and wanted", "have the same shapes", f"{shapes[0]} and {shapes[1]}")
    errors = [mse_loss(terms.widened(p), terms.widened(w)) for p, w in zip(predicted, wanted, strict=True)]
    return torch.stack(errors).mean()
