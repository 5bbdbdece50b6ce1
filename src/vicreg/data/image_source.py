"""What all collections of pictures offer, and how a sample's crops come out of one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vicreg.data.corrupt import Corrupt, readable
from vicreg.data.decode import REDUCTIONS, Opened, Pixels

Rectangle = tuple[int, int, int, int]
"""Top, left, height, width, in pixels."""
Crop = tuple[Callable[[int, int], tuple[Rectangle, bool]], int]
"""What gives the rectangle, and whether to flip it, from a picture's height and width; and the side to resize it to."""
Resize = Callable[[Pixels, Rectangle, bool, int], Tensor]
"""From a picture, a rectangle, whether to flip and a side to (3, side, side) uint8."""


class ImageSource(ABC):
    """Pictures with random access.

    Attributes:
        what: The noun.
        names: What each is called: its path below the folder, or the number of its row.
        labels: The class of each, as text or whole numbers; None where there are none. Where only some have one, an
            array of objects in which None stands for the others. To judge by, never to learn from.
        groups: The folder of each, numbered (int64); None where there are no folders.
        array: All pictures, (n, h, w, 3) uint8, where they lie in memory at one size. It may be a view that cannot be
            written to, with one grey channel seen three times.
    """

    what = "pictures"
    names: Sequence[str]
    labels: NDArray[Any] | None = None
    groups: NDArray[np.int64] | None = None
    array: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def opened(self, index: int) -> Opened:
        """One picture, its header read.

        Raises:
            CorruptImage: It cannot be read.
        """

    @abstractmethod
    def evidence(self) -> Iterator[bytes]:
        """What tells these pictures from others, without decoding them."""

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of one picture, upright; a JPEG's cost only its header.

        Raises:
            CorruptImage: It cannot be read.
        """
        opened = self.opened(index)
        return opened.height, opened.width

    def picture(self, index: int, at_least: int | None = None) -> Pixels:
        """One picture, upright, (h, w, 3) RGB.

        Args:
            index: Which.
            at_least: So many pixels of the shorter side suffice: a JPEG is then decoded at a half, a quarter or an
                eighth of its size, if it keeps them. None for full size.

        Raises:
            CorruptImage: It cannot be read.
        """
        return self.opened(index).at_least(at_least)


def crops_of(opened: Opened, crops: Sequence[Crop], resize: Resize) -> list[Tensor]:
    """Crops of one picture, which is decoded once.

    A JPEG is decoded at the smallest part of its size at which every rectangle keeps as many pixels as its crop, so
    that large photographs take a fraction of the time; and its colour is not smoothed (``Opened.pixels``).

    Args:
        opened: The picture.
        crops: Their rectangles and sides.
        resize: What cuts out a rectangle and resizes it.

    Returns:
        One (3, side, side) uint8 for each.

    Raises:
        CorruptImage: The picture cannot be read.
    """
    cut = [(*rectangle_of(opened.height, opened.width), side) for rectangle_of, side in crops]
    least = min((min(h, w) / side for (_, _, h, w), _, side in cut), default=1)
    pixels = opened.pixels(next((part for part in REDUCTIONS if part <= least), 1), exact=False)
    height, width = pixels.shape[:2]
    if (height, width) != (opened.height, opened.width):
        down, across = height / opened.height, width / opened.width
        cut = [(_reduced(rectangle, down, across, height, width), flip, side) for rectangle, flip, side in cut]
    return [resize(pixels, rectangle, flip, side) for rectangle, flip, side in cut]


def decoded(
    source: ImageSource, index: int, crops: Sequence[Crop], resize: Resize, ledger: Corrupt
) -> tuple[int, list[Tensor]]:
    """The crops of one sample, as :func:`readable` and :func:`crops_of` have them.

    Returns:
        The index of the picture that they are of, and one (3, side, side) uint8 for each.
    """
    return readable(source, index, lambda opened: crops_of(opened, crops, resize), ledger)


def _reduced(rectangle: Rectangle, down: float, across: float, height: int, width: int) -> Rectangle:
    """The rectangle in a picture of fewer pixels: each edge at the nearest line between pixels."""
    top, left, h, w = rectangle
    y0, x0 = min(round(top * down), height - 1), min(round(left * across), width - 1)
    y1, x1 = min(round((top + h) * down), height), min(round((left + w) * across), width)
    return y0, x0, max(y1 - y0, 1), max(x1 - x0, 1)
