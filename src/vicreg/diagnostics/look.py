"""A look at a batch of embeddings: a few numbers that tell a healthy run from a collapsing one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vicreg._checks import check_number, require, shown
from vicreg.functional.fused import Formula, evaluate
from vicreg.functional.spectrum import excess_covariance, noise_floor, participation_ratio, standard_deviation
from vicreg.functional.terms import check_embedding, widened

MOST_ROWS, MOST_COLUMNS = 256, 128
"""What a look takes of a larger batch, evenly: its shares and ratios settle on far fewer."""

DEAD = 1e-2
"""Deviation of a dead column: the square root of the variance term's eps, where that term's gradient fades."""


@dataclass(frozen=True)
class Spread:
    """How the columns of one view's embedding or representation spread.

    Attributes:
        deviation: Mean standard deviation of the columns that are not dead, over the variance target; without a target
            over the root mean square of all entries, so that 1 is centred and 0 the same in every row.
        dead: Share of the columns whose deviation, on that scale, is at most ``DEAD``.
        directions: Participation ratio of the columns' correlation matrix: along how many directions they vary.
        most_directions: The most there could be: columns, or rows less one.
    """

    deviation: float
    dead: float
    directions: float
    most_directions: int


@dataclass(frozen=True)
class Look:
    """What the monitor saw at a step.

    Attributes:
        step: When.
        rows: Of the whole batch.
        width: Of the embedding.
        embedding: Of either view.
        representation: Of either view; empty where none were given.
        difference: Mean squared distance between the views of a sample, over that between views of different samples:
            0 where the views agree, 1 where they know nothing of each other. NaN where the widths differ.
        noise: Share of the covariance term that is its noise floor.
        shares: Share of each weighted term in the gradient at the embedding; empty where it is unknown.
        terms: The latest value of each term.
        total: Median total since the look before; None where no total is known.
    """

    step: int
    rows: int
    width: int
    embedding: tuple[Spread, Spread]
    representation: tuple[Spread, ...]
    difference: float
    noise: float
    shares: Mapping[str, float]
    terms: Mapping[str, float]
    total: float | None


def look(
    step: int,
    z: Sequence[Tensor],
    h: Sequence[Tensor],
    terms: Mapping[str, Tensor],
    shares: Mapping[str, Tensor],
    totals: Sequence[Tensor],
    target: float | None,
    processes: int,
) -> Look:
    """Take a look. All is read on the device, and waited for once.

    Args:
        step: When.
        z: Embeddings of two views, each (n, d).
        h: Representations of these views, or none.
        terms: 0-dimensional.
        shares: 0-dimensional.
        totals: Those since the look before.
        target: Scale of the embedding's deviation; None where the loss has none.
        processes: How many have such a batch.
    """
    rows, width = len(z[0]) * processes, z[0].shape[1]
    some = [_some(one) for one in z]
    parts = [_spread(one, target) for one in some] + [_spread(_some(one), None) for one in h]
    noise = torch.stack([_noise(one, rows) for one in some]).mean()
    named = torch.stack([*(widened(one) for one in (*terms.values(), *shares.values()))]) if terms or shares else None
    total = torch.stack(list(totals)).nan_to_num(torch.inf, torch.inf).median() if totals else None
    numbers = [*parts, torch.stack((_difference(*some), noise)), named, total]
    # One transfer: float32 holds all of these, and what it does not is infinite, which is as much as is to be known.
    flat = torch.cat([one.float().reshape(-1) for one in numbers if one is not None]).tolist()
    spreads = [
        Spread(flat[3 * i], flat[3 * i + 1], flat[3 * i + 2], min(len(one) - 1, one.shape[1]))
        for i, one in enumerate((*z, *h))
    ]
    difference, noise_share, *values = flat[3 * len(spreads) :]
    return Look(
        step=step,
        rows=rows,
        width=width,
        embedding=(spreads[0], spreads[1]),
        representation=tuple(spreads[2:]),
        difference=difference,
        noise=noise_share,
        shares=dict(zip(shares, values[len(terms) :], strict=False)),
        terms=dict(zip(terms, values, strict=False)),
        total=values[-1] if totals else None,
    )


def checked(name: str, z: Tensor) -> Tensor:
    """An embedding as rows, without graph; locations of local features count as rows.

    Raises:
        TypeError: It is no floating tensor.
        ValueError: It has another shape than (n, d) or (n, t, d), or fewer than two rows.
    """
    check_embedding(name, z, least=2)
    return z.detach().flatten(0, -2)


def gradient_shares(
    z_a: Tensor, z_b: Tensor, weights: Mapping[str, float], variance_target: float = 1.0
) -> dict[str, Tensor]:
    """Share of VICReg's terms in the gradient at the embeddings, by the gradients' norms.

    What the loss's value does not show: a term may be large and pull at nothing, or small and pull hard.

    Args:
        z_a: Embeddings of one view, (n, d).
        z_b: Embeddings of the other view of the same samples, (n, d).
        weights: Of ``invariance``, ``variance`` (of each view's term: half of std_coeff in the official convention) and
            ``covariance``; a term that is not named has no part.
        variance_target: The variance term's.

    Returns:
        By name 0-dimensional tensors that add up to 1, on the device; all 0 where there is no gradient.

    Raises:
        TypeError: An embedding is no floating tensor.
        ValueError: A shape is wrong, or a weight is of another term.

    Example:
        >>> z_a = torch.tensor([[1.0], [-1.0]])
        >>> shares = gradient_shares(z_a, z_a + 0.5, {"invariance": 25.0, "variance": 12.5})
        >>> {name: round(share.item(), 2) for name, share in shares.items()}  # both columns spread enough
        {'invariance': 1.0, 'variance': 0.0}
    """
    formulas = {
        "invariance": lambda weight: Formula(invariance=weight),
        "variance": lambda weight: Formula(variance=(weight, weight), target=variance_target),
        "covariance": lambda weight: Formula(covariance=(weight, weight)),
    }
    unknown = [name for name in weights if name not in formulas]
    require(not unknown, "weights", f"be of {', '.join(formulas)}", ", ".join(map(shown, unknown)))
    norms = {}
    with torch.enable_grad(), torch.autocast(z_a.device.type, enabled=False):
        views = [widened(one.detach()).clone().requires_grad_() for one in (z_a, z_b)]
        for name, weight in weights.items():
            total = evaluate(formulas[name](check_number(f"weight of {name}", weight)), views).total
            found = torch.autograd.grad(total, views)
            norms[name] = torch.stack([one.square().sum() for one in found]).sum().sqrt()
    whole = torch.stack(list(norms.values())).sum()
    return {name: norm / torch.where(whole > 0, whole, 1) for name, norm in norms.items()}


def _some(z: Tensor) -> Tensor:
    """Rows and columns of a large batch, evenly spaced: the same of each view."""
    return widened(z[:: -(-len(z) // MOST_ROWS), :: -(-z.shape[1] // MOST_COLUMNS)])


def _spread(z: Tensor, target: float | None) -> Tensor:
    """A `Spread`'s first three numbers, (3,)."""
    deviation = standard_deviation(z)
    scale = z.square().mean().sqrt() if target is None else torch.full_like(deviation[0], target)
    relative = deviation / torch.where(scale > 0, scale, 1)
    alive = ~(relative <= DEAD)  # what is no number is not dead, either
    columns = (z - z.mean(dim=0)) / torch.where(deviation > 0, deviation, 1)
    mean = torch.where(alive, relative, 0).sum() / alive.sum().clamp_min(1)
    return torch.stack((mean, 1 - alive.to(z.dtype).mean(), participation_ratio(columns)))


def _difference(z_a: Tensor, z_b: Tensor) -> Tensor:
    if z_a.shape != z_b.shape:
        return z_a.new_full((), torch.nan)
    own = (z_a - z_b).square().mean()
    apart = (z_a.mean(dim=0) - z_b.mean(dim=0)).square().mean()
    others = torch.stack([standard_deviation(one).square().mean() for one in (z_a, z_b)]).sum() + apart
    return own / torch.where(others > 0, others, 1)


def _noise(z: Tensor, rows: int) -> Tensor:
    """The floor's share in the covariance term of so many rows; some of its columns and rows stand for all."""
    floor = noise_floor(standard_deviation(z).square(), len(z)) * ((len(z) - 1) / (rows - 1))
    whole = floor + excess_covariance(z).clamp_min(0)
    return floor / torch.where(whole > 0, whole, 1)
