"""How far the loss in float32 and in float64 is from the definition in float64, on the same rounded embeddings."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from published import published, relative, with_gradients
from torch import Tensor

from vicreg import VICRegLoss

COLUMNS_AT_ONCE = 1024


def correlated(n: int, d: int, generator: torch.Generator) -> Tensor:
    """Four directions hold all but a hundredth of the variance."""
    factors, weights, noise = (
        torch.randn(shape, dtype=torch.float64, generator=generator) for shape in [(n, 4), (4, d), (n, d)]
    )
    return factors @ weights / 2 + 0.1 * noise


def white(n: int, d: int, generator: torch.Generator) -> Tensor:
    return torch.randn(n, d, dtype=torch.float64, generator=generator)


KINDS: dict[str, Callable[[int, int, torch.Generator], Tensor]] = {
    "white": white,
    "correlated": correlated,
    "mean 5, deviation 1e-3": lambda n, d, generator: 5 + 1e-3 * white(n, d, generator),
    "mean 5, deviation 1e-5": lambda n, d, generator: 5 + 1e-5 * white(n, d, generator),
    "scales 1e-3 to 1e3": lambda n, d, generator: (
        white(n, d, generator) * torch.logspace(-3, 3, d, dtype=torch.float64)
    ),
}


class Moments(NamedTuple):
    """The covariance term and its gradient, and both with the diagonal left in."""

    value: Tensor
    gradient: Tensor
    whole_value: Tensor
    whole_gradient: Tensor


def covariance(z: Tensor, by_columns: bool) -> Moments:
    """The covariance term by its definition, some columns of the d x d matrix at a time; or by way of the n x n one."""
    n, d = z.shape
    z = z - z.mean(dim=0)
    squares = z.square().sum(dim=0)
    if by_columns:
        total, gradient = z.new_zeros(()), torch.empty_like(z)
        for start in range(0, d, COLUMNS_AT_ONCE):
            columns = slice(start, start + COLUMNS_AT_ONCE)
            moments = z.T @ z[:, columns]
            moments.diagonal(-start).zero_()
            total += moments.square().sum()
            gradient[:, columns] = z @ moments
    else:
        gram = z @ z.T
        total = gram.square().sum() - squares.square().sum()
        gradient = gram @ z - z * squares
    scale = 1 / (d * (n - 1) ** 2)
    whole = total + squares.square().sum(), gradient + z * squares
    return Moments(total * scale, gradient * (4 * scale), whole[0] * scale, whole[1] * (4 * scale))


def reference(x: Tensor, y: Tensor, by_columns: bool) -> tuple[list[Tensor], list[Moments]]:
    """Loss and gradients by the definition, in float64; and the covariance term of each view."""
    # Without the mean, which no term depends on, float64 keeps its digits; near the mean the difference is exact.
    middle = x.double().mean(dim=0)
    x, y = (z.double() - middle for z in (x, y))
    views = [x.requires_grad_(), y.requires_grad_()]
    rest = with_gradients(published(lambda z: z.new_zeros(())), *views)
    moments = [covariance(z.detach(), by_columns) for z in views]
    gradients = [gradient + one.gradient for gradient, one in zip(rest[1:], moments, strict=True)]
    return [rest[0] + moments[0].value + moments[1].value, *gradients], moments


def errors(x: Tensor, y: Tensor, by_columns: bool) -> dict[str, float]:
    """Relative errors of loss and gradient in float32, and how much of the promised bound they use up.

    The bound: 1e-5, relative, of the loss, its gradient, and where d <= n the covariance term and its gradient; where
    d > n those two may err by 1e-6 of themselves with the diagonal left in, and so may the loss and its gradient.
    """
    n, d = x.shape
    expected, moments = reference(x, y, by_columns)
    terms = [moments[0].value + moments[1].value, moments[0].gradient, moments[1].gradient]
    whole = [moments[0].whole_value + moments[1].whole_value, moments[0].whole_gradient, moments[1].whole_gradient]
    views = [z.detach().clone().requires_grad_() for z in (x, y)]
    found = with_gradients(VICRegLoss(), *views)
    alone = with_gradients(VICRegLoss(0.0, 0.0, 1.0), *views)
    exact = with_gradients(VICRegLoss(), *(z.detach().double().requires_grad_() for z in views))
    of_loss = [relative(*pair) for pair in zip(found, expected, strict=True)]
    of_terms = [relative(*pair) for pair in zip(alone, terms, strict=True)]
    slack = [(1e-6 * w.norm()).item() if d > n else 0.0 for w in whole]
    shares = []
    for i in range(3):
        size, term = expected[i].norm().item(), terms[i].norm().item()
        shares.append(of_loss[i] * size / (1e-5 * size + slack[i]))
        shares.append(of_terms[i] * term / (slack[i] or 1e-5 * term))
    return {
        "loss": of_loss[0],
        "gradient": max(of_loss[1:]),
        "covariance": of_terms[0],
        "covariance_gradient": max(of_terms[1:]),
        "of_bound": max(shares),
        "float64": max(relative(*pair) for pair in zip(exact, expected, strict=True)),
    }


def embeddings(kind: str, n: int, d: int, device: torch.device) -> list[Tensor]:
    generator = torch.Generator().manual_seed(n + d)
    return [KINDS[kind](n, d, generator).float().to(device) for _ in range(2)]


def accuracy(cells: list[tuple[int, int]], most: float, device: torch.device) -> Iterator[dict[str, object]]:
    """Errors of each kind of embedding at the sizes whose products are affordable in float64.

    Args:
        cells: Sizes.
        most: Operations of a product that are affordable; twice as many for white embeddings.
        device: Where.
    """
    for kind in KINDS:
        for n, d in cells:
            affordable = most * (2 if kind == "white" else 1)
            if 2 * n * d * min(n, d) <= affordable:
                by_columns = d <= n or 2 * n * d**2 <= affordable
                found = errors(*embeddings(kind, n, d, device), by_columns)
                yield {"kind": kind, "n": n, "d": d, "definition": by_columns, **found}


def reduced(cells: list[tuple[int, int]], device: torch.device) -> Iterator[dict[str, object]]:
    """Errors on white embeddings where the products are asked to be less than float32, against float32."""
    for precision in ["medium", *(["high"] if device.type == "cuda" else [])]:
        for n, d in cells:
            views = [z.requires_grad_() for z in embeddings("white", n, d, device)]
            for name, weights in {"loss": (25.0, 25.0, 1.0), "covariance": (0.0, 0.0, 1.0)}.items():
                pair = [
                    with_gradients(VICRegLoss(*weights, matmul_precision=one), *views) for one in (precision, "highest")
                ]
                found = [relative(one, other.double()) for one, other in zip(*pair, strict=True)]
                yield {
                    "precision": precision,
                    "of": name,
                    "n": n,
                    "d": d,
                    "value": found[0],
                    "gradient": max(found[1:]),
                }
