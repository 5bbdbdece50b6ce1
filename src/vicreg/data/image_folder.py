"""Pictures as files in a folder, whose sub-folders are their labels."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicreg._checks import message, require, shown
from vicreg.data.corrupt import CorruptImage
from vicreg.data.decode import PICTURES, Opened, open_picture
from vicreg.data.image_source import ImageSource

STATTED = 10_000
"""A fingerprint takes in the sizes of so many files, evenly spread."""


class ImageFolder(ImageSource):
    """The pictures in a folder and all folders below it, ordered by path.

    Files count whose names end as pictures' do (``decode.PICTURES``, in any case of letters). Hidden files and folders
    (``.DS_Store``, ``._cat.jpg``) do not. Links are followed, each folder being entered once.

    The label of a picture is the first folder on its path, however deep it lies; those that lie beside such folders
    have none. Its group is the folder it lies in.

    Args:
        folder: The folder; or one picture, which is then the only one.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It holds no pictures, or a folder in it cannot be listed.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("cats/1.png", "cats/2.png", "dogs/1.png"):
        ...         path = Path(folder, name)
        ...         path.parent.mkdir(exist_ok=True)
        ...         Image.new("RGB", (6, 4)).save(path)
        ...     source = ImageFolder(folder)
        ...     source.names, source.labels.tolist(), source.groups.tolist(), source.picture(0).shape
        (['cats/1.png', 'cats/2.png', 'dogs/1.png'], ['cats', 'cats', 'dogs'], [0, 0, 1], (4, 6, 3))
    """

    def __init__(self, folder: str | Path) -> None:
        path = Path(folder)
        require(path.exists(), _folder(path), "exist", "no such folder", error=FileNotFoundError)
        self.names: list[str] = sorted(_found(path)) if path.is_dir() else [path.name]
        self._root = str(path if path.is_dir() else path.parent)
        self.labels = _labels(self.names)
        parents: dict[str, int] = {}
        of = [parents.setdefault(name.rpartition("/")[0], len(parents)) for name in self.names]
        self.groups = np.asarray(of, dtype=np.int64)

    def opened(self, index: int) -> Opened:
        """One picture, its header read."""
        name = self.names[index]
        try:
            with open(self._path(name), "rb", buffering=0) as file:  # noqa: PTH123  # a Path costs as much as the reading
                data = file.read()
        except OSError as error:
            raise CorruptImage(name, error.strerror or type(error).__name__) from error
        return open_picture(data, name)

    def evidence(self) -> Iterator[bytes]:
        """All names, and the sizes of some files."""
        yield from (name.encode("utf-8", "surrogateescape") + b"\0" for name in self.names)
        for name in self.names[:: -(-len(self.names) // STATTED)]:
            path = self._path(name)
            size = os.stat(path).st_size if os.path.exists(path) else -1  # noqa: PTH110, PTH116  # the same
            yield size.to_bytes(8, "little", signed=True)

    def _path(self, name: str) -> str:
        return f"{self._root}{os.sep}{name}"


def is_picture(name: str) -> bool:
    """Whether a file of this name counts as a picture.

    Example:
        >>> is_picture("Cat.JPG"), is_picture("._cat.jpg"), is_picture("cats.txt")
        (True, False, False)
    """
    return name.lower().endswith(PICTURES) and not name.startswith(".")


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one; a link to itself is not."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _found(root: Path) -> list[str]:
    """Paths of all pictures below a folder, with slashes."""
    names: list[str] = []
    others: Counter[str] = Counter()
    entered: set[tuple[int, int]] = set()
    todo = [""]
    while todo:
        prefix = todo.pop()
        folder = root / prefix
        status = folder.stat()
        # On some file systems all numbers are 0.
        if status.st_ino and (status.st_dev, status.st_ino) in entered:
            continue
        entered.add((status.st_dev, status.st_ino))
        below = []
        for entry in _listed(folder):
            if entry.name.startswith("."):
                continue
            if is_folder(entry):
                below.append(f"{prefix}{entry.name}/")
            elif is_picture(entry.name) and (entry.is_symlink() or entry.is_file()):
                names.append(prefix + entry.name)
            else:
                others[PurePosixPath(entry.name).suffix.lower()] += 1
        todo += sorted(below, reverse=True)
    if not names:
        kinds = ", ".join(f"{count} {shown(suffix)}" for suffix, count in others.most_common(5))
        got = f"{others.total()} other files ({kinds})" if others else "no files at all"
        raise ValueError(message(_folder(root), f"hold pictures ({', '.join(PICTURES)})", got))
    return names


def _listed(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError as error:
        raise ValueError(message(_folder(folder), "be readable", error.strerror)) from error


def _labels(names: list[str]) -> NDArray[Any] | None:
    labels = [name.partition("/")[0] if "/" in name else None for name in names]
    if not any(labels):
        return None
    return np.asarray(labels, dtype=object if None in labels else np.str_)


def _folder(path: Path) -> str:
    return f"the folder {shown(str(path))}"
