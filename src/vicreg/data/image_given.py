"""Pictures that somebody holds in their hands: files, Pillow images and arrays."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicreg._checks import require, shown
from vicreg.data.corrupt import CorruptImage
from vicreg.data.decode import Opened, as_opened, open_image, open_picture
from vicreg.data.image_source import ImageSource


class GivenImages(ImageSource):
    """Pictures given one by one, or as an array.

    Args:
        pictures: A uint8 array (n, h, w), (n, h, w, 1) or (n, h, w, 3); or a list, each item of which is a path, a
            Pillow image, or a uint8 array (h, w), (h, w, 1) or (h, w, 3).
        labels: (n,) classes; to judge by, never to learn from.

    Raises:
        TypeError: An item is none of these, or an array not of uint8.
        ValueError: There are none, an array has another shape, or there are more or fewer labels.

    Example:
        >>> source = GivenImages([np.zeros((4, 6), np.uint8), np.zeros((5, 5, 3), np.uint8)])
        >>> source.size(0), source.picture(0).shape
        ((4, 6), (4, 6, 3))
    """

    def __init__(self, pictures: Any, labels: NDArray[Any] | None = None) -> None:
        if isinstance(pictures, np.ndarray):
            self.array = _stacked(pictures)
            self._items: Any = pictures
        else:
            several = isinstance(pictures, Iterable) and not _is_one(pictures)
            self._items = list(pictures) if several else [pictures]
            for item in self._items:
                _check(item)
        require(len(self._items) > 0, "the pictures", "be at least one", "none")
        self.names = [
            str(item) if isinstance(item, str | os.PathLike) else str(i) for i, item in enumerate(self._items)
        ]
        if labels is not None:
            require(len(labels) == len(self), "labels", f"be {len(self)}, one for each picture", len(labels))
        self.labels = labels

    def opened(self, index: int) -> Opened:
        """One picture: read if it is a file."""
        item, name = self._items[index], self.names[index]
        if isinstance(item, str | os.PathLike):
            try:
                return open_picture(Path(item).read_bytes(), name)
            except OSError as failure:
                raise CorruptImage(name, failure.strerror or str(failure)) from failure
        if isinstance(item, np.ndarray):
            return as_opened(_as_rgb(item), name)
        return open_image(item, name)

    def evidence(self) -> Iterator[bytes]:
        """The names of files, and the bytes of pictures in memory."""
        for index, item in enumerate(self._items):
            if isinstance(item, str | os.PathLike):
                yield os.fspath(item).encode("utf-8", "surrogateescape")
            else:
                yield hashlib.blake2b(self.opened(index).pixels(1).tobytes()).digest()


def _is_one(item: object) -> bool:
    return isinstance(item, str | os.PathLike | np.ndarray) or hasattr(item, "getbands")


def _check(item: object) -> None:
    rule = "be a path, a Pillow image or a uint8 array"
    require(_is_one(item), "a picture", rule, shown(item), error=TypeError)
    if isinstance(item, np.ndarray):
        _as_rgb(item)


def _stacked(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Pictures as (n, h, w, 3), one grey channel seen three times."""
    rule, fix = "have shape (n, h, w, 3) or (n, h, w)", "One picture goes into a list: [picture]."
    right = (array.ndim == 4 and array.shape[3] in (1, 3)) or (array.ndim == 3 and array.shape[2] not in (1, 3))
    require(right, "an array of pictures", rule, array.shape, fix)
    for picture in array[:1]:
        _as_rgb(picture)
    stacked = array if array.ndim == 4 else array[..., None]
    return np.broadcast_to(stacked, (*stacked.shape[:3], 3))


def _as_rgb(array: NDArray[Any]) -> NDArray[np.uint8]:
    fix = "Levels are 0 to 255."
    require(array.dtype == np.uint8, "an array of pixels", "be uint8", array.dtype, fix, TypeError)
    grey = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1)
    right = min(array.shape, default=0) > 0 and (grey or (array.ndim == 3 and array.shape[2] == 3))
    require(right, "an array of pixels", "have shape (h, w, 3), (h, w, 1) or (h, w)", array.shape)
    return np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2) if grey else np.ascontiguousarray(array)
