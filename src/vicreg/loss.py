"""The VICReg loss for people's own training loops: a thin module over ``vicreg.functional``."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, TypedDict, Unpack, get_args

from torch import Tensor, nn

from vicreg._checks import check_choice, check_number, message, require, shown
from vicreg.distributed import ProcessGroup, Reduction, Share, common_batch
from vicreg.functional.fused import Evaluated, Formula, checked, evaluate
from vicreg.functional.moments import Precision
from vicreg.functional.terms import (
    CONVENTIONS,
    Convention,
    Estimator,
    VarianceForm,
    check_coefficients,
    per_view,
    suffix,
)


class VICRegLoss(nn.Module):
    """VICReg: variance, invariance and covariance of the embeddings of two (or more) views of a batch.

    "VICReg 25/25/1" is at least three losses in the libraries people use; ``convention`` names which:

    ============== =================================== ============ ==========
    convention     invariance                          variance     covariance
    ============== =================================== ============ ==========
    ``official``   mean over n*d of (z - z')^2         (v + v') / 2 c + c'
    ``algorithm1`` mean over n*d of (z - z')^2         v + v'       c + c'
    ``paper``      mean over n of the squared norm     v + v'       c + c'
    ============== =================================== ============ ==========

    with v and c as in ``vicreg.functional.variance`` and ``covariance``. ``official`` is facebookresearch/vicreg at
    4e12602, lightly and pytorch-metric-learning; ``algorithm1`` the pseudo-code of the paper and solo-learn;
    ``paper`` equations 1 to 6 of arXiv:2105.04906.

    With V views the invariance is the mean over the pairs of views and the variance and covariance terms are 2/V of
    their sums over views, so that V = 2 is the loss above.

    A coefficient of 0 makes its term a reading: still computed, but with no part in the loss and its gradient.

    Statistics are computed in float32 (float64 for float64) under autocast and for half-precision inputs too; the
    result is of that type. NaN and infinities in the input are no error: they pass into the loss, as loss scaling
    needs. The gradient is formed in the forward pass and can be differentiated no further.

    Args:
        sim_coeff: Weight of the invariance term (lambda), at least 0.
        std_coeff: Weight of the variance term (mu), at least 0; or one for each branch.
        cov_coeff: Weight of the covariance term (nu), at least 0; or one for each branch.
        variance_target: Standard deviation that each column should have at least (gamma); or one for each branch.
        eps: Added to the variance under the square root, above 0.
        convention: ``"official"``, ``"algorithm1"`` or ``"paper"``.
        variance_form: ``"std"``, or ``"var"`` for a hinge on the variance itself, whose gradient dies on the way to
            collapse (see ``vicreg.functional.variance``).
        covariance_estimator: ``"plugin"``, or ``"unbiased"``, which is 0 on average where columns are independent.
        matmul_precision: Of the matrix products on float32: ``"highest"`` is float32, ``"high"`` TF32 where the GPU has
            it (its error has not been measured), ``"medium"`` bfloat16. Against float32, on white embeddings on a CPU,
            ``"medium"`` changed the loss by at most 2e-4 of itself, its gradient by 3e-3, and the covariance term
            alone by 4e-4 and its gradient by 4e-3 (``benchmarks/loss.py``). Where the embedding is wider than the batch
            and one column far above the others, ``"medium"`` may miss the covariance term by many times its size.
        process_group: Processes whose rows make up the batch: a group, ``"default"`` for the default group where there
            is one, or ``None`` for this process's rows alone. Loss and terms are those of all their rows together, the
            same on each of them; rows may be unequally many. Backward communicates nothing.
        gradient_reduction: How parameter gradients are reduced over the processes afterwards: ``"mean"`` (DDP, Fabric)
            or ``"sum"``. Without effect on one process.
        equal_rows: Whether every process is known to have equally many rows, of one width and type, and no faulty
            input: then they do not ask each other first, and no one waits for the device. Otherwise they do, and
            what is wrong on one is an error on all. Without effect on one process.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: An argument is out of its range.

    Example:
        >>> import torch
        >>> z_a = torch.tensor([[1.0, 2.0], [-1.0, -2.0]], requires_grad=True)
        >>> loss = VICRegLoss()
        >>> value = loss(z_a, z_a.detach() + 1.0)
        >>> value.item()     # 25 * 1 + 25 * (0 + 0) / 2 + 1 * (16 + 16)
        57.0
        >>> value.backward()
    """

    def __init__(
        self,
        sim_coeff: float = 25.0,
        std_coeff: float | Sequence[float] = 25.0,
        cov_coeff: float | Sequence[float] = 1.0,
        variance_target: float | Sequence[float] = 1.0,
        *,
        eps: float = 1e-4,
        convention: Convention = "official",
        variance_form: VarianceForm = "std",
        covariance_estimator: Estimator = "plugin",
        matmul_precision: Precision = "highest",
        process_group: ProcessGroup = "default",
        gradient_reduction: Reduction = "mean",
        equal_rows: bool = False,
    ) -> None:
        super().__init__()
        self.sim_coeff = check_number("sim_coeff", sim_coeff, 0)
        self.std_coeff = check_coefficients("std_coeff", std_coeff)
        self.cov_coeff = check_coefficients("cov_coeff", cov_coeff)
        self.variance_target = check_coefficients("variance_target", variance_target)
        self.eps = check_number("eps", eps, 0, open_low=True)
        self.convention = check_choice("convention", convention, CONVENTIONS)
        self.variance_form: Any = check_choice("variance_form", variance_form, get_args(VarianceForm))
        self.covariance_estimator: Any = check_choice("covariance_estimator", covariance_estimator, get_args(Estimator))
        self.matmul_precision: Any = check_choice("matmul_precision", matmul_precision, get_args(Precision))
        require(
            process_group is None or process_group == "default" or not isinstance(process_group, (str, bool, int)),
            "process_group",
            "be a process group that this process is in, 'default' or None",
            shown(process_group),
        )
        self.process_group = process_group
        self.gradient_reduction = check_choice("gradient_reduction", gradient_reduction, get_args(Reduction))
        require(isinstance(equal_rows, bool), "equal_rows", "be True or False", shown(equal_rows), error=TypeError)
        self.equal_rows = equal_rows

    def forward(self, *views: Tensor, n_large: int | None = None) -> Tensor:
        """The loss.

        Args:
            *views: Embeddings of two or more views of the same samples, row by row: (n, d), or (n, t, d) for local
                features. Branches may differ in width where ``sim_coeff`` is 0.
            n_large: With more than two views: pairs among the views after the first ``n_large`` (the small crops) have
                no part in the invariance term. ``None``: every pair has.

        Returns:
            A scalar, with its graph.

        Raises:
            TypeError: A view is no floating tensor, or types differ.
            ValueError: There are fewer than two views or rows, or shapes or devices differ; on any process, where there
                are several, or between them.
        """
        return self._evaluate(views, n_large).total

    def terms(self, *views: Tensor, n_large: int | None = None) -> dict[str, Tensor]:
        """The loss and its terms by name, from one computation.

        Args:
            *views: As in ``forward``.
            n_large: As in ``forward``.

        Returns:
            ``invariance``, ``variance_a``, ``variance_b``, ``covariance_a``, ``covariance_b``: the convention's terms,
            unweighted and detached (with more views also ``_c`` and on); and ``total``, the loss with its graph. Where
            the branches differ in width there is no ``invariance``.

        Example:
            >>> import torch
            >>> z = torch.tensor([[1.0, 2.0], [-1.0, -2.0]])
            >>> {name: value.item() for name, value in VICRegLoss().terms(z, z).items()}
            {'invariance': 0.0, 'variance_a': 0.0, 'variance_b': 0.0, 'covariance_a': 16.0, 'covariance_b': 16.0,
            'total': 32.0}
        """
        evaluated = self._evaluate(views, n_large)
        named = {} if evaluated.invariance is None else {"invariance": evaluated.invariance}
        named |= {f"variance_{suffix(i)}": value for i, value in enumerate(evaluated.variance)}
        named |= {f"covariance_{suffix(i)}": value for i, value in enumerate(evaluated.covariance)}
        return named | {"total": evaluated.total}

    def _evaluate(self, views: tuple[Tensor, ...], n_large: int | None) -> Evaluated:
        def share() -> tuple[Formula, Share]:
            return checked(self._formula(len(views), n_large), views)

        formula, batch = common_batch(self.process_group, share, equal_rows=self.equal_rows)
        return evaluate(formula, views, batch=batch, lift=batch.lift(self.gradient_reduction))

    def _formula(self, count: int, n_large: int | None) -> Formula:
        if count < 2:
            raise ValueError(message("VICRegLoss", "be called on two or more views", count))
        per, half = CONVENTIONS[self.convention]
        scale = 2 / count
        return Formula(
            invariance=self.sim_coeff,
            variance=tuple(half * scale * w for w in per_view("std_coeff", self.std_coeff, count)),
            covariance=tuple(scale * w for w in per_view("cov_coeff", self.cov_coeff, count)),
            target=self.variance_target,
            eps=self.eps,
            per=per,
            form=self.variance_form,
            estimator=self.covariance_estimator,
            precision=self.matmul_precision,
            n_large=n_large,
        )

    def extra_repr(self) -> str:
        """The coefficients, the target, the convention, and what differs from the defaults."""
        always = {"sim_coeff", "std_coeff", "cov_coeff", "variance_target", "convention"}
        settings = inspect.signature(VICRegLoss).parameters
        kept = [name for name, p in settings.items() if name in always or getattr(self, name) != p.default]
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in kept)


class Settings(TypedDict, total=False):
    """The settings of ``VICRegLoss``, by name."""

    sim_coeff: float
    std_coeff: float | Sequence[float]
    cov_coeff: float | Sequence[float]
    variance_target: float | Sequence[float]
    eps: float
    convention: Convention
    variance_form: VarianceForm
    covariance_estimator: Estimator
    matmul_precision: Precision
    process_group: ProcessGroup
    gradient_reduction: Reduction
    equal_rows: bool


def vicreg_loss(*views: Tensor, n_large: int | None = None, **settings: Unpack[Settings]) -> Tensor:
    """The VICReg loss as a function.

    Args:
        *views: Embeddings of two or more views, as in ``VICRegLoss.forward``.
        n_large: As in ``VICRegLoss.forward``.
        **settings: Those of ``VICRegLoss``, with its defaults.

    Returns:
        A scalar, with its graph.

    Raises:
        TypeError: A view is no floating tensor, types differ, or there is no such setting.
        ValueError: A setting, a shape, a device or the number of views or rows is wrong.

    Example:
        >>> import torch
        >>> z = torch.tensor([[1.0, 2.0], [-1.0, -2.0]])
        >>> vicreg_loss(z, z + 1.0, convention="paper").item()     # 25 * 2 + 25 * (0 + 0) + 1 * (16 + 16)
        82.0
    """
    return VICRegLoss(**settings)(*views, n_large=n_large)  # type: ignore[no-any-return]  # Module is untyped
