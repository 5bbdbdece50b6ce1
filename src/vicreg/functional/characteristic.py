"""Distance of empirical characteristic functions from a standard Gaussian's, with its gradient, in one go.

For numbers x_i the characteristic function at t is f(t) = (1/n) sum_i exp(i t x_i). The knots t_k = k h are equally far
apart, so with u = h x all that is needed are sums over i of exp(i k u), and for the gradient sums over k of such.

Both come from few powers: k = 4 a + b with b from -1 to 2, exp(i k u) = exp(4 i a u) exp(i b u), so that the sums over
i are inner products of the cosines and sines of 4 a u (steps) with those of b u (offsets), and the gradient is made of
the same two in the other direction: products of small matrices in place of passes over memory for every knot. The
gradient has a closed form and is formed with the value, so no angle is taped: memory is that of x and a block.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vicreg.distributed import Batch

BLOCK = 2**15
"""Numbers whose powers are in memory at one time."""

OFFSETS = 5
"""1, and the cosine and sine of u and of 2 u."""


def gaussian_gap(x: Tensor, knots: int, limit: float, batch: Batch) -> Tensor:
    """N times the integral of |f(t) - exp(-t^2/2)|^2 exp(-t^2/2) from -limit to limit, the mean over K samples.

    Twice the trapezoidal rule on [0, limit]. The gradient is that of averaged parameter gradients (``Batch.lift``).

    Args:
        x: (K, own rows) float32 or float64: K samples of numbers.
        knots: Points of the rule, at least 2.
        limit: Above 0.
        batch: The global batch, of n rows.

    Example:
        >>> gaussian_gap(torch.tensor([[-1.0, 1.0]]), 17, 3.0, Batch((2,)))
        tensor(0.2057)
    """
    gap: Tensor = _GaussianGap.apply(x, knots, limit, batch)  # type: ignore[no-untyped-call]  # torch's
    return gap


class _GaussianGap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, knots: int, limit: float, batch: Batch) -> Tensor:
        step = limit / (knots - 1)
        t = torch.arange(1, knots, device=x.device, dtype=x.dtype) * step  # at 0 there is never a gap
        gaussian = (-t.square() / 2).exp()
        weights = gaussian * (2 * step)
        weights[-1] /= 2
        slope = weights * t * (2 * batch.lift("mean") / len(x))
        mixing = _mixing(knots).to(x)  # from products of steps with offsets to the cosines, then the sines, of k u
        gradient = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        gaps = []
        at_once = min(len(x), max(1, BLOCK // batch.n))  # the same on every process
        # Memory for all blocks in turn: new memory for each costs as much as what is computed in it.
        memory = [x.new_ones(at_once, each, x.shape[1]) for each in (_steps(knots), OFFSETS, OFFSETS)]
        for begin in range(0, len(x), at_once):
            part = x[begin : begin + at_once]
            steps, offsets, turned = (one[: len(part)] for one in memory)
            _powers(part * step, steps, offsets)
            sums = torch.bmm(steps, offsets.mT).flatten(1) @ mixing.mT
            real, imaginary = (batch.sum_(sums) / batch.n).chunk(2, dim=1)
            real = real - gaussian
            gaps.append(((real.square() + imaginary.square()) @ weights).sum())
            if gradient is not None:
                mixed = torch.cat((slope * imaginary, -slope * real), dim=1) @ mixing
                torch.bmm(mixed.view(len(part), -1, OFFSETS).mT, steps, out=turned)
                torch.sum(turned.mul_(offsets), dim=1, out=gradient[begin : begin + at_once])
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return torch.stack(gaps).sum() * (batch.n / len(x))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * incoming, None, None, None


def _powers(u: Tensor, steps: Tensor, offsets: Tensor) -> None:
    """Cosine and sine of 4 u, 8 u, ... into steps, and of u and 2 u into offsets, (K, each, n); the first stays 1."""
    torch.cos(u, out=offsets[:, 1])
    torch.sin(u, out=offsets[:, 2])
    powers = [(offsets[:, 1], offsets[:, 2]), (offsets[:, 3], offsets[:, 4])]
    powers += [(steps[:, a], steps[:, a + 1]) for a in range(1, steps.shape[1], 2)]
    below, nothing = u.new_full((1, 1), -1.0), u.new_zeros(1, 1)
    for i in range(1, len(powers)):  # u, 2 u, 4 u, and from then on 4 u more each time
        cosine, sine = powers[i]
        if i <= 2 or i % 2:  # the double of an angle that is there already
            half = powers[i - 1 if i <= 2 else (i + 1) // 2]
            torch.addcmul(below, half[0], half[0], value=2, out=cosine)
            torch.addcmul(nothing, half[0], half[1], value=2, out=sine)
        else:
            last, step = powers[i - 1], powers[2]
            torch.mul(last[0], step[0], out=cosine).addcmul_(last[1], step[1], value=-1)
            torch.mul(last[1], step[0], out=sine).addcmul_(last[0], step[1])


def _steps(knots: int) -> int:
    """How many numbers stand for multiples of 4 u: 1, and two for each a with 4 a - 1 below the number of knots."""
    return 1 + 2 * (knots // 4)


@cache
def _mixing(knots: int) -> Tensor:
    """How the cosines and then the sines of k u are made of products, (2 (knots - 1), steps x offsets)."""
    mixing = torch.zeros(2, knots - 1, _steps(knots), OFFSETS, dtype=torch.float64)
    for k in range(1, knots):
        a = (k + 1) // 4
        b = k - 4 * a
        step = [(0, 1.0), None] if a == 0 else [(2 * a - 1, 1.0), (2 * a, 1.0)]
        offset = [(0, 1.0), None] if b == 0 else [(2 * abs(b) - 1, 1.0), (2 * abs(b), float(b > 0) - float(b < 0))]
        for i, one in enumerate(step):
            for j, other in enumerate(offset):
                if one and other:  # the sine of 0 is 0
                    part = (i + j) % 2  # cosine by cosine and sine by sine make a cosine, the others a sine
                    mixing[part, k - 1, one[0], other[0]] = one[1] * other[1] * (-1 if i and j else 1)
    return mixing.flatten(2).flatten(0, 1)
