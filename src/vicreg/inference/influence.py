"""Which columns of a table drive its representation: by the encoder's derivative, and by what a shuffle does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vicreg.data import TableSpec

MOST_ROWS, FEWEST_ROWS = 512, 32
"""Rows that influence is averaged over: its order settles on few."""
MOST_WORK = 2**24
"""Cells that all shuffles together may look at, and all derivatives; where columns are many, rows are fewer."""


@dataclass(frozen=True, eq=False)
class Influence:
    """How much each source column of a table has to do with its representation, in shares that add up to 1.

    All are of the rows that :func:`spread_rows` takes, and where nothing has any influence they are 0. A column that
    was left out as constant has none.

    Attributes:
        columns: (c,) names of the source columns.
        permutation: (c,) how far the representation of a row moves, squared and averaged, when in this column alone it
            takes another row's value. A column's value is all of its features: a category moves as a whole.
        jacobian: (c,) the encoder's derivative at the rows, as a root mean square over rows and summed squares over
            components, times the deviation of the feature, added up over the features of the column. It sees small
            changes where a permutation sees exchanges; columns that say the same share the influence in both.
        components: (c, k) the same for each component of the representation alone.
        displacement: (c,) what ``permutation`` is the shares of, relative to the representation's total variance: 2 for
            the only column of a linear encoder, and 0 for one that it does not look at.
    """

    columns: tuple[str, ...]
    permutation: NDArray[np.float64]
    jacobian: NDArray[np.float64]
    components: NDArray[np.float64]
    displacement: NDArray[np.float64]

    def order(self) -> NDArray[np.int64]:
        """The columns by falling influence, permutation's first."""
        return np.lexsort((-self.jacobian, -self.permutation))


def spread_rows(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """At most 512 of the rows, evenly spread, in a copy: those that influence is measured on.

    Example:
        >>> spread_rows(np.arange(2000, dtype=np.float32)[:, None]).shape
        (500, 1)
    """
    return np.array(x[:: -(-len(x) // MOST_ROWS)])


def column_influence(encoder: nn.Module, spec: TableSpec, x: NDArray[np.float32], seed: int = 0) -> Influence:
    """How much each source column has to do with the representation.

    Args:
        encoder: From vectorised rows (n, p) to representations (n, k), each row by itself, in evaluation mode.
        spec: What vectorised them.
        x: (n, p) vectorised rows; of more than 512, :func:`spread_rows`.
        seed: Of the shuffle.

    Raises:
        RuntimeError: The encoder has no derivative.

    Example:
        >>> from vicreg.data import as_frame, fit_spec
        >>> rows = np.random.default_rng(0).normal(size=(500, 2))
        >>> spec = fit_spec(as_frame(rows))
        >>> linear = nn.Linear(2, 1, bias=False)
        >>> _ = linear.weight.data.copy_(torch.tensor([[2.0, 1.0]]))
        >>> found = column_influence(linear, spec, spec.apply(as_frame(rows)))
        >>> found.permutation.round(1).tolist(), found.jacobian.round(2).tolist()
        ([0.8, 0.2], [0.67, 0.33])
    """
    device = next((one.device for one in encoder.parameters()), torch.device("cpu"))
    rows = torch.from_numpy(spread_rows(x)).to(device)
    sources = torch.from_numpy(spec.sources)
    displaced = _displacement(encoder, rows, sources.to(device), len(spec.columns), seed)
    slopes = _slopes(encoder, rows)
    whole = _by_column(slopes.square().sum(0, keepdim=True).sqrt(), sources, len(spec.columns))[0]
    each = _by_column(slopes, sources, len(spec.columns))
    return Influence(spec.names, _shares(displaced), _shares(whole), np.stack([*map(_shares, each)], 1), displaced)


def _displacement(encoder: nn.Module, x: Tensor, sources: Tensor, columns: int, seed: int) -> NDArray[np.float64]:
    """For each source column the mean squared way that a representation goes, over the total variance."""
    found = np.zeros(columns)
    there = torch.unique(sources).tolist()
    x = _fewer(x, len(there))
    if len(x) < 2:
        return found
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed)).to(x.device)
    other = torch.empty_like(order)
    other[order] = order.roll(1)  # one round through all rows: none keeps its own value
    with torch.no_grad():
        h = encoder(x).double()
        moved = x.clone()
        for column in there:
            features = sources == column
            moved[:, features] = x[other][:, features]
            found[column] = float((encoder(moved).double() - h).square().sum(1).mean())
            moved[:, features] = x[:, features]
    variance = float((h - h.mean(0)).square().sum(1).mean())
    return found / variance if variance > 0 else found


def _slopes(encoder: nn.Module, x: Tensor) -> Tensor:
    """Root mean square over rows of the derivative of each component by each feature, times its deviation; (k, p)."""
    deviation = x.double().std(0, correction=0)
    with torch.enable_grad():
        width = int(encoder(x[:1]).shape[1])
        some = _fewer(x, width).detach().clone().requires_grad_()
        h = encoder(some)  # rows do not know of each other: the gradient of a sum is each row's own
        found = [torch.autograd.grad(h[:, k].sum(), some, retain_graph=k + 1 < width)[0] for k in range(width)]
    return torch.stack([one.double().square().mean(0).sqrt() * deviation for one in found]).cpu()


def _fewer(x: Tensor, times: int) -> Tensor:
    """So few rows, evenly taken, that they can be looked at so many times."""
    most = max(FEWEST_ROWS, MOST_WORK // max(1, times * x.shape[1]))
    return x[:: max(1, -(-len(x) // most))]


def _by_column(slopes: Tensor, sources: Tensor, columns: int) -> NDArray[np.float64]:
    """Features' values added up over the columns that they come from, (k, c)."""
    found: NDArray[np.float64] = (
        torch.zeros(len(slopes), columns, dtype=slopes.dtype).index_add_(1, sources, slopes).numpy()
    )
    return found


def _shares(values: NDArray[np.float64]) -> NDArray[np.float64]:
    whole = values.sum()
    shares: NDArray[np.float64] = values / (whole if whole > 0 else 1.0)
    return shares
