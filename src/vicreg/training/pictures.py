"""Pictures as a feed: kept on the device where they fit, opened by threads where they do not."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Generator, Tensor

from vicreg.data import Corrupt, ImageSource, decoded
from vicreg.training.collection import Cropped, Deal, OpenedItems, ResidentItems
from vicreg.views import ImageView, Rectangle, resized, resized_one


class ResidentPictures(ResidentItems[ImageView]):
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
        super().__init__(views, deal, array.device, labels, n_large)
        self.array = array

    def taken(self, rows: Tensor) -> Tensor:
        """These pictures, (b, 3, h, w) uint8."""
        return self.array[rows].permute(0, 3, 1, 2)

    def seen(self, view: ImageView, samples: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """A view of them, and where it was cut out."""
        u = view.draw(len(samples), generator)
        chosen, flips = view.cuts(u, *samples.shape[2:])
        crops = resized(samples, chosen, flips, view.size, view.interpolation)
        cuts = torch.cat((chosen, flips[:, None]), dim=1).to(samples.device, torch.float32)
        return view.finish(crops, generator), cuts


class Cut:
    """Chooses the rectangle of one picture's view, and whether to flip it; and remembers what it chose.

    Args:
        view: The view.
        u: The picture's numbers.

    Attributes:
        chosen: Top, left, height, width, and whether it is flipped, of the picture last asked for.
    """

    def __init__(self, view: ImageView, u: Sequence[float]) -> None:
        self.view = view
        self.u = u
        self.chosen: tuple[float, ...] | None = None

    def __call__(self, height: int, width: int) -> tuple[Rectangle, bool]:
        """Of a picture of this size; of the next one, where that could not be read."""
        chosen, flip = self.view.rectangle(self.u, height, width), self.u[-1] < self.view.flip
        self.chosen = (*chosen, flip)
        return chosen, flip


class OpenedPictures(OpenedItems[ImageView]):
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
        super().__init__(views, deal, steps, device, ledger, workers, labels, n_large, "vicreg-pictures")
        self.source = source
        self._resize = partial(resized_one, interpolation=views[0].interpolation)

    def cut(self, row: int, chosen: Sequence[tuple[ImageView, Sequence[float]]]) -> tuple[int, list[Cropped]]:
        """A picture's crops, (3, size, size) uint8, decoded once and as small as they allow."""
        wanted = [(Cut(view, u), view.size) for view, u in chosen]
        shown, found = decoded(self.source, row, wanted, self._resize, self.ledger)
        return shown, [Cropped(one, cut.chosen) for one, (cut, _) in zip(found, wanted, strict=True)]
