"""Views of table rows: batched, on the table's device, from a generator.

A view replaces *source columns*, never single vectorised features, so that a category's indicators always come from
one row. Which pairs are taken is the method: the default swaps some of a row's cells with those of a near row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor

from vicreg._checks import check_choice, check_integer, check_number, message, require, shown


@dataclass(frozen=True, eq=False)
class Table:
    """A vectorised table on its device, and what views may look at.

    Attributes:
        x: (n, p) vectorised rows, floating.
        sources: (p,) index of the source column that each feature came from.
        neighbors: (n, k) rows near each row, nearest first; None where no view asks for them.
    """

    x: Tensor
    sources: Tensor
    neighbors: Tensor | None = None

    @cached_property
    def n_sources(self) -> int:
        """Number of source columns."""
        return int(self.sources.max()) + 1

    def batch(self, rows: Tensor) -> Batch:
        """The rows with these indices, (b,)."""
        return Batch(self.x[rows], rows, self)


@dataclass(frozen=True, eq=False)
class Batch:
    """Some rows of a table: ``x`` (b, p), their indices ``rows`` (b,), and the table itself."""

    x: Tensor
    rows: Tensor
    table: Table


class TableView(ABC):
    """From a batch of rows to one view of each, (b, p)."""

    n_neighbors: int = 0
    """How many neighbours of each row the view draws from."""

    @abstractmethod
    def __call__(self, batch: Batch, generator: Generator) -> Tensor:
        """One view of each row, (b, p)."""


def swap(batch: Batch, other: Tensor, rate: float, generator: Generator) -> Tensor:
    """Each row with about ``rate`` of its source columns taken from the row beside it in ``other``, (b, p)."""
    table = batch.table
    chosen = torch.rand(len(other), table.n_sources, generator=generator, device=other.device) < rate
    return torch.where(chosen[:, table.sources], other, batch.x)


def step_to_neighbor(rows: Tensor, table: Table, k: int, generator: Generator) -> Tensor:
    """For each row index one of its ``k`` nearest rows, each as probable as the others, (b,)."""
    if table.neighbors is None:
        raise ValueError(message("table", "carry neighbors for this view", None, "Pass neighbors to Table."))
    pick = torch.randint(min(k, table.neighbors.shape[1]), rows.shape, generator=generator, device=rows.device)
    return table.neighbors[rows, pick]


@dataclass(frozen=True)
class Neighbors(TableView):
    """Take each cell, with probability ``rate``, from one of the row's ``n_neighbors`` nearest distinct rows.

    Attributes:
        rate: Probability that a source column is taken, in [0, 1].
        n_neighbors: How many neighbours to draw from.

    Example:
        >>> table = Table(torch.tensor([[1.0], [2.0], [9.0]]), torch.tensor([0]), torch.tensor([[1], [0], [1]]))
        >>> Neighbors(rate=1.0)(table.batch(torch.arange(3)), Generator()).flatten().tolist()
        [2.0, 1.0, 2.0]
    """

    rate: float = 0.5
    n_neighbors: int = 10

    def __post_init__(self) -> None:
        check_number("view_rate", self.rate, 0, 1)
        check_integer("n_neighbors", self.n_neighbors, 1)

    def __call__(self, batch: Batch, generator: Generator) -> Tensor:
        """One view of each row, (b, p)."""
        near = step_to_neighbor(batch.rows, batch.table, self.n_neighbors, generator)
        return swap(batch, batch.table.x[near], self.rate, generator)


@dataclass(frozen=True)
class Walk(TableView):
    """The row that a random walk of ``length`` steps on the neighbour graph ends at.

    The tightest clusters, and the least fine detail (after SAG-VICReg, arXiv:2506.18104).

    Attributes:
        length: Steps of the walk, at least 1.
        n_neighbors: Out-degree of the graph.

    Example:
        >>> table = Table(torch.tensor([[1.0], [2.0], [9.0]]), torch.tensor([0]), torch.tensor([[1], [0], [1]]))
        >>> Walk(length=2)(table.batch(torch.arange(3)), Generator()).flatten().tolist()
        [1.0, 2.0, 1.0]
    """

    length: int = 1
    n_neighbors: int = 10

    def __post_init__(self) -> None:
        check_integer("length", self.length, 1)
        check_integer("n_neighbors", self.n_neighbors, 1)

    def __call__(self, batch: Batch, generator: Generator) -> Tensor:
        """One view of each row, (b, p)."""
        rows = batch.rows
        for _ in range(self.length):
            rows = step_to_neighbor(rows, batch.table, self.n_neighbors, generator)
        return batch.table.x[rows]


@dataclass(frozen=True)
class Marginal(TableView):
    """Take each cell, with probability ``rate``, from a row drawn at random (SCARF, arXiv:2106.15147).

    Every cell comes from a row of its own, so columns are drawn from their marginals. Needs no neighbours, hence
    suits streams.

    Attributes:
        rate: Probability that a source column is taken, in [0, 1].

    Example:
        >>> table = Table(torch.tensor([[1.0], [2.0], [9.0]]), torch.tensor([0]))
        >>> view = Marginal(rate=1.0)(table.batch(torch.arange(3)), Generator())
        >>> set(view.flatten().tolist()) <= {1.0, 2.0, 9.0}
        True
    """

    rate: float = 0.3

    def __post_init__(self) -> None:
        check_number("view_rate", self.rate, 0, 1)

    def __call__(self, batch: Batch, generator: Generator) -> Tensor:
        """One view of each row, (b, p)."""
        table = batch.table
        shape = (len(batch.x), table.n_sources)
        rows = torch.randint(len(table.x), shape, generator=generator, device=batch.x.device)
        features = torch.arange(table.x.shape[1], device=batch.x.device)
        return swap(batch, table.x[rows[:, table.sources], features], self.rate, generator)


@dataclass(frozen=True)
class Mask(TableView):
    """Set each source column, with probability ``rate``, to its mean (0 in a standardised table).

    Attributes:
        rate: Probability that a source column is hidden, in [0, 1].

    Example:
        >>> table = Table(torch.tensor([[1.0], [2.0], [9.0]]), torch.tensor([0]))
        >>> Mask(rate=1.0)(table.batch(torch.arange(3)), Generator()).flatten().tolist()
        [0.0, 0.0, 0.0]
    """

    rate: float = 0.3

    def __post_init__(self) -> None:
        check_number("view_rate", self.rate, 0, 1)

    def __call__(self, batch: Batch, generator: Generator) -> Tensor:
        """One view of each row, (b, p)."""
        return swap(batch, torch.zeros_like(batch.x), self.rate, generator)


@dataclass(frozen=True)
class Noise(TableView):
    """Add Gaussian noise to every feature.

    Attributes:
        std: Standard deviation of the noise, in units of a standardised column's.

    Example:
        >>> table = Table(torch.tensor([[1.0], [2.0], [9.0]]), torch.tensor([0]))
        >>> view = Noise(std=0.1)(table.batch(torch.arange(3)), Generator().manual_seed(0))
        >>> bool((view - table.x).abs().max() < 0.5)
        True
    """

    std: float = 0.3

    def __post_init__(self) -> None:
        check_number("view_rate", self.std, 0)

    def __call__(self, batch: Batch, generator: Generator) -> Tensor:
        """One view of each row, (b, p)."""
        x = batch.x
        return x + self.std * torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)


@dataclass(frozen=True)
class Identity(TableView):
    """The row itself: the second view of a walk, and the earliest table form of VICReg."""

    def __call__(self, batch: Batch, generator: Generator) -> Tensor:
        """The rows, (b, p)."""
        return batch.x


@dataclass(frozen=True)
class Custom(TableView):
    """A user's own view: any function of a batch and a generator to (b, p)."""

    function: Callable[[Batch, Generator], Tensor]
    n_neighbors: int = 0

    def __call__(self, batch: Batch, generator: Generator) -> Tensor:
        """What the function gives, checked to be one view of each row."""
        view = self.function(batch, generator)
        shape = tuple(view.shape) if isinstance(view, Tensor) else type(view).__name__
        if shape != tuple(batch.x.shape):
            raise ValueError(
                message(
                    "a view",
                    f"return a tensor of shape {tuple(batch.x.shape)}",
                    shape,
                    "Return one row each.",
                )
            )
        return view


Pair = tuple[TableView, TableView]
Function = Callable[[Batch, Generator], Tensor]
ViewsLike = str | Function | Sequence[str | Function]

VIEWS: dict[str, Callable[..., TableView]] = {
    "neighbors": Neighbors,
    "walk": Walk,
    "marginal": Marginal,
    "mask": Mask,
    "noise": Noise,
    "identity": Identity,
}
"""From a name to a view; all but ``identity`` take a strength."""


def table_views(views: ViewsLike, rate: float | None = None) -> Pair:
    """Two views of a row from a name or callable (taken twice), or a pair of these.

    A walk by name alone is one view, the row itself the other.

    Args:
        views: A name in ``VIEWS``, a :class:`TableView`, any function of ``(batch, generator)``, or a pair of these.
        rate: Strength of views given by one name: the share of columns replaced, the noise's deviation, the walk's
            length. None is the view's own default.

    Raises:
        ValueError: An unknown name, more or fewer than two views, or a rate where it has no meaning.
        TypeError: Neither a name nor callable.

    Example:
        >>> table_views("walk")
        (Identity(), Walk(length=1, n_neighbors=10))
        >>> table_views("marginal", 0.5)
        (Marginal(rate=0.5), Marginal(rate=0.5))
        >>> table_views(("identity", "noise"))
        (Identity(), Noise(std=0.3))
    """
    if isinstance(views, str):
        view = _named(views, rate)
        return (Identity() if isinstance(view, Walk) else view), view
    fix = "Give views their strength, as in views=(Marginal(0.2), Marginal(0.4))."
    require(rate is None, "view_rate", "be left out unless views is one name", shown(rate), fix)
    several = views if isinstance(views, tuple | list) else (views, views)
    require(len(several) == 2, "views", "be one view or a pair", f"{len(several)} of them")
    for one in several:
        require(isinstance(one, str) or callable(one), "views", "be a name or callable", shown(one), error=TypeError)
    a, b = (_named(one) if isinstance(one, str) else _as_view(one) for one in several)
    return a, b


def _named(name: str, rate: float | None = None) -> TableView:
    view = VIEWS[check_choice("views", name, VIEWS)]
    if rate is None:
        return view()
    require(view is not Identity, "view_rate", "be left out for views='identity'", shown(rate))
    if view is Walk:
        length = check_number("view_rate", rate, 1)
        require(length.is_integer(), "view_rate", "be a whole number of steps for views='walk'", length)
        return Walk(int(length))
    return view(rate)


def _as_view(function: Function) -> TableView:
    return function if isinstance(function, TableView) else Custom(function)
