"""Pictures as a feed: kept on the device where they fit, opened by threads where they do not."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from vicreg._checks import require
from vicreg.data import Corrupt, ImageSource, decoded
from vicreg.training.feed import Drawn, Order, seed_of
from vicreg.views import ImageView, resized_one

STEPS_AHEAD = 2
"""Batches that threads may prepare while the device is at work."""


def threads(workers: int | None) -> int:
    """How many threads open pictures: as asked for, else one less than the cores that this process may use.

    Example:
        >>> threads(3)
        3
    """
    return workers or max(1, len(os.sched_getaffinity(0)) - 1 if hasattr(os, "sched_getaffinity") else 1)


@dataclass(frozen=True, eq=False)
class Deal:
    """Which pictures each view of a step shows on this process.

    Attributes:
        order: Rows of the whole batch by step, the same on every process; on the CPU.
        rank: Which of the processes this is: it takes every ``count``-th row.
        count: How many there are.
        partners: For views of two pictures of one folder; None where a picture's views are of itself.
    """

    order: Order
    rank: int = 0
    count: int = 1
    partners: Partners | None = None

    def rows(self, step: int, n_views: int) -> list[Tensor]:
        """For each view the rows of its pictures, (b,); views of the same pictures have the same tensor."""
        whole = self.order.rows(step)
        shown = [whole[self.rank :: self.count]] * n_views
        if self.partners is not None:
            others = self.partners.of(whole, Generator().manual_seed(seed_of(self.order.seed, 4, step)))
            shown[1] = others[self.rank :: self.count]
        return shown


class Partners:
    """For each picture another one of its group.

    Args:
        groups: (n,) the number of each picture's group.

    Raises:
        ValueError: Every group has one picture only.

    Example:
        >>> Partners(np.array([0, 1, 0, 1, 2])).of(torch.arange(5), Generator().manual_seed(0)).tolist()
        [2, 3, 0, 1, 4]
    """

    def __init__(self, groups: NDArray[np.int64]) -> None:
        _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        rule, fix = "have two pictures in some folder for views of one folder", "Choose other --views."
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


class ResidentPictures:
    """Pictures of one size that live on the device.

    Args:
        array: (n, h, w, 3) uint8 on the device.
        views: Of each picture.
        deal: Which pictures each view shows.
        labels: (n,) classes, -1 for none; None where there are none at all.
        n_large: How many views are large; None for all.
    """

    def __init__(
        self,
        array: Tensor,
        views: Sequence[ImageView],
        deal: Deal,
        labels: Tensor | None = None,
        n_large: int | None = None,
    ) -> None:
        self.array = array
        self.views = views
        self.deal = deal
        self.labels = labels
        self.n_large = n_large
        self._generator = Generator(array.device)

    def draw(self, step: int) -> Drawn:
        """The views of a step's pictures."""
        shown = self.deal.rows(step, len(self.views))
        self._generator.manual_seed(seed_of(self.deal.order.seed, 1, step, self.deal.rank))
        images = {id(rows): self.array[rows.to(self.array.device)].permute(0, 3, 1, 2) for rows in shown}
        views = [view(images[id(rows)], self._generator) for view, rows in zip(self.views, shown, strict=True)]
        return Drawn(views, labels=_labels_of(self.labels, shown[0]), n_large=self.n_large)

    def position(self) -> dict[str, Any]:
        """Nothing: the step decides."""
        return {}

    def seek(self, position: dict[str, Any]) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""


def _labels_of(labels: Tensor | None, rows: Tensor) -> Tensor | None:
    return None if labels is None else labels[rows.to(labels.device)]


def finished(
    views: Sequence[ImageView], opened: Sequence[Sequence[Tensor]], device: torch.device, generator: Generator
) -> list[Tensor]:
    """Each view of a batch from the crops that threads cut for it.

    Args:
        views: Of each picture.
        opened: For each picture, for each view its crop, (3, size, size) uint8 on the CPU.
        device: Where the views are finished.
        generator: On the device.

    Returns:
        For each view (b, 3, size, size) float32.
    """
    batches = (torch.stack(crops).to(device, non_blocking=True) for crops in zip(*opened, strict=True))
    return [view.finish(batch, generator) for view, batch in zip(views, batches, strict=True)]


def cut(view: ImageView, u: Sequence[float], height: int, width: int) -> tuple[tuple[int, int, int, int], bool]:
    """The rectangle that a picture's numbers choose, and whether it is flipped."""
    return view.rectangle(u, height, width), u[-1] < view.flip


class OpenedPictures:
    """Pictures that threads open, decode and crop a few batches ahead; all else is done on the device.

    A picture that cannot be read gives way to the next one that can.

    Args:
        source: The pictures that are learnt from.
        views: Of each picture.
        deal: Which pictures each view shows.
        steps: Length of the run: nothing is opened beyond it.
        device: Where the views are finished.
        ledger: Counts what cannot be read.
        workers: Threads.
        labels: (n,) classes, -1 for none; None where there are none at all.
        n_large: How many views are large; None for all.
    """

    def __init__(
        self,
        source: ImageSource,
        views: Sequence[ImageView],
        deal: Deal,
        steps: int,
        device: torch.device,
        ledger: Corrupt,
        workers: int | None = None,
        labels: Tensor | None = None,
        n_large: int | None = None,
    ) -> None:
        self.source = source
        self.views = views
        self.deal = deal
        self.steps = steps
        self.device = device
        self.ledger = ledger
        self.labels = labels
        self.n_large = n_large
        self._pool = ThreadPoolExecutor(threads(workers), "vicreg-pictures")
        self._waiting: dict[int, list[Future[tuple[int, list[Tensor]]]]] = {}
        self._generator = Generator(device)
        self._resize = partial(resized_one, interpolation=views[0].interpolation)

    def draw(self, step: int) -> Drawn:
        """The views of a step's pictures, opened by now or soon."""
        for ahead in range(step, min(step + 1 + STEPS_AHEAD, self.steps)):
            if ahead not in self._waiting:
                self._waiting[ahead] = self._begin(ahead)
        rows, opened = zip(*(future.result() for future in self._waiting.pop(step)), strict=True)
        self._generator.manual_seed(seed_of(self.deal.order.seed, 3, step, self.deal.rank))
        views = finished(self.views, opened, self.device, self._generator)
        labels = None if self.labels is None else self.labels[list(rows)].to(self.device)
        return Drawn(views, labels=labels, n_large=self.n_large)

    def _begin(self, step: int) -> list[Future[tuple[int, list[Tensor]]]]:
        shown = self.deal.rows(step, len(self.views))
        generator = Generator().manual_seed(seed_of(self.deal.order.seed, 1, step, self.deal.rank))
        numbers = [view.draw(len(shown[0]), generator).tolist() for view in self.views]
        samples = zip(zip(*(rows.tolist() for rows in shown), strict=True), zip(*numbers, strict=True), strict=True)
        return [self._pool.submit(self._crops, rows, u) for rows, u in samples]

    def _crops(self, rows: Sequence[int], numbers: Sequence[Sequence[float]]) -> tuple[int, list[Tensor]]:
        """The row of one sample's first view, and the crops; one opening for all views of one picture."""
        crops: dict[int, Tensor] = {}
        first = -1
        for row in dict.fromkeys(rows):
            which = [index for index, other in enumerate(rows) if other == row]
            wanted = [(partial(cut, self.views[k], numbers[k]), self.views[k].size) for k in which]
            shown, found = decoded(self.source, row, wanted, self._resize, self.ledger)
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
