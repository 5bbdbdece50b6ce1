"""Label-free readings of an embedding: how its columns spread, correlate and fill the space.

Every reading takes embeddings (n, d), n rows of d columns, on any device, centres them, and is right whether there
are more rows or more columns. Readings are to be looked at: they have no graph. They stay on the device, and nothing
waits for it until somebody asks for the number; but a decomposition on a GPU (``singular_values`` and what is made of
them, ``lidar``) waits by itself.

The covariance term of independent columns is not 0 on a finite sample. ``noise_floor`` is its expectation, and
``excess_covariance`` what is left of the term above it: the number to show to people.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vicreg._checks import check_integer, check_number, require
from vicreg.functional.fused import Formula, evaluate
from vicreg.functional.terms import check_embedding, widened

# Rows of the correlation matrix that are there at once.
BLOCK = 1024


def standard_deviation(z: Tensor) -> Tensor:
    """Standard deviation of each column, (d,), with n - 1 in the denominator.

    Args:
        z: Embeddings, (n, d), n at least 2.

    Raises:
        TypeError: ``z`` is no floating tensor.
        ValueError: The shape of ``z`` is wrong.

    Example:
        >>> standard_deviation(torch.tensor([[0.0, 5.0], [2.0, 5.0], [4.0, 5.0]])).tolist()
        [2.0, 0.0]
    """
    centred = _centred(z)
    return (centred.square().sum(dim=0) / (len(z) - 1)).sqrt()


def dead_dimensions(z: Tensor, threshold: float = 1e-2) -> Tensor:
    """Number of columns whose standard deviation is at most ``threshold``, as a 0-dimensional integer tensor.

    Args:
        z: Embeddings, (n, d), n at least 2.
        threshold: At least 0. The default is the square root of the variance term's eps: below it the gradient of that
            term fades, and a column no longer comes back by itself.

    Raises:
        TypeError: ``z`` is no floating tensor, or ``threshold`` no number.
        ValueError: The shape of ``z`` or ``threshold`` is wrong.

    Example:
        >>> dead_dimensions(torch.tensor([[0.0, 5.0], [2.0, 5.0], [4.0, 5.0]])).item()
        1
    """
    return (standard_deviation(z) <= check_number("threshold", threshold, 0)).sum()


def singular_values(z: Tensor) -> Tensor:
    """Singular values of the centred embedding, descending, (min(n, d),).

    Args:
        z: Embeddings, (n, d), n at least 2.

    Raises:
        TypeError: ``z`` is no floating tensor.
        ValueError: The shape of ``z`` is wrong.

    Example:
        >>> singular_values(torch.tensor([[1.0, 7.0], [-1.0, 7.0]])).tolist()
        [1.414213..., 0.0]
    """
    values: Tensor = torch.linalg.svdvals(_centred(z))
    return values


def covariance_spectrum(z: Tensor) -> Tensor:
    """Eigenvalues of the covariance matrix, descending; the first min(n, d), all others being 0.

    Args:
        z: Embeddings, (n, d), n at least 2.

    Raises:
        TypeError: ``z`` is no floating tensor.
        ValueError: The shape of ``z`` is wrong.

    Example:
        >>> covariance_spectrum(torch.tensor([[1.0, 7.0], [-1.0, 7.0]])).round(decimals=4).tolist()
        [2.0, 0.0]
    """
    return singular_values(z).square() / (len(z) - 1)


def rankme(z: Tensor) -> Tensor:
    """Effective rank: the exponential of the entropy of the normalised singular values (RankMe).

    It is the effective rank of Roy and Vetterli (EUSIPCO 2007), of the *centred* embedding: an offset that all rows
    share is one large singular value, which says nothing about the samples, yet would pull the rank of a healthy
    embedding towards 1. It grows with the number of rows, so compare ranks of equally many.

    Source: Garrido, Balestriero, Najman, LeCun, "RankMe: Assessing the downstream performance of pretrained
    self-supervised representations by their rank", ICML 2023, arXiv:2210.02885, equation 1 (there without centring,
    and with 1e-7 added to every share).

    Args:
        z: Embeddings, (n, d), n at least 2.

    Returns:
        A scalar between 1 and min(n - 1, d); 0 where all rows are equal.

    Raises:
        TypeError: ``z`` is no floating tensor.
        ValueError: The shape of ``z`` is wrong.

    Example:
        >>> corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> round(rankme(corners).item(), 4), round(rankme(corners * torch.tensor([1.0, 0.0])).item(), 4)
        (2.0, 1.0)
    """
    return _entropy_rank(singular_values(z))


def alpha_req(z: Tensor, first: int = 4, last: int = 100) -> Tensor:
    """Decay of the covariance spectrum: the alpha of eigenvalue j being proportional to j^-alpha (alpha-ReQ).

    A least-squares line through the logarithms of the eigenvalues ``first`` to ``last`` over the logarithms of their
    numbers, each weighed with 1 / j, so that every octave counts alike. Embeddings of good encoders are said to lie
    near 1; far above it few directions carry everything, near 0 all carry the same, be it signal or noise.

    Source: Agrawal, Mondal, Ghosh, Richards, "alpha-ReQ: Assessing representation quality in self-supervised learning
    by measuring eigenspectrum decay", NeurIPS 2022. The weights and the range are those of its published code, after
    Stringer et al., Nature 2019; the paper names no range.

    Args:
        z: Embeddings, (n, d), n at least 2; rows should be many times ``last``, or the tail is that of the sample.
        first: Number of the first eigenvalue of the fit, from 1; 1 where there are fewer than ``first + 2``.
        last: Number of the last one, above ``first``. Eigenvalues that are 0 up to rounding are left out.

    Returns:
        A scalar; NaN where fewer than two eigenvalues are left.

    Raises:
        TypeError: ``z`` is no floating tensor.
        ValueError: The shape of ``z`` is wrong, or the range is empty.

    Example:
        >>> corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> round(alpha_req(corners * torch.tensor([2.0, 1.0])).item(), 4)  # eigenvalues 4 and 1
        2.0
    """
    check_integer("last", last, check_integer("first", first, 1) + 1)
    values = singular_values(z)
    # A matrix has singular values of this size by rounding alone (as in numpy.linalg.matrix_rank).
    alive = values > values[0] * max(z.shape) * torch.finfo(values.dtype).eps
    number = torch.arange(1, len(values) + 1, device=z.device, dtype=values.dtype)
    start = torch.where(alive.sum() >= first + 2, first, 1)
    fitted = alive & (number >= start) & (number <= last)
    weight = torch.where(fitted, 1 / number, 0)
    x, y = number.log(), 2 * torch.where(fitted, values, 1).log()
    x, y = x - (weight * x).sum() / weight.sum(), y - (weight * y).sum() / weight.sum()
    slope = (weight * x * y).sum() / (weight * x * x).sum()
    return torch.where(fitted.sum() > 1, -slope, torch.nan)


def lidar(*views: Tensor, delta: float = 1e-4) -> Tensor:
    """Effective rank of what tells samples apart, measured by how far their views scatter (LiDAR).

    Each sample is a class of its own and its views are the class's members: row i of every view must be of the same
    sample, so the grouping is in the call. The exponential of the entropy of the normalised eigenvalues of
    S_w^-1/2 S_b S_w^-1/2, with S_b the covariance of the samples' mean embeddings and S_w that of the views around
    these means, plus ``delta`` on its diagonal. A direction in which views differ as much as samples do counts little,
    however large it is: that is what RankMe does not see.

    Source: Thilak, Huang, Saremi, Dinh, Goh, Nakkiran, Susskind, Littwin, "LiDAR: Sensing linear probing performance
    in joint embedding SSL architectures", ICLR 2024, arXiv:2312.04000; there 1000 to 5000 samples of 10 to 50 views.
    With two views S_w is rough and the reading with it: compare readings of equally many samples and views.

    Args:
        views: Embeddings (n, d) of two or more views of the same n samples, n at least 2; on the scale that VICReg
            gives them, about 1, since ``delta`` has that scale.
        delta: Above 0: variance below which a direction of S_w does not count as smaller.

    Returns:
        A scalar between 1 and min(n - 1, d); 0 where all samples are equal.

    Raises:
        TypeError: A view is no floating tensor, or ``delta`` no number.
        ValueError: Fewer than two views, shapes that differ, or ``delta`` is not above 0.

    Example:
        >>> corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> round(lidar(corners + 0.1, corners - 0.1).item(), 2)  # views differ along (1, 1): (1, -1) outweighs it
        1.02
    """
    delta = check_number("delta", delta, 0, open_low=True)
    require(len(views) > 1, "views", "be at least two", len(views), "One view alone does not scatter.")
    stacked = torch.stack(_same_shape(views))
    means = stacked.mean(dim=0)
    q, n, d = stacked.shape
    within, between = (stacked - means).reshape(-1, d), means - means.mean(dim=0)
    if d > (q + 1) * n:  # all of them lie in a space of fewer dimensions: turned into it, nothing changes
        basis = torch.linalg.qr(torch.cat((within, between)).mT).Q
        within, between = within @ basis, between @ basis
    scatter, axes = torch.linalg.eigh(within.mT @ within / (n * (q - 1)))
    whitened = between @ axes / (scatter.clamp_min(0) + delta).sqrt()
    return _entropy_rank(torch.linalg.svdvals(whitened).square())


def participation_ratio(z: Tensor) -> Tensor:
    """Effective dimension (sum of eigenvalues)^2 / sum of squared eigenvalues of the covariance matrix.

    It weighs large directions more than ``rankme`` and needs no decomposition.

    Args:
        z: Embeddings, (n, d), n at least 2.

    Returns:
        A scalar between 1 and min(n - 1, d); 0 where all rows are equal.

    Raises:
        TypeError: ``z`` is no floating tensor.
        ValueError: The shape of ``z`` is wrong.

    Example:
        >>> corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> participation_ratio(corners).item()
        2.0
    """
    x = _centred(z)
    scale = x.abs().amax()
    x = x / torch.where(scale > 0, scale, 1)  # the ratio has no scale, fourth powers do
    moments = x.mT @ x if x.shape[1] <= x.shape[0] else x @ x.mT
    squares = moments.square().sum()
    return torch.where(squares > 0, moments.trace().square() / torch.where(squares > 0, squares, 1), squares)


def off_diagonal(z: Tensor) -> Tensor:
    """The covariance term c(Z) = (1/d) sum_{i != j} C_ij^2, from the smaller of the two Gram matrices.

    Args:
        z: Embeddings, (n, d), n at least 2.

    Raises:
        TypeError: ``z`` is no floating tensor.
        ValueError: The shape of ``z`` is wrong.

    Example:
        >>> off_diagonal(torch.tensor([[1.0, 2.0], [-1.0, -2.0]])).item()
        16.0
    """
    return evaluate(Formula(covariance=(0.0,)), [_embedding(z)], ["z"]).covariance[0]


def noise_floor(variances: Tensor, n: int) -> Tensor:
    """Expectation of the covariance term on ``n`` rows whose columns are independent and have these variances.

    ((sum v)^2 - sum v^2) / (d (n-1)): for unit variances (d-1)/(n-1), which is 32 at n = 256, d = 8192.

    Args:
        variances: Of each column, (d,).
        n: Rows, at least 2.

    Raises:
        ValueError: ``n`` is too small, or ``variances`` is no vector.

    Example:
        >>> round(noise_floor(torch.ones(8192), 256).item(), 1)
        32.1
    """
    n = check_integer("n", n, 2)
    require(variances.ndim == 1 and len(variances) > 0, "variances", "have shape (d,)", tuple(variances.shape))
    variances = widened(variances)
    return (variances.sum().square() - variances.square().sum()) / (len(variances) * (n - 1))


def excess_covariance(z: Tensor) -> Tensor:
    """The covariance term less its noise floor: about 0 where columns are independent, and so also below 0.

    Args:
        z: Embeddings, (n, d), n at least 2.

    Raises:
        TypeError: ``z`` is no floating tensor.
        ValueError: The shape of ``z`` is wrong.

    Example:
        >>> white = torch.randn(256, 1024, generator=torch.Generator().manual_seed(0))
        >>> round(off_diagonal(white).item(), 1), round(abs(excess_covariance(white).item()), 1)
        (4.0, 0.0)
    """
    return off_diagonal(z) - noise_floor(standard_deviation(z).square(), len(z))


def mean_correlation(z: Tensor) -> Tensor:
    """Mean absolute correlation between different columns, between 0 and 1 (as in figure 5 of the VICReg paper).

    On n rows of independent columns it is about sqrt(2 / (pi n)), not 0. A constant column correlates with none. Rows
    of the correlation matrix are formed in blocks; it is never there as a whole.

    Args:
        z: Embeddings, (n, d), n at least 2.

    Raises:
        TypeError: ``z`` is no floating tensor.
        ValueError: The shape of ``z`` is wrong.

    Example:
        >>> round(mean_correlation(torch.tensor([[1.0, -2.0], [0.0, 0.0], [-1.0, 2.0]])).item(), 4)
        1.0
    """
    x = _centred(z)
    norms: Tensor = torch.linalg.vector_norm(x, dim=0)
    x = x / torch.where(norms > 0, norms, 1)
    d = x.shape[1]
    alive = (norms > 0).sum()  # each has a correlation of 1 with itself
    total = torch.stack([(x[:, i : i + BLOCK].mT @ x).abs().sum() for i in range(0, d, BLOCK)]).sum()
    return (total - alive).clamp_min(0) / max(d * (d - 1), 1)


def _embedding(z: Tensor) -> Tensor:
    """``z`` without graph, checked."""
    check_embedding("z", z, least=2)
    require(z.ndim == 2, "z", "have shape (n, d)", tuple(z.shape), "Flatten locations into rows.")
    return z.detach()


def _same_shape(views: tuple[Tensor, ...]) -> list[Tensor]:
    """Views without graph, in float32 at least, checked."""
    checked = [widened(_embedding(view)) for view in views]
    shapes = [tuple(view.shape) for view in checked]
    require(len(set(shapes)) == 1, "views", "have the same shape", shapes)
    return checked


def _entropy_rank(values: Tensor) -> Tensor:
    """The exponential of the entropy of non-negative values' shares; 0 where all are 0."""
    total = values.sum()
    return torch.where(total > 0, torch.special.entr(values / total).sum().exp(), total)


def _centred(z: Tensor) -> Tensor:
    """Less the mean over the rows, twice, in float32 at least (see ``vicreg.functional.fused``)."""
    x = widened(_embedding(z))
    x = x - x.mean(dim=0)
    return x - x.mean(dim=0)
