"""Collections of samples as feeds, whatever they are of: kept on the device, or opened by threads some steps ahead."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from vicreg._checks import require
from vicreg.data import Corrupt
from vicreg.training.feed import Drawn, Order, seed_of

STEPS_AHEAD = 2
"""Batches that threads may prepare while the device is at work."""


def threads(workers: int | None) -> int:
    """How many threads open files: as asked for, else one less than the cores that this process may use.

    Example:
        >>> threads(3)
        3
    """
    return workers or max(1, len(os.sched_getaffinity(0)) - 1 if hasattr(os, "sched_getaffinity") else 1)


@dataclass(frozen=True, eq=False)
class Deal:
    """Which samples each view of a step shows on this process.

    Attributes:
        order: Rows of the whole batch by step, the same on every process; on the CPU.
        rank: Which of the processes this is: it takes every ``count``-th row.
        count: How many there are.
        partners: For views of two samples of one folder; None where a sample's views are of itself.
    """

    order: Order
    rank: int = 0
    count: int = 1
    partners: Partners | None = None

    def rows(self, step: int, n_views: int) -> list[Tensor]:
        """For each view the rows of its samples, (b,); views of the same samples have the same tensor."""
        whole = self.order.rows(step)
        shown = [whole[self.rank :: self.count]] * n_views
        if self.partners is not None:
            others = self.partners.of(whole, Generator().manual_seed(seed_of(self.order.seed, 4, step)))
            shown[1] = others[self.rank :: self.count]
        return shown


class Partners:
    """For each sample another one of its group.

    Args:
        groups: (n,) the number of each sample's group.

    Raises:
        ValueError: Every group has one sample only.

    Example:
        >>> Partners(np.array([0, 1, 0, 1, 2])).of(torch.arange(5), Generator().manual_seed(0)).tolist()
        [2, 3, 0, 1, 4]
    """

    def __init__(self, groups: NDArray[np.int64]) -> None:
        _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        rule, fix = "have two samples in some folder for views of one folder", "Choose other --views."
        require(bool((sizes > 1).any()), "the source", rule, f"{len(sizes)} folders with one each", fix)
        self._members = torch.from_numpy(np.argsort(group, kind="stable"))
        self._begin = torch.from_numpy(np.cumsum(sizes) - sizes)[group]
        self._size = torch.from_numpy(sizes)[group]
        self._place = torch.empty(len(group), dtype=torch.long)
        self._place[self._members] = torch.arange(len(group))

    def of(self, rows: Tensor, generator: Generator) -> Tensor:
        """One other row of each row's group, each as probable as the others; the row itself where it is alone."""
        size, begin = self._size[rows], self._begin[rows]
        onward = 1 + (torch.rand(len(rows), generator=generator, dtype=torch.float64) * (size - 1)).long()
        return self._members[begin + (self._place[rows] - begin + onward) % size]


class View(Protocol):
    """One view of a sample: a crop, which a thread can cut, and what is then done on the device."""

    def draw(self, count: int, generator: Generator) -> Tensor:
        """Numbers that choose the crops, a row for each sample."""

    def finish(self, crops: Tensor, generator: Generator | None = None) -> Tensor:
        """Crops to what an encoder eats."""


V = TypeVar("V", bound=View)


class ResidentItems(ABC, Generic[V]):
    """Samples that live on the device: each batch is gathered there.

    Args:
        views: Of each sample.
        deal: Which samples each view shows.
        device: Where the samples are.
        labels: (n,) classes, -1 for none; None where there are none at all.
        n_large: How many views are large; None for all.
    """

    def __init__(
        self,
        views: Sequence[V],
        deal: Deal,
        device: torch.device,
        labels: Tensor | None = None,
        n_large: int | None = None,
    ) -> None:
        self.views = views
        self.deal = deal
        self.labels = labels
        self.n_large = n_large
        self._generator = Generator(device)

    @abstractmethod
    def taken(self, rows: Tensor) -> Any:
        """The samples with these numbers."""

    @abstractmethod
    def seen(self, view: V, samples: Any, generator: Generator) -> tuple[Tensor, Tensor | None]:
        """A view of such samples, and where it was cut out, (b, 5), if they are pictures."""

    def draw(self, step: int) -> Drawn:
        """The views of a step's samples."""
        shown = self.deal.rows(step, len(self.views))
        device = self._generator.device
        self._generator.manual_seed(seed_of(self.deal.order.seed, 1, step, self.deal.rank))
        samples = {key: self.taken(rows.to(device)) for key, rows in {id(rows): rows for rows in shown}.items()}
        seen = [
            self.seen(view, samples[id(rows)], self._generator) for view, rows in zip(self.views, shown, strict=True)
        ]
        views, cuts = zip(*seen, strict=True)
        labels = _labels_of(self.labels, shown[0])
        return Drawn(views, labels=labels, n_large=self.n_large, cuts=None if self.deal.partners else known(cuts))

    def position(self) -> dict[str, Any]:
        """Nothing: the step decides."""
        return {}

    def seek(self, position: dict[str, Any]) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""


def _labels_of(labels: Tensor | None, rows: Tensor) -> Tensor | None:
    return None if labels is None else labels[rows.to(labels.device)]


class Cropped(NamedTuple):
    """What a thread cut out of a sample.

    Attributes:
        data: The crop, on the CPU.
        cut: Of a picture, where: top, left, height, width, and whether it was flipped.
    """

    data: Tensor
    cut: tuple[float, ...] | None = None


def known(cuts: Sequence[Tensor | None]) -> list[Tensor] | None:
    """Where the views were cut out, if that is known of all."""
    found = [cut for cut in cuts if cut is not None]
    return found if len(found) == len(cuts) else None


def cuts_of(opened: Sequence[Sequence[Cropped]], device: torch.device) -> list[Tensor] | None:
    """For each view where it was cut out, (b, 5), if the samples are pictures.

    Example:
        >>> cuts_of([[Cropped(torch.ones(1), (0, 0, 4, 4, 1))]], torch.device("cpu"))
        [tensor([[0., 0., 4., 4., 1.]])]
    """
    each = [[crop.cut for crop in crops if crop.cut is not None] for crops in zip(*opened, strict=True)]
    return [torch.tensor(cuts, dtype=torch.float32).to(device) for cuts in each] if all(each) else None


def finished(
    views: Sequence[View], opened: Sequence[Sequence[Cropped]], device: torch.device, generator: Generator
) -> list[Tensor]:
    """Each view of a batch from the crops that threads cut for it.

    Args:
        views: Of each sample.
        opened: For each sample, for each view its crop.
        device: Where the views are finished.
        generator: On the device.

    Returns:
        For each view what an encoder eats, (b, ...) float32.
    """
    columns = ([crop.data for crop in crops] for crops in zip(*opened, strict=True))
    batches = (torch.stack(crops).to(device, non_blocking=True) for crops in columns)
    return [view.finish(batch, generator) for view, batch in zip(views, batches, strict=True)]


class OpenedItems(ABC, Generic[V]):
    """Samples that threads open and crop a few batches ahead; all else is done on the device.

    A sample that cannot be read gives way to the next one that can.

    Args:
        views: Of each sample.
        deal: Which samples each view shows.
        steps: Length of the run: nothing is opened beyond it.
        device: Where the views are finished.
        ledger: Counts what cannot be read.
        workers: Threads.
        labels: (n,) classes, -1 for none; None where there are none at all.
        n_large: How many views are large; None for all.
        name: Of the threads.
    """

    def __init__(
        self,
        views: Sequence[V],
        deal: Deal,
        steps: int,
        device: torch.device,
        ledger: Corrupt,
        workers: int | None = None,
        labels: Tensor | None = None,
        n_large: int | None = None,
        name: str = "vicreg-samples",
    ) -> None:
        self.views = views
        self.deal = deal
        self.steps = steps
        self.device = device
        self.ledger = ledger
        self.labels = labels
        self.n_large = n_large
        self._pool = ThreadPoolExecutor(threads(workers), name)
        self._waiting: dict[int, list[Future[tuple[int, list[Cropped]]]]] = {}
        self._generator = Generator(device)

    @abstractmethod
    def cut(self, row: int, chosen: Sequence[tuple[V, Sequence[float]]]) -> tuple[int, list[Cropped]]:
        """Open a sample once and cut a crop for each of some views, in a thread.

        Args:
            row: Which sample.
            chosen: The views, each with its numbers for this sample.

        Returns:
            Which sample could be read in its place, and the crops.
        """

    def draw(self, step: int) -> Drawn:
        """The views of a step's samples, opened by now or soon."""
        for ahead in range(step, min(step + 1 + STEPS_AHEAD, self.steps)):
            if ahead not in self._waiting:
                self._waiting[ahead] = self._begin(ahead)
        rows, opened = zip(*(future.result() for future in self._waiting.pop(step)), strict=True)
        self._generator.manual_seed(seed_of(self.deal.order.seed, 3, step, self.deal.rank))
        views = finished(self.views, opened, self.device, self._generator)
        labels = None if self.labels is None else self.labels[list(rows)].to(self.device)
        cuts = None if self.deal.partners else cuts_of(opened, self.device)
        return Drawn(views, labels=labels, n_large=self.n_large, cuts=cuts)

    def _begin(self, step: int) -> list[Future[tuple[int, list[Cropped]]]]:
        shown = self.deal.rows(step, len(self.views))
        generator = Generator().manual_seed(seed_of(self.deal.order.seed, 1, step, self.deal.rank))
        numbers = [view.draw(len(shown[0]), generator).tolist() for view in self.views]
        samples = zip(zip(*(rows.tolist() for rows in shown), strict=True), zip(*numbers, strict=True), strict=True)
        return [self._pool.submit(self._crops, rows, u) for rows, u in samples]

    def _crops(self, rows: Sequence[int], numbers: Sequence[Sequence[float]]) -> tuple[int, list[Cropped]]:
        """The row of one sample's first view, and the crops; one opening for all views of one sample."""
        crops: dict[int, Cropped] = {}
        first = -1
        for row in dict.fromkeys(rows):
            which = [index for index, other in enumerate(rows) if other == row]
            shown, found = self.cut(row, [(self.views[k], numbers[k]) for k in which])
            first = shown if first < 0 else first
            crops |= dict(zip(which, found, strict=True))
        return first, [crops[index] for index in range(len(rows))]

    def position(self) -> dict[str, Any]:
        """What could not be read so far; the rest the step decides."""
        return {"corrupt": self.ledger.state()}

    def seek(self, position: dict[str, Any]) -> None:
        """Remember what could not be read."""
        self.ledger.restore(position["corrupt"])

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(cancel_futures=True)
