"""The three terms of VICReg, written as the paper writes them.

These are the definitions: readable, differentiable any number of times, and the yardstick of
``vicreg.functional.fused``, which computes the same values and gradients faster.

Embeddings are tensors of n rows by d columns. Local features are (n, t, d): t locations in each of n rows; then the
statistics are those of each location over the n rows, averaged over the locations. To pool the locations into
the batch instead, flatten first.

Source: Bardes, Ponce, LeCun, "VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised
Learning", ICLR 2022, arXiv:2105.04906, equations 1 to 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from vicreg._checks import check_choice, check_number, message, require

VarianceForm: TypeAlias = Literal["std", "var"]
Estimator: TypeAlias = Literal["plugin", "unbiased"]
Per: TypeAlias = Literal["element", "row"]
Convention: TypeAlias = Literal["official", "algorithm1", "paper"]

# What the invariance term is a mean over, and the factor that std_coeff has for each of two branches.
CONVENTIONS: dict[str, tuple[Per, float]] = {
    "official": ("element", 0.5),
    "algorithm1": ("element", 1.0),
    "paper": ("row", 1.0),
}


def check_coefficients(name: str, value: float | Sequence[float]) -> float | tuple[float, ...]:
    """A number of at least 0, or a tuple of them, one for each branch.

    Raises:
        TypeError: It is no number and no sequence of them.
        ValueError: A number is negative or not finite.

    Example:
        >>> check_coefficients("std_coeff", 25), check_coefficients("std_coeff", [25, 0])
        (25.0, (25.0, 0.0))
    """
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(check_number(f"{name}[{i}]", entry, 0) for i, entry in enumerate(value))
    return check_number(name, value, 0)


def per_view(name: str, value: float | Sequence[float], views: int) -> tuple[float, ...]:
    """One number for each view, from one for all or a sequence of them.

    Raises:
        ValueError: The sequence is of another length.

    Example:
        >>> per_view("std_coeff", 25.0, 2), per_view("std_coeff", (25.0, 0.0), 2)
        ((25.0, 25.0), (25.0, 0.0))
    """
    if not isinstance(value, Sequence):
        return (value,) * views
    if len(value) != views:
        raise ValueError(message(name, f"be one number, or one for each of {views} views", tuple(value)))
    return tuple(value)


def suffix(view: int) -> str:
    """The letter of a view: a, b, ..., z, then its number.

    Example:
        >>> suffix(0), suffix(1), suffix(26)
        ('a', 'b', '26')
    """
    return chr(ord("a") + view) if view < 26 else str(view)


def check_embedding(name: str, z: Tensor, least: int = 1) -> None:
    """Raise unless ``z`` is a floating tensor of shape (n, d) or (n, t, d) with at least ``least`` rows.

    Raises:
        TypeError: It is no floating tensor.
        ValueError: Its shape is wrong.
    """
    if not isinstance(z, Tensor):
        raise TypeError(message(name, "be a torch.Tensor", type(z).__name__, "torch.as_tensor makes one."))
    if not z.is_floating_point():
        raise TypeError(message(name, "be of a floating type", z.dtype, "Convert it, as with .float()."))
    shape = tuple(z.shape)
    if z.ndim not in (2, 3):
        fix = "Flatten feature maps to (n, t, d), or pool them."
        raise ValueError(message(name, "have shape (n, d) or (n, t, d)", shape, fix))
    if shape[0] < least:
        fix = "Statistics over a batch need several rows." if least > 1 else ""
        raise ValueError(message(name, f"have at least {least} rows", f"shape {shape}", fix))
    if 0 in shape[1:]:
        raise ValueError(message(name, "have no empty dimension", f"shape {shape}"))


def widened(z: Tensor) -> Tensor:
    """``z`` in the type that statistics are computed in: float64 stays, all else becomes float32."""
    return z if z.dtype == torch.float64 else z.float()


def invariance(z_a: Tensor, z_b: Tensor, per: Per = "element") -> Tensor:
    """Mean squared distance between the embeddings of two views, s(Z, Z').

    Args:
        z_a: Embeddings of the first view, (n, d) or (n, t, d).
        z_b: Embeddings of the second view, row by row of the same samples; same shape.
        per: ``"element"`` takes the mean over all n*d entries, as published codes do; ``"row"`` the mean over rows
            of the squared norm, as equation 5 of the paper does: d times as much.

    Returns:
        A scalar of at least 0.

    Raises:
        TypeError: An embedding is no floating tensor.
        ValueError: A shape is wrong.

    Example:
        >>> import torch
        >>> z = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
        >>> invariance(z, z + 2.0).item(), invariance(z, z + 2.0, per="row").item()
        (4.0, 8.0)
    """
    check_embedding("z_a", z_a)
    check_embedding("z_b", z_b)
    require(z_a.shape == z_b.shape, "z_a and z_b", "have the same shape", f"{tuple(z_a.shape)} and {tuple(z_b.shape)}")
    check_choice("per", per, get_args(Per))
    squares = (widened(z_a) - widened(z_b)).square()
    return squares.mean() if per == "element" else squares.sum(dim=-1).mean()


def variance(z: Tensor, target: float = 1.0, eps: float = 1e-4, form: VarianceForm = "std") -> Tensor:
    """Hinge that keeps the standard deviation of each column above a target, v(Z).

    v(Z) = mean_j max(0, target - sqrt(Var_j + eps)), with Var over the rows and n - 1 in the denominator.

    Whatever the embedding, the value is at most ``target - sqrt(eps)``: .99 at the defaults, at full collapse. An alarm
    set above that never fires.

    Args:
        z: Embeddings, (n, d) or (n, t, d); n at least 2.
        target: The paper's gamma: the standard deviation (or variance) from which a column is left alone.
        eps: The paper's epsilon, added to the variance under the square root.
        form: ``"std"``, the paper's, or ``"var"``: mean_j max(0, target - Var_j), as simpler expositions write it. The
            gradient of ``"var"`` is linear in z, so it dies on the way to collapse; that of ``"std"`` stays of
            constant size until the standard deviation nears sqrt(eps), and vanishes only exactly at collapse.

    Returns:
        A scalar between 0 and ``target``.

    Raises:
        TypeError: ``z`` is no floating tensor.
        ValueError: The shape of ``z`` is wrong.

    Example:
        Complete collapse: every row is [1, 2, ..., d]. Variance is at its maximum, 1 - sqrt(1e-4), while the covariance
        is 0: the third term alone does not see collapse.

        >>> import torch
        >>> z = torch.arange(1.0, 9.0).repeat(16, 1)
        >>> round(variance(z).item(), 6), covariance(z).item()
        (0.99, 0.0)
    """
    check_embedding("z", z, least=2)
    check_choice("form", form, get_args(VarianceForm))
    var = widened(z).var(dim=0)
    spread = (var + eps).sqrt() if form == "std" else var
    return torch.relu(target - spread).mean()


def covariance(z: Tensor, estimator: Estimator = "plugin") -> Tensor:
    """Sum of the squared off-diagonal covariances over the width, c(Z) = (1/d) sum_{i != j} C_ij^2.

    Args:
        z: Embeddings, (n, d) or (n, t, d); n at least 2.
        estimator: ``"plugin"``, the paper's, squares the sample covariances. Its expectation is not 0 on independent
            columns: (d-1)/(n-1) for unit variances. ``"unbiased"`` is the U-statistic of order 4, whose expectation
            is the population's value whatever the distribution; so it may be negative. It needs n >= 4.

    Returns:
        A scalar; at least 0 for ``"plugin"``.

    Raises:
        TypeError: ``z`` is no floating tensor.
        ValueError: The shape of ``z`` is wrong.

    Example:
        >>> import torch
        >>> z = torch.tensor([[1.0, 2.0], [-1.0, -2.0]])     # C = [[2, 4], [4, 8]]
        >>> covariance(z).item()
        16.0
    """
    check_choice("estimator", estimator, get_args(Estimator))
    check_embedding("z", z, least=4 if estimator == "unbiased" else 2)
    x = widened(z) if z.ndim == 3 else widened(z)[:, None]
    n, _, d = x.shape
    x = (x - x.mean(dim=0)).movedim(1, 0)  # (t, n, d)
    diagonal = torch.eye(d, dtype=torch.bool, device=z.device)
    off = (x.mT @ x / (n - 1)).square().masked_fill(diagonal, 0).sum()
    if estimator == "unbiased":
        # Himeno & Yamada (2014) for the sum of all squared covariances, less the same for each column alone.
        var = x.square().sum(dim=-2) / (n - 1)
        pairs = var.sum(dim=-1).square().sum() - var.square().sum()
        fourth = (x.square().sum(dim=-1).square().sum() - x.pow(4).sum()) / (n - 1)
        off = (n - 1) / (n * (n - 2) * (n - 3)) * ((n - 1) * (n - 2) * off + pairs - n * fourth)
    return off / (d * x.shape[0])
