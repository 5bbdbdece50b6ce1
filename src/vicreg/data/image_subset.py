"""Some pictures of a source, as a source; and all of them in memory, where they fit."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vicreg.data.corrupt import Corrupt, CorruptImage
from vicreg.data.decode import Opened, Pixels
from vicreg.data.image_source import ImageSource
from vicreg.data.sampled import spread


class Subset(ImageSource):
    """Some pictures of a source, in the order given.

    Args:
        source: The pictures.
        rows: Which of them.
    """

    def __init__(self, source: ImageSource, rows: NDArray[np.int64]) -> None:
        self.source = source
        self.rows = rows
        self.names = [source.names[row] for row in rows]
        self.labels = None if source.labels is None else source.labels[rows]
        self.groups = None if source.groups is None else source.groups[rows]

    @cached_property
    def array(self) -> NDArray[np.uint8] | None:  # type: ignore[override]  # an attribute that is only read
        """These pictures of the source's array, if it has one."""
        return None if self.source.array is None else self.source.array[self.rows]

    def opened(self, index: int) -> Opened:
        """One picture, its header read."""
        return self.source.opened(int(self.rows[index]))

    def evidence(self) -> Iterator[bytes]:
        """That of the source."""
        return self.source.evidence()


def common_size(source: ImageSource) -> tuple[int, int]:
    """Height and width of the pictures, the medians of some that are spread over the source.

    Raises:
        CorruptImage: None of them can be read.
    """
    if source.array is not None:
        _, height, width, _ = source.array.shape
        return height, width
    sizes = [size for row in spread(len(source)) if (size := _size(source, row))]
    if not sizes:
        source.size(0)  # says what is wrong with it
    heights, widths = map(sorted, zip(*sizes, strict=True))
    return heights[len(sizes) // 2], widths[len(sizes) // 2]


def _size(source: ImageSource, row: int) -> tuple[int, int] | None:
    try:
        return source.size(row)
    except CorruptImage:
        return None


def in_memory(
    source: ImageSource, most_bytes: int, ledger: Corrupt, workers: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]] | None:
    """All pictures in one array, if they are of one size and take no more than so many bytes.

    Args:
        source: The pictures.
        most_bytes: The limit.
        ledger: Counts those that cannot be read, which are left out.
        workers: Threads that open them.

    Returns:
        (n, h, w, 3) uint8, and which rows of the source these are; None where they are of several sizes, or too many.

    Raises:
        ValueError: Too many are corrupt.
    """
    if source.array is not None:
        fits = source.array.size <= most_bytes
        return (source.array, np.arange(len(source))) if fits else None
    sizes = {_size(source, row) for row in spread(len(source))} - {None}
    if len(sizes) != 1:
        return None
    (size,) = sizes
    if size is None or len(source) * size[0] * size[1] * 3 > most_bytes:
        return None
    found = np.empty((len(source), *size, 3), np.uint8)

    def pixels(row: int) -> Pixels | None:
        try:
            return source.opened(row).pixels(1)
        except CorruptImage as error:
            ledger.add(error)
            return None

    kept = np.zeros(len(source), bool)
    with ThreadPoolExecutor(workers, "vicreg-pictures") as pool:
        for row, picture in enumerate(pool.map(pixels, range(len(source)), chunksize=1)):
            if picture is None:
                continue
            if picture.shape[:2] != size:
                pool.shutdown(cancel_futures=True)
                return None
            found[row] = picture
            kept[row] = True
    return (found if kept.all() else found[kept]), np.flatnonzero(kept)
