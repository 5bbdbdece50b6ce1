"""One moment of an embedding or representation: its spectrum, covariance, deviations and histograms."""

from __future__ import annotations

import torch
from torch import Tensor

from vicreg.functional import noise_floor
from vicreg.functional.terms import widened

MOST_ROWS = 2048
"""Rows that a snapshot is of, evenly taken from a larger batch."""
MOST_PRODUCTS = 2**32
"""Fewer rows where they are so wide that their products would take longer than this many multiplications."""
SHOWN = 128
"""Dimensions of the covariance matrix."""
DRAWN, BINS = 64, 40
"""Dimensions that have a histogram, and its bars."""
TAIL = 1e-3
"""Share of the values at either end that fall into the outermost bars, however far away they are."""
RANKED = 128
"""Rows that a rank is of while a run goes on, where there are more columns."""


def snapshot(z: Tensor) -> dict[str, Tensor]:
    """What is to be seen of an embedding at one moment.

    Args:
        z: (n, d), or (n, t, d) local features whose locations count as rows; n at least 2. Of more than 2048 rows
            2048 are taken, evenly; fewer where they are very wide.

    Returns:
        On the CPU: ``eigenvalues`` (d,) of the covariance with n - 1 in the denominator, descending, 0 beyond the rank;
        ``covariance`` (m, m) of the first m = min(d, 128) dimensions; ``deviation`` (d,); ``histograms`` (min(d, 64),
        40) counts of the first dimensions' values between ``edges`` (41,), what lies further out being in the
        outermost. Nothing, where an entry is NaN or infinite.

    Example:
        >>> found = snapshot(torch.tensor([[1.0, 7.0], [-1.0, 7.0]]))
        >>> found["eigenvalues"].tolist(), found["histograms"].sum(1).tolist()
        ([2.0, 0.0], [2, 2])
    """
    rows = z.detach().flatten(0, -2)
    most = max(2, min(MOST_ROWS, int((MOST_PRODUCTS / rows.shape[1]) ** 0.5)))
    x = widened(rows[:: -(-len(rows) // most)])
    if len(x) < 2 or not bool(torch.isfinite(x).all()):
        return {}
    x = x - x.mean(0)
    x = x - x.mean(0)
    n, d = x.shape
    covariance = x[:, :SHOWN].T @ x[:, :SHOWN] / (n - 1)
    found = {
        "eigenvalues": torch.nn.functional.pad(_eigenvalues(x) / (n - 1), (0, d - min(n, d))),
        "covariance": covariance,
        "deviation": (x.square().sum(0) / (n - 1)).sqrt(),
        **_histograms(widened(rows[:: -(-len(rows) // most), :DRAWN])),
    }
    return {name: value.float().cpu() if value.is_floating_point() else value.cpu() for name, value in found.items()}


def quick_readings(z: Tensor) -> Tensor:
    """Readings of an embedding, cheap enough to be asked for while a run goes on; (4,) on its device.

    Args:
        z: (n, d), or (n, t, d) local features whose locations count as rows; n at least 2.

    Returns:
        The mean standard deviation of the dimensions; RankMe (:func:`vicreg.functional.rankme`), where both rows and
        columns are more than 128 of 128 rows, evenly taken, because its cost grows with the cube of the lesser of the
        two; the covariance term in the plug-in form, and its noise floor. NaN where an entry is NaN or infinite.

    Example:
        >>> corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> [round(value, 3) for value in quick_readings(corners).tolist()]
        [1.155, 2.0, 0.0, 0.593]
    """
    x = widened(z.detach().flatten(0, -2))
    if not bool(torch.isfinite(x).all()):
        return x.new_full((4,), torch.nan)
    x = x - x.mean(0)
    x = x - x.mean(0)
    n, d = x.shape
    variances = x.square().sum(0) / (n - 1)
    whole = _product(x).square().sum() / (n - 1) ** 2
    covariance = (whole - variances.square().sum()).clamp_min(0) / d
    return torch.stack((variances.sqrt().mean(), _rank(x), covariance, noise_floor(variances, n)))


def _rank(x: Tensor) -> Tensor:
    some = x[:: -(-len(x) // RANKED)] if min(x.shape) > RANKED else x
    lengths = _eigenvalues(some - some.mean(0)).sqrt()
    total = lengths.sum()
    return torch.where(total > 0, torch.special.entr(lengths / total.clamp_min(1e-30)).sum().exp(), total)


def _eigenvalues(x: Tensor) -> Tensor:
    """Those of the scatter of centred rows, descending, (min(n, d),)."""
    values: Tensor = torch.linalg.eigvalsh(_product(x)).flip(0).clamp_min(0)
    return values


def _product(x: Tensor) -> Tensor:
    """The smaller of the two products with itself."""
    return x @ x.T if len(x) < x.shape[1] else x.T @ x


def _histograms(x: Tensor) -> dict[str, Tensor]:
    """Counts (d, BINS) between common edges (BINS + 1,)."""
    ordered = x.flatten().sort().values
    low, high = (ordered[round(share * (len(ordered) - 1))] for share in (TAIL, 1 - TAIL))
    room = torch.where(high > low, 0, 0.5 * low.abs().clamp_min(1e-6))
    edges = torch.linspace(0, 1, BINS + 1, device=x.device, dtype=x.dtype) * (high - low + 2 * room) + low - room
    bins = torch.bucketize(x.T.contiguous(), edges[1:-1].contiguous())
    counts = torch.zeros(len(bins), BINS, dtype=torch.int64, device=x.device)
    return {"edges": edges, "histograms": counts.scatter_add_(1, bins, torch.ones_like(bins))}
