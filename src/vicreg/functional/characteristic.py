"""Distance of empirical characteristic functions from a standard Gaussian's, with its gradient, in one go.

For numbers x_i the characteristic function at t is f(t) = (1/n) sum_i exp(i t x_i). The knots t_k = k h are equally far
apart, so exp(i t_k x) is the k-th power of exp(i h x): one sine and one cosine, and then multiplications. The
gradient has a closed form and is formed with the value, so no angle is taped: memory is that of x, not knots times it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vicreg.distributed import Batch


def gaussian_gap(x: Tensor, knots: int, limit: float, batch: Batch) -> Tensor:
    """N times the integral of |f(t) - exp(-t^2/2)|^2 exp(-t^2/2) from -limit to limit, the mean over the columns.

    Twice the trapezoidal rule on [0, limit]. The gradient is that of averaged parameter gradients (``Batch.lift``).

    Args:
        x: (own rows, K) float32 or float64.
        knots: Points of the rule, at least 2.
        limit: Above 0.
        batch: The global batch, of n rows.

    Example:
        >>> gaussian_gap(torch.tensor([[-1.0], [1.0]]), 17, 3.0, Batch((2,)))
        tensor(0.2057)
    """
    gap: Tensor = _GaussianGap.apply(x, knots, limit, batch)  # type: ignore[no-untyped-call]  # torch's
    return gap


class _GaussianGap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, knots: int, limit: float, batch: Batch) -> Tensor:
        step = limit / (knots - 1)
        t = torch.arange(1, knots, device=x.device, dtype=x.dtype)[:, None] * step  # at 0 there is never a gap
        gaussian = (-t.square() / 2).exp()
        weights = gaussian * (2 * step)
        weights[-1] /= 2
        parts = [torch.stack((real.sum(dim=0), imaginary.sum(dim=0))) for real, imaginary in _powers(x, step, knots)]
        means = batch.sum_(torch.stack(parts)) / batch.n
        real, imaginary = means[:, 0] - gaussian, means[:, 1]
        if ctx.needs_input_grad[0]:
            slope = weights * t * (2 * batch.lift("mean") / x.shape[1])
            gradient = torch.zeros_like(x)
            for k, (cosine, sine) in enumerate(_powers(x, step, knots)):
                gradient.addcmul_(cosine, slope[k] * imaginary[k]).addcmul_(sine, slope[k] * real[k], value=-1)
            ctx.save_for_backward(gradient)
        return batch.n * (weights * (real.square() + imaginary.square())).sum(dim=0).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * incoming, None, None, None


def _powers(x: Tensor, step: float, knots: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Cosine and sine of k h x, for k from 1 to knots - 1."""
    cosine, sine = (x * step).cos_(), (x * step).sin_()
    first_cosine, first_sine = cosine, sine
    yield cosine, sine
    for _ in range(knots - 2):
        turned = cosine * first_cosine
        turned.addcmul_(sine, first_sine, value=-1)
        sine = (sine * first_cosine).addcmul_(cosine, first_sine)
        cosine = turned
        yield cosine, sine
