"""Signals as a feed: kept on the device where they fit, opened by threads where they do not."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from vicreg.data import Corrupt, OpenedSignal, SignalSource, readable
from vicreg.training.collection import Cropped, Deal, OpenedItems, ResidentItems
from vicreg.views import ViewOfSignal


class Signals(NamedTuple):
    """Some signals on the device.

    Attributes:
        array: (b, channels, longest) float32; what lies beyond a signal's end is not looked at.
        lengths: (b,) int64 samples of each.
    """

    array: Tensor
    lengths: Tensor


class ResidentSignals(ResidentItems[ViewOfSignal]):
    """Signals that live on the device.

    Args:
        array: (n, channels, longest) float32 on the device; what lies beyond a signal's end is not looked at.
        lengths: (n,) int64 samples of each, on the device.
        views: Of each signal.
        deal: Which signals each view shows.
        labels: (n,) classes, -1 for none; None where there are none at all.
    """

    def __init__(
        self,
        array: Tensor,
        lengths: Tensor,
        views: Sequence[ViewOfSignal],
        deal: Deal,
        labels: Tensor | None = None,
    ) -> None:
        super().__init__(views, deal, array.device, labels)
        self.array = array
        self.lengths = lengths

    def taken(self, rows: Tensor) -> Signals:
        """These signals."""
        return Signals(self.array[rows], self.lengths[rows])

    def seen(self, view: ViewOfSignal, samples: Signals, generator: Generator) -> tuple[Tensor, None]:
        """A view of them."""
        return view(samples.array, generator, samples.lengths), None


def crops(chosen: Sequence[tuple[ViewOfSignal, Sequence[float]]], opened: OpenedSignal) -> list[Tensor]:
    """For each view the crop that its numbers choose, (channels, length) float32: of a file no more is decoded."""
    found = []
    for view, u in chosen:
        start, length = view.span(opened.length, u)
        found.append(view.crop_one(opened.part(start, length), start))
    return found


class OpenedSignals(OpenedItems[ViewOfSignal]):
    """Signals that threads open, decode and crop a few batches ahead; all else is done on the device.

    A signal that cannot be read gives way to the next one that can.

    Args:
        source: The signals that are learnt from.
        views: Of each signal.
        deal: Which signals each view shows.
        steps: Length of the run: nothing is opened beyond it.
        device: Where the views are finished.
        ledger: Counts what cannot be read.
        workers: Threads.
        labels: (n,) classes, -1 for none; None where there are none at all.
    """

    def __init__(
        self,
        source: SignalSource,
        views: Sequence[ViewOfSignal],
        deal: Deal,
        steps: int,
        device: torch.device,
        ledger: Corrupt,
        workers: int | None = None,
        labels: Tensor | None = None,
    ) -> None:
        super().__init__(views, deal, steps, device, ledger, workers, labels, name="vicreg-signals")
        self.source = source

    def cut(self, row: int, chosen: Sequence[tuple[ViewOfSignal, Sequence[float]]]) -> tuple[int, list[Cropped]]:
        """A signal's crops, (channels, length) float32; of a file no more is decoded than they need."""
        shown, found = readable(self.source, row, partial(crops, chosen), self.ledger)
        return shown, [Cropped(one) for one in found]
