"""The whole VICReg loss with its gradient, in one go.

The values are those of ``vicreg.functional.terms``. What differs is the way there: the gradient has a closed form,
so it is formed with the value and nothing is taped, and where the embedding is wider than the batch the n x n Gram
matrix stands in for the d x d covariance, exactly. With Zc centred and s_j = sum_i Zc_ij^2,

    sum_{i != j} C_ij^2 = (||Zc Zc^T||_F^2 - sum_j s_j^2) / (n-1)^2

    dense (d <= n):  dc/dZ = a Zc M,  M = Zc^T Zc with its diagonal set to 0,   a = 4 / (d (n-1)^2)
    Gram (d > n):    dc/dZ = a (P Zc - Zc diag(s)),  P = Zc Zc^T

    variance "std":  dv/dZ = -Zc diag([std_j < target] / (d (n-1) std_j)),  std_j = sqrt(s_j/(n-1) + eps)
    variance "var":  dv/dZ = -2 Zc diag([Var_j < target] / (d (n-1)))

The rows of these sum to zero already, so the gradient needs no centring of its own.

Numerics. Statistics are float32 (float64 for float64) whatever the input's type and whatever autocast says; only the
matrix products may be less, and only when asked. The dense form is within 1e-5 of float64 on the same inputs. The
Gram form subtracts the diagonal and so errs by up to 1e-6 ||C||_F^2 / d, with C's diagonal: one column far above all
others costs the covariance term digits. With products in bfloat16 that is some 2e-3 ||C||_F^2 / d, which then may be
many times the term itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor

from vicreg._checks import check_choice, check_integer, message
from vicreg.distributed import Batch, Share, common_batch
from vicreg.functional.moments import Precision, squared_products, sum_of_squares
from vicreg.functional.terms import Estimator, Per, VarianceForm, check_embedding, per_view, suffix, widened

CHOICES = {
    "per": get_args(Per),
    "form": get_args(VarianceForm),
    "estimator": get_args(Estimator),
    "precision": get_args(Precision),
}

# Entries that the products of several locations of (n, t, d) inputs may take up together: 64 MiB in float32.
MOST_ENTRIES = 2**24

# Entries that are squared together: few enough to stay near the processor.
FEW_ENTRIES = 2**19


@dataclass(frozen=True, kw_only=True)
class Formula:
    """Which terms to compute, with which weights.

    A weight of None leaves its term out. A weight of 0 makes it a reading: computed, but with no part in the total
    or in the gradient, and without the cost of that product.

    Attributes:
        invariance: Weight of the invariance term.
        variance: Weight of the variance term of each view.
        covariance: Weight of the covariance term of each view.
        target: The variance term's target, or one for each view.
        eps: Added to the variance under the square root.
        per: What the invariance term is a mean over.
        form: Form of the variance term.
        estimator: Estimator of the covariance term.
        precision: Of float32 matrix products: ``"highest"`` is float32, ``"high"`` TF32 where the device has it,
            ``"medium"`` bfloat16.
        n_large: Pairs among the views after the first ``n_large`` have no part in the invariance term; with None
            all count.
    """

    invariance: float | None = None
    variance: tuple[float, ...] | None = None
    covariance: tuple[float, ...] | None = None
    target: float | tuple[float, ...] = 1.0
    eps: float = 1e-4
    per: Per = "element"
    form: VarianceForm = "std"
    estimator: Estimator = "plugin"
    precision: Precision = "highest"
    n_large: int | None = None

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                check_choice(name, getattr(self, name), choices)

    def target_of(self, view: int) -> float:
        """The variance term's target for a view."""
        return self.target[view] if isinstance(self.target, tuple) else self.target


class Evaluated(NamedTuple):
    """The weighted total, with its graph, and the unweighted terms, without one; None or empty where not asked for."""

    total: Tensor
    invariance: Tensor | None
    variance: tuple[Tensor, ...]
    covariance: tuple[Tensor, ...]


def evaluate(
    formula: Formula, views: Sequence[Tensor], names: Sequence[str] = (), batch: Batch | None = None, lift: float = 1.0
) -> Evaluated:
    """Compute the terms of ``formula`` on the views and, where a view needs it, the gradient of their weighted sum.

    Args:
        formula: The terms and their weights, one for each view where the term is one of a view.
        views: Embeddings of each view, (n, d) or (n, t, d), of one type, device and number of rows. They may differ in
            width where the invariance has no weight (None or 0); then it has no value either.
        names: What error messages call the views; ``z_a``, ``z_b``, ... by default.
        batch: The global batch that several processes have agreed on, of which ``views`` has this process's rows; they
            have been checked then. By default ``views`` are the batch.
        lift: What the gradient is multiplied by, to make up for what is done with parameter gradients afterwards.

    Returns:
        The total and the terms, as 0-dimensional tensors; they are those of the batch, on every process.

    Raises:
        TypeError: A view is no floating tensor, or the views are of different types.
        ValueError: Shapes, devices, the number of rows or ``n_large`` are wrong.
        RuntimeError: In backward, when asked for a graph of the gradient (``create_graph=True``).

    Example:
        >>> import torch
        >>> z_a = torch.tensor([[1.0, 2.0], [-1.0, -2.0]], requires_grad=True)
        >>> formula = Formula(invariance=25.0, covariance=(1.0, 1.0))
        >>> evaluated = evaluate(formula, [z_a, z_a.detach() + 1.0])
        >>> evaluated.total.item(), round(evaluated.invariance.item(), 6), [c.item() for c in evaluated.covariance]
        (57.0, 1.0, [16.0, 16.0])
    """
    if batch is None:
        formula, batch = common_batch(None, lambda: checked(formula, views, names))
    wanted = tuple(z.requires_grad and torch.is_grad_enabled() for z in views)
    if any(wanted):
        total, *terms = _Fused.apply(formula, batch, lift, wanted, *views)  # type: ignore[no-untyped-call]  # torch's
    else:
        (total, *terms), _ = _compute(formula, batch, wanted, views)
    invariance = None if formula.invariance is None else terms.pop(0)
    split = 0 if formula.variance is None else len(views)
    return Evaluated(total, invariance, tuple(terms[:split]), tuple(terms[split:]))


def checked(formula: Formula, views: Sequence[Tensor], names: Sequence[str] = ()) -> tuple[Formula, Share]:
    """What :func:`evaluate` does with these views, if they are in order.

    Args:
        formula: As there.
        views: As there; on one of several processes there may be any number of rows.
        names: As there.

    Returns:
        The formula, less an invariance of no weight between views of different widths; and what these views are of a
        batch, for :func:`vicreg.distributed.common_batch`.

    Raises:
        TypeError: As there.
        ValueError: As there.
    """
    names = names or [f"z_{suffix(i)}" for i in range(len(views))]
    for name, z in zip(names, views, strict=True):
        check_embedding(name, z, least=0)
    if not formula.invariance and any(z.shape != views[0].shape for z in views[1:]):
        formula = replace(formula, invariance=None)
    _check_views(formula, views, names)
    moments = formula.variance is not None or formula.covariance is not None
    least = 4 if formula.covariance is not None and formula.estimator == "unbiased" else 1 + moments

    def traits() -> list[str]:
        widths = [", ".join(["n", *map(str, z.shape[1:])]) for z in views]
        kinds = [f"{name} ({width}) of {z.dtype}" for name, width, z in zip(names, widths, views, strict=True)]
        settings = [f"{name}={value!r}" for name, value in vars(formula).items()]
        return [f"{len(views)} views", *kinds[:1], *settings, *kinds[1:]]

    return formula, Share(names[0], len(views[0]), least, traits)


class _Fused(torch.autograd.Function):
    """Forms the gradient in the forward pass; backward only scales it, and asks no other process."""

    @staticmethod
    def forward(
        ctx: Any, formula: Formula, batch: Batch, lift: float, wanted: tuple[bool, ...], *views: Tensor
    ) -> tuple[Tensor, ...]:
        values, gradients = _compute(formula, batch, wanted, views)
        # In the statistics' type until the incoming gradient is in: a loss scale is there to lift small
        # gradients into float16's range, which they would not survive without it.
        ctx.save_for_backward(*gradients)
        ctx.types = [z.dtype for z in views]
        ctx.lift = lift
        ctx.handed_on = False
        ctx.set_materialize_grads(False)  # the terms have none: no zeros for them
        ctx.mark_non_differentiable(*values[1:])
        return values

    @staticmethod
    def backward(ctx: Any, incoming: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            rule = "be differentiated once only"
            fix = "The terms in vicreg.functional.terms can be differentiated any number of times."
            raise RuntimeError(message("The fused loss", rule, "create_graph=True", fix))
        if incoming is None:
            return None, None, None, None, *([None] * len(ctx.types))
        gradients, scale = ctx.saved_tensors, incoming if ctx.lift == 1 else incoming * ctx.lift
        if not ctx.handed_on and _is_one(scale):
            ctx.handed_on = True  # the first time only: what two backward passes give must not be one tensor
        else:
            gradients = [None if one is None else one * scale for one in gradients]
        cast = [None if one is None else one.to(dtype) for one, dtype in zip(gradients, ctx.types, strict=True)]
        return None, None, None, None, *cast


def _is_one(scale: Tensor) -> bool:
    """Whether it is known to be 1, as it is in most loops; on a device that would have to be waited for, it is not."""
    return not torch.compiler.is_compiling() and scale.device.type == "cpu" and scale.item() == 1


def _compute(
    formula: Formula, batch: Batch, wanted: tuple[bool, ...], views: Sequence[Tensor]
) -> tuple[tuple[Tensor, ...], list[Tensor | None]]:
    """The total and the terms, in the order of ``Evaluated``, and the gradient of the total by each wanted view."""
    located = [widened(z)[None] if z.ndim == 2 else widened(z).movedim(1, 0) for z in views]  # (t, n, d)
    weighted: list[tuple[float, Tensor]] = []
    with _products_as_asked(views[0].device.type, formula.precision):
        gradients: list[Tensor | None] = []
        if formula.invariance is not None:
            value, gradients = _invariance(located, wanted, formula.invariance, formula, batch)
            weighted.append((formula.invariance, value))
        if not formula.invariance:
            gradients = [torch.zeros_like(x) if want else None for x, want in zip(located, wanted, strict=True)]
        if formula.variance is not None or formula.covariance is not None:
            # One view after the other, so that one centred copy is in memory at a time.
            found = [_moments(x, gradients[i], i, formula, batch) for i, x in enumerate(located)]
            for weights, values in zip((formula.variance, formula.covariance), zip(*found, strict=True), strict=True):
                weighted += zip(weights or (), values, strict=False)
    total = located[0].new_zeros(())
    for weight, value in weighted:
        if weight:  # what has no weight must not make the total NaN where it is infinite
            total.add_(value, alpha=weight)
    return (total, *(value for _, value in weighted)), [
        g if g is None else g[0] if z.ndim == 2 else g.movedim(0, 1) for g, z in zip(gradients, views, strict=True)
    ]


def _invariance(
    views: list[Tensor], wanted: tuple[bool, ...], weight: float, formula: Formula, batch: Batch
) -> tuple[Tensor, list[Tensor | None]]:
    """The invariance term: the mean over the pairs of views; and each wanted view's weighted gradient.

    Linear in the number of views V, by way of the mean m of the first n_large: with r_i = x_i - m, the squared
    distances of all pairs that count add up to V sum_large r_i^2 + n_large sum_small r_j^2, where nothing cancels.
    """
    t, _, d = views[0].shape
    entries = t * batch.n * (d if formula.per == "element" else 1)
    if len(views) == 2:
        gap = views[0] - views[1]
        value = sum_of_squares(gap) / entries
        gap.mul_(2 * weight / entries)
        return batch.sum_(value), [gap if wanted[0] else None, -gap if wanted[1] else None]
    large = formula.n_large or len(views)
    entries *= large * (large - 1) // 2 + large * (len(views) - large)
    middle = torch.stack(views[:large]).mean(dim=0)
    gaps = [x - middle for x in views]
    factors = [len(views)] * large + [large] * (len(views) - large)
    parts = [sum_of_squares(gap) * (factor / entries) for gap, factor in zip(gaps, factors, strict=True)]
    slope = 2 * weight / entries
    drift = sum(gaps[large:], torch.zeros_like(middle))
    gradients = [gap.mul_(factor * slope) for gap, factor in zip(gaps, factors, strict=True)]
    for gradient in gradients[:large]:
        gradient.sub_(drift, alpha=slope)
    return batch.sum_(torch.stack(parts).sum()), [
        g if want else None for g, want in zip(gradients, wanted, strict=True)
    ]


def _moments(
    x: Tensor, gradient: Tensor | None, view: int, formula: Formula, batch: Batch
) -> tuple[Tensor | None, Tensor | None]:
    """The variance and the covariance term of a view; their weighted gradient is added to ``gradient``."""
    hinge_weight = formula.variance[view] if formula.variance else 0.0
    weight = formula.covariance[view] if formula.covariance else 0.0
    if not (hinge_weight or weight):
        gradient = None
    x = _centred(x, batch)
    squares = batch.sum_(_column_squares(x))
    stretch = torch.zeros_like(squares)  # the part of the gradient that multiplies each column by a number
    hinge = off = None
    if formula.variance is not None:
        hinge = _variance(squares, stretch, hinge_weight, formula.target_of(view), formula, batch)
    if formula.covariance is not None:
        off = _covariance(x, squares, stretch, gradient if weight else None, weight, formula, batch)
    if gradient is not None:
        gradient.addcmul_(x, stretch)
    return hinge, off


def _centred(x: Tensor, batch: Batch) -> Tensor:
    """``x`` less its mean over the batch, twice: one pass leaves the rounding error of a mean far above the spread."""
    x = x - batch.mean(x)
    return x.sub_(batch.mean(x))


def _column_squares(x: Tensor) -> Tensor:
    """Sums of squares over the rows, a few rows at a time: no second matrix."""
    if x.numel() <= FEW_ENTRIES:
        return x.square().sum(dim=-2, keepdim=True)
    few = max(1, FEW_ENTRIES // (x.shape[0] * x.shape[-1]))
    parts = torch.split(x, few, dim=-2)
    return torch.stack([rows.square().sum(dim=-2, keepdim=True) for rows in parts]).sum(dim=0)


def _variance(squares: Tensor, stretch: Tensor, weight: float, target: float, formula: Formula, batch: Batch) -> Tensor:
    """The variance term; the factors of its weighted gradient are added to ``stretch``."""
    var = squares / (batch.n - 1)
    spread = (var + formula.eps).sqrt_() if formula.form == "std" else var
    hinge = torch.relu(target - spread)
    if weight:
        factor = -weight / (squares.numel() * (batch.n - 1))
        if formula.form == "std":
            stretch.addcdiv_(hinge.sign(), spread, value=factor)
        else:
            stretch.add_(hinge.sign(), alpha=2 * factor)
    return hinge.mean()


def _covariance(
    x: Tensor, squares: Tensor, stretch: Tensor, gradient: Tensor | None, weight: float, formula: Formula, batch: Batch
) -> Tensor:
    """The covariance term; its weighted gradient is added to ``gradient``, and to ``stretch`` what belongs there."""
    t, _, d = x.shape
    n = batch.n
    unbiased = formula.estimator == "unbiased"
    scale = 1 / (t * d * (n * (n - 3) if unbiased else (n - 1) ** 2))
    slope = 4 * weight * scale
    together = max(1, MOST_ENTRIES // min(n, d) ** 2)  # locations at once
    parts = [(x, gradient)]
    if t > together:
        slices = [slice(i, i + together) for i in range(0, t, together)]
        parts = [(x[i], None if gradient is None else gradient[i]) for i in slices]
    values = [squared_products(*part, slope, formula.precision, batch) for part in parts]
    off = sum(values[1:], values[0])
    if d > n:  # the Gram form has the diagonal in it
        off = off - squares.square().sum()
        if weight:
            stretch.sub_(squares, alpha=slope)
    if unbiased:
        off = off + _correction(x, squares, gradient, slope, batch)
    return off * scale


def _correction(x: Tensor, squares: Tensor, gradient: Tensor | None, slope: float, batch: Batch) -> Tensor:
    """What the U-statistic of order 4 adds to the sum of squared off-diagonal entries (see ``terms.covariance``)."""
    n = batch.n
    energy = x.square()
    rows = energy.sum(dim=-1, keepdim=True)
    columns = squares.sum(dim=-1, keepdim=True)
    pairs = columns.square().sum() - squares.square().sum()
    fourth = batch.sum_(rows.square().sum() - energy.square().sum())
    pull = x * ((columns - squares) / (n - 1) - n * (rows - energy))
    pull.sub_(batch.mean(pull))
    if gradient is not None:
        gradient.add_(pull, alpha=slope / (n - 2))
    return (pairs / (n - 1) - n * fourth) / (n - 2)


@contextmanager
def _products_as_asked(device: str, precision: Precision) -> Iterator[None]:
    """Neither autocast nor the process's own setting of float32 products reaches in.

    That setting is the whole process's, so it is changed only where it differs from what is asked: with PyTorch's own,
    threads do not meet. Under ``torch.compile`` it cannot be read; there it stays as it is.
    """
    backend = torch.backends.cuda.matmul if device == "cuda" else torch.backends.mkldnn.matmul  # type: ignore[attr-defined]  # in no stub
    cast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    with torch.autocast(device, enabled=False) if cast else nullcontext():
        if torch.compiler.is_compiling():
            yield
            return
        before = backend.fp32_precision
        asked = "tf32" if precision == "high" and device == "cuda" else "ieee"
        if before == asked or (before, asked) == ("none", "ieee"):  # "none": nobody asked for less than float32
            yield
            return
        backend.fp32_precision = asked
        try:
            yield
        finally:
            backend.fp32_precision = before


def _check_views(formula: Formula, views: Sequence[Tensor], names: Sequence[str]) -> None:
    if formula.n_large is not None:
        check_integer("n_large", formula.n_large, 1, len(views))
    if len(views) < 1 + (formula.invariance is not None):
        raise ValueError(message("An invariance term", "have two or more views", len(views)))
    per_view("variance_target", formula.target, len(views))
    first = views[0]
    for name, z in zip(names, views, strict=True):
        what = f"{names[0]} and {name}"
        if z.dtype != first.dtype:
            raise TypeError(message(what, "have the same type", f"{first.dtype} and {z.dtype}"))
        if z.device != first.device:
            raise ValueError(message(what, "be on the same device", f"{first.device} and {z.device}"))
        if z.shape[:-1] != first.shape[:-1] or (formula.invariance is not None and z.shape != first.shape):
            fix = (
                ""
                if formula.invariance is None
                else "Widths may differ where the invariance term is off (sim_coeff=0)."
            )
            raise ValueError(message(what, "have the same shape", f"{tuple(first.shape)} and {tuple(z.shape)}", fix))
