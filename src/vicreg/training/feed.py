"""What the loop learns from: the samples of each step, and all that is random about a step.

Everything random is drawn anew from the run's seed and the step's number, so that a run that goes on at some step
draws what it would have drawn, and processes draw the same order of rows and different views.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Generator, Tensor


@dataclass(frozen=True, eq=False)
class Drawn:
    """The samples of a step, or a process's share of them.

    Attributes:
        views: One tensor per view, with the samples in the same order.
        x: The samples before their views were taken, for objectives that ask for them; where views are of different
            samples, those of the views that have any.
        labels: (b,) the samples' classes where they are known, -1 where not: to judge by, never to learn from.
        n_large: How many of the views are large, where the others are small crops.
        cuts: Where each view was cut out of its picture, (b, 5), as ``vicreg.objectives.Outputs`` has it; None where
            views are of no pictures, or of different ones.
    """

    views: Sequence[Tensor]
    x: Tensor | Sequence[Tensor] | None = None
    labels: Tensor | None = None
    n_large: int | None = None
    cuts: Sequence[Tensor] | None = None


class Feed(Protocol):
    """Where the samples of each step come from."""

    def draw(self, step: int) -> Drawn:
        """The samples of a step; steps are asked for one after the other."""

    def position(self) -> dict[str, Any]:
        """Where a stream stands, as JSON can hold it; what only the step's number decides needs no position."""

    def seek(self, position: dict[str, Any]) -> None:
        """Go to where a stream stood."""

    def close(self) -> None:
        """Nothing more will be asked for: let go of threads and files."""


def seed_of(seed: int, *which: int) -> int:
    """A seed of its own for one purpose within a run, below 2**63.

    Args:
        seed: The run's.
        which: What it is for, in numbers.

    Example:
        >>> seed_of(0, 1) == seed_of(0, 1), seed_of(0, 1) == seed_of(0, 2)
        (True, False)
    """
    digest = hashlib.blake2b(repr((seed, *which)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class Order:
    """Row indices in shuffled epochs, each cut into batches at the same places.

    Args:
        cuts: From 0, where the batches of an epoch begin, and where the last one ends: rows beyond it wait for the
            next shuffle.
        n_rows: Rows in all.
        seed: Of the shuffles.
        device: Where the indices are.
        begun: The step that the first epoch begins at.

    Example:
        >>> order = Order(full_batches(10, 4), 10, seed=0)
        >>> len(order.rows(0)), order.epoch(3), torch.equal(order.rows(5), order.rows(5))
        (4, 1, True)
    """

    def __init__(
        self, cuts: Sequence[int], n_rows: int, seed: int, device: torch.device | str = "cpu", begun: int = 0
    ) -> None:
        self.cuts = tuple(cuts)
        self.n_rows = n_rows
        self.seed = seed
        self.device = torch.device(device)
        self.begun = begun
        self._shuffles = (seed, self.device)
        self._shuffled: tuple[int, Tensor] = (-1, torch.empty(0))

    def beside(self, seed: int, device: torch.device | str) -> Order:
        """The same rows at every step, for views of another seed, or on another device.

        Args:
            seed: Of the views.
            device: Where the indices are wanted.

        Example:
            >>> one = Order(full_batches(10, 4), 10, seed=0)
            >>> other = one.beside(1, "cpu")
            >>> torch.equal(one.rows(3), other.rows(3)), other.seed
            (True, 1)
        """
        other = copy.copy(self)
        other.seed, other.device = seed, torch.device(device)
        other._shuffled = (-1, torch.empty(0))
        return other

    @property
    def batches(self) -> int:
        """Batches in an epoch."""
        return len(self.cuts) - 1

    def epoch(self, step: int) -> int:
        """The epoch of a step."""
        return (step - self.begun) // self.batches

    def rows(self, step: int) -> Tensor:
        """Indices of the rows of a step's batch, (b,)."""
        epoch, index = divmod(step - self.begun, self.batches)
        if self._shuffled[0] != epoch:
            seed, device = self._shuffles
            generator = Generator(device).manual_seed(seed_of(seed, 0, self.begun, epoch))
            shuffled = torch.randperm(self.n_rows, generator=generator, device=device)
            self._shuffled = (epoch, shuffled.to(self.device))
        return self._shuffled[1][self.cuts[index] : self.cuts[index + 1]]


def full_batches(n_rows: int, batch_size: int) -> Sequence[int]:
    """Cuts into batches of one size; all rows where there are fewer.

    Example:
        >>> list(full_batches(10, 4)), list(full_batches(3, 4))
        ([0, 4, 8], [0, 3])
    """
    batch_size = min(batch_size, n_rows)
    return range(0, n_rows + 1, batch_size)


def every_row(n_rows: int, batch_size: int) -> Sequence[int]:
    """Cuts into batches of nearly one size that leave no row out: as few as will do, each of two rows at least.

    Example:
        >>> every_row(10, 4), every_row(3, 2)
        ([0, 3, 6, 10], [0, 3])
    """
    count = max(1, min(-(-n_rows // batch_size), n_rows // 2))
    return [n_rows * index // count for index in range(count + 1)]


class Resident:
    """Samples that live on the device: a batch is a gather, and views are taken of it there.

    Args:
        batch: The samples with these indices, with the samples themselves as its ``x``.
        views: One view of a batch for each branch.
        order: Which rows each step has.
        seed: Of the views.

    Example:
        >>> from vicreg.views import Identity, Noise, Table
        >>> table = Table(torch.eye(8), torch.arange(8))
        >>> feed = Resident(table.batch, (Identity(), Noise()), Order(full_batches(8, 4), 8, seed=0), seed=0)
        >>> [tuple(view.shape) for view in feed.draw(0).views]
        [(4, 8), (4, 8)]
    """

    def __init__(
        self,
        batch: Callable[[Tensor], Any],
        views: Sequence[Callable[[Any, Generator], Tensor]],
        order: Order,
        seed: int,
    ) -> None:
        self.batch = batch
        self.views = views
        self.order = order
        self.seed = seed
        self._generator = Generator(order.device)

    def draw(self, step: int) -> Drawn:
        """The views of a step's samples, and the samples."""
        batch = self.batch(self.order.rows(step))
        self._generator.manual_seed(seed_of(self.seed, 1, step))
        return Drawn([view(batch, self._generator) for view in self.views], batch.x)

    def position(self) -> dict[str, Any]:
        """Nothing: the step decides."""
        return {}

    def seek(self, position: dict[str, Any]) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""
