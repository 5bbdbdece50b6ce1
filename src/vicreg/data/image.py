"""Pictures from a folder, a Parquet file or an array: one door to all that have random access."""

from __future__ import annotations

import hashlib
from pathlib import Path

from vicreg._checks import message, require, shown
from vicreg.data.decode import PICTURES
from vicreg.data.image_array import ImageArray
from vicreg.data.image_folder import ImageFolder, is_picture
from vicreg.data.image_source import ImageSource
from vicreg.data.image_table import ImageTable

FOLDER = "folder"
"""The name of a folder's labels."""


def read_images(path: str | Path, labels: str | None = None, column: str | None = None) -> ImageSource:
    """Open a collection of pictures; none is decoded yet.

    Args:
        path: A folder tree of pictures (:class:`ImageFolder`), a ``.parquet`` file or a folder of such parts with a
            column of pictures (:class:`ImageTable`), a ``.npz`` with an array of pictures (:class:`ImageArray`), or
            one picture.
        labels: The Parquet column, or the array of the ``.npz``, that holds the classes. A folder's are its sub-folders
            and are called ``folder``.
        column: The column or array that holds the pictures, where several do.

    Returns:
        The source.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: It holds no pictures, or no such labels.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(Path(folder, "digits.npz"), images=np.zeros((5, 8, 8), np.uint8))
        ...     len(read_images(Path(folder, "digits.npz")))
        5
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(message(f"the file {shown(str(path))}", "exist", "no such file or folder"))
    suffix = path.suffix.lower()
    if path.is_file() and suffix == ".npz":
        return ImageArray(path, labels, column)
    if (path.is_file() and suffix == ".parquet") or (path.is_dir() and any(path.glob("*.parquet"))):
        return ImageTable(path, labels, column)
    known = path.is_dir() or is_picture(path.name)
    rule = f"be a folder or end in .parquet, .npz or one of {', '.join(PICTURES)}"
    require(known, f"the file {shown(str(path))}", rule, shown(suffix))
    for name, value, rule in (
        ("labels", labels, f"be {shown(FOLDER)}: the sub-folders"),
        ("column", column, "be left out"),
    ):
        right = value is None or (name == "labels" and value == FOLDER)
        require(right, f"{name} of a folder of pictures", rule, shown(value))
    return ImageFolder(path)


def fingerprint_images(source: ImageSource) -> str:
    """A hash that recognises a collection without decoding it: of its names and sizes, and of some bytes.

    It does not depend on where the collection lies. A picture exchanged for another of the same name goes unnoticed if
    its file is as long, or is none of those looked at (10,000 files, evenly spread).

    Args:
        source: The pictures.

    Returns:
        32 hexadecimal digits (BLAKE2b of 16 bytes).
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in source.evidence():
        digest.update(part)
    return digest.hexdigest()
