"""The VICReg loss as it is published, under plain autograd, written out from its formulas; and the bare products.

All have the conventions of facebookresearch/vicreg at 4e12602: the mean squared error, half the sum of the variance
terms, the sum of the covariance terms, weights 25, 25 and 1. They differ in how they leave out the diagonal of the
d x d covariance matrix:

- ``official``: a strided view without the diagonal, as in facebookresearch/vicreg;
- ``mask``: a boolean mask, as in solo-learn, lightly and pytorch-metric-learning;
- ``einsum``: the product as an einsum, and the squares of the diagonal subtracted from those of the whole.

The classes of lightly and pytorch-metric-learning join them where they are installed.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import mse_loss, relu

from vicreg import VICRegLoss

try:
    from lightly.loss import VICRegLoss as Lightly
except (ImportError, RuntimeError):  # the latter where torchvision is one for another PyTorch
    Lightly = None
try:
    from pytorch_metric_learning.losses import VICRegLoss as MetricLearning
except ImportError:
    MetricLearning = None

Loss = Callable[[Tensor, Tensor], Tensor]

AGREEMENT = 1e-11
SMALL = [(6, 4), (4, 6), (5, 5), (64, 48), (48, 64)]


def without_diagonal(square: Tensor) -> Tensor:
    """All entries but the diagonal's: with the last one dropped, rows of d + 1 begin with one of the diagonal each."""
    d = len(square)
    return square.flatten()[:-1].view(d - 1, d + 1)[:, 1:].flatten()


def official_term(x: Tensor) -> Tensor:
    moments = (x.T @ x) / (len(x) - 1)
    return without_diagonal(moments).pow_(2).sum() / x.shape[1]


def mask_term(x: Tensor) -> Tensor:
    moments = (x.T @ x) / (len(x) - 1)
    off_diagonal = ~torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
    return moments[off_diagonal].pow(2).sum() / x.shape[1]


def einsum_term(x: Tensor) -> Tensor:
    moments = torch.einsum("ni,nj->ij", x, x) / (len(x) - 1)
    return (moments.square().sum() - moments.diagonal().square().sum()) / x.shape[1]


def published(covariance_term: Callable[[Tensor], Tensor]) -> Loss:
    """The loss with this covariance term of a centred embedding."""

    def loss(x: Tensor, y: Tensor) -> Tensor:
        invariance = mse_loss(x, y)
        x, y = x - x.mean(dim=0), y - y.mean(dim=0)
        hinges = [relu(1 - torch.sqrt(z.var(dim=0) + 1e-4)).mean() for z in (x, y)]
        return 25 * invariance + 25 * sum(hinges) / 2 + covariance_term(x) + covariance_term(y)

    return loss


def metric_learning() -> Loss:
    loss = MetricLearning()
    return lambda x, y: loss(x, ref_emb=y)


FORMS: dict[str, Loss] = {
    "official": published(official_term),
    "mask": published(mask_term),
    "einsum": published(einsum_term),
}
if Lightly is not None:
    FORMS["lightly"] = Lightly()
if MetricLearning is not None:
    FORMS["metric-learning"] = metric_learning()


def with_gradients(loss: Loss, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The loss and its gradients by both embeddings, which must need them."""
    value = loss(x, y)
    return value.detach(), *torch.autograd.grad(value, (x, y))


def bare_products(x: Tensor, y: Tensor) -> Callable[[], None]:
    """The products that the closed form cannot do without, into memory that is there already.

    For each embedding one into the square matrix of the smaller side and one of that with the embedding. They are
    plain: a first product that makes use of its symmetry may take less.
    """
    n, d = x.shape
    square, gradient = x.new_empty(min(n, d), min(n, d)), torch.empty_like(x)

    def products() -> None:
        for z in (x, y):
            if d <= n:
                torch.mm(z.T, z, out=square)
                torch.mm(z, square, out=gradient)
            else:
                torch.mm(z, z.T, out=square)
                torch.mm(square, z, out=gradient)

    return products


def relative(found: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm of what is expected."""
    return ((found.double() - expected).norm() / expected.norm()).item()


def disagreement(loss: Loss, other: Loss, n: int, d: int) -> float:
    """Largest relative difference of value and gradients on two random embeddings in float64."""
    generator = torch.Generator().manual_seed(n + d)
    x, y = (torch.randn(n, d, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(2))
    pairs = zip(with_gradients(loss, x, y), with_gradients(other, x, y), strict=True)
    return max(relative(one, two) for one, two in pairs)


def check_agreement() -> None:
    """Stop unless every published form is vicreg's loss, in float64 on small embeddings."""
    for name, form in FORMS.items():
        for n, d in SMALL:
            found = disagreement(form, VICRegLoss(), n, d)
            if not found <= AGREEMENT:
                raise SystemExit(f"{name} and vicreg disagree by {found:.1e} at {n} x {d} in float64.")
