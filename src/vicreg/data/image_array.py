"""Pictures as an array in a ``.npz`` file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicreg._checks import listed, require, shown
from vicreg.data.arrays import LABELS, TABLES, Shapes, damaged, file_in_words, in_words, shapes_in
from vicreg.data.decode import Opened, as_opened
from vicreg.data.image_source import ImageSource

TRAINING = ("x_train", "X_train", "train_images", "train_x", "x", "X", "data", "images")
"""Which array is meant where several hold pictures: the first of these names."""
HASHED = 4096
"""A fingerprint takes in so many pictures, evenly spread."""


class ImageArray(ImageSource):
    """The pictures of an array of bytes, (n, h, w), (n, h, w, 1) or (n, h, w, 3), kept in memory.

    Args:
        path: The ``.npz`` file. Nothing in it is unpickled.
        labels: The array that holds their classes; None for the one whose name goes with the pictures' (``y_train``
            with ``x_train``, ``labels`` with ``images``, or plainly ``y`` or ``labels``), if there is one.
        column: The array that holds the pictures; None for the only one that can, or the first of ``TRAINING``.

    Raises:
        ValueError: There is no such array, or the file is damaged.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "digits.npz")
        ...     np.savez(path, x_train=np.zeros((5, 8, 8), np.uint8), y_train=np.arange(5))
        ...     source = ImageArray(path)
        >>> source.array.shape, source.labels.tolist()
        ((5, 8, 8, 3), [0, 1, 2, 3, 4])
    """

    array: NDArray[np.uint8]

    def __init__(self, path: str | Path, labels: str | None = None, column: str | None = None) -> None:
        path = Path(path)
        shapes = shapes_in(path)
        key = _chosen(path, shapes, column)
        beside = labels or _beside(key, shapes)
        if beside is not None:
            right = beside in shapes and shapes[beside][0] == shapes[key][0][:1] and shapes[beside][1].kind in "biuUS"
            rule = f"hold a class for each of {shown(key)} {shapes[key][0]} in {shown(beside)}"
            require(right, file_in_words(path), rule, in_words(shapes))
        with np.load(path, allow_pickle=False) as archive:
            try:
                array = archive[key]
                self.labels = None if beside is None else archive[beside]
            except Exception as error:  # as varied as what damages a file
                raise damaged(path, error) from error
        array = array if array.ndim == 4 else array[..., None]
        self.array = np.broadcast_to(array, (*array.shape[:3], 3))
        self.names = [str(index) for index in range(len(array))]

    def opened(self, index: int) -> Opened:
        """One picture, in memory of its own."""
        return as_opened(np.array(self.array[index], order="C"), self.names[index])

    def evidence(self) -> Iterator[bytes]:
        """The shape, and the bytes of some pictures."""
        yield repr(self.array.shape).encode()
        step = -(-len(self.array) // HASHED)
        yield hashlib.blake2b(self.array[::step].tobytes()).digest()


def holds_pictures(shapes: Shapes) -> bool:
    """Whether a ``.npz`` with these arrays is pictures: not if one is the matrix of a table.

    Example:
        >>> holds_pictures({"x_train": ((100, 28, 28), np.dtype("uint8")), "y_train": ((100,), np.dtype("int64"))})
        True
    """
    table = any(key in shapes and len(shapes[key][0]) == 2 for key in TABLES)
    return not table and any(_fits(*one) for one in shapes.values())


def _fits(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    right = len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3))
    return right and dtype == np.uint8 and 0 not in shape


def _chosen(path: Path, shapes: Shapes, column: str | None) -> str:
    fitting = [key for key, one in shapes.items() if _fits(*one)]
    rule = "hold pictures as uint8 of shape (n, h, w), (n, h, w, 1) or (n, h, w, 3)"
    if column is not None:
        require(column in fitting, file_in_words(path), f"{rule} in {shown(column)}", in_words(shapes))
        return column
    require(len(fitting) > 0, file_in_words(path), rule, in_words(shapes))
    chosen = fitting if len(fitting) == 1 else [key for key in TRAINING if key in fitting][:1]
    fix = f"Call the one that is meant {shown(TRAINING[0])}."
    require(len(chosen) > 0, file_in_words(path), "hold one array of pictures", listed(fitting), fix)
    return chosen[0]


def _beside(key: str, shapes: Shapes) -> str | None:
    """The array of labels that goes with an array of pictures."""
    pairs = (("x", "y"), ("X", "y"), ("X", "Y"), ("images", "labels"))
    paired = [key.replace(*pair) for pair in pairs if pair[0] in key]
    whole = [name for name in (*paired, *LABELS) if shapes.get(name, (None,))[0] == shapes[key][0][:1]]
    return next((name for name in whole if shapes[name][1].kind in "biuUS"), None)
