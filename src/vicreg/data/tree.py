"""Files of one kind in a folder tree, whose sub-folders are their labels."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicreg._checks import message, require, shown

STATTED = 10_000
"""A fingerprint takes in the sizes of so many files, evenly spread."""


class Tree:
    """The files of one kind in a folder and all folders below it, ordered by path.

    Hidden files and folders (``.DS_Store``, ``._cat.jpg``) do not count. Links are followed, each folder being entered
    once.

    Args:
        folder: The folder; or one file, which is then the only one.
        fits: Whether a file of this name counts.
        what: What the files are called.
        suffixes: How their names end, for errors.

    Attributes:
        names: Their paths below the folder, with slashes.
        labels: The first folder on each one's path, however deep it lies; those that lie beside such folders have none.
            None where nothing lies in a folder.
        groups: (n,) int64 the folder that each lies in, numbered.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It holds no such files, or a folder in it cannot be listed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("b/1.txt", "a/c/2.txt", "a/3.csv"):
        ...         path = Path(folder, name)
        ...         path.parent.mkdir(parents=True, exist_ok=True)
        ...         path.touch()
        ...     tree = Tree(folder, lambda name: name.endswith(".txt"), "notes", (".txt",))
        >>> tree.names, tree.labels.tolist(), tree.groups.tolist()
        (['a/c/2.txt', 'b/1.txt'], ['a', 'b'], [0, 1])
    """

    def __init__(self, folder: str | Path, fits: Callable[[str], bool], what: str, suffixes: Sequence[str]) -> None:
        path = Path(folder)
        require(path.exists(), _folder(path), "exist", "no such folder", error=FileNotFoundError)
        self.names: list[str] = sorted(_found(path, fits, what, suffixes)) if path.is_dir() else [path.name]
        self.labels = _labels(self.names)
        parents: dict[str, int] = {}
        of = [parents.setdefault(name.rpartition("/")[0], len(parents)) for name in self.names]
        self.groups: NDArray[np.int64] = np.asarray(of, dtype=np.int64)
        self._root = str(path if path.is_dir() else path.parent)

    def path(self, index: int) -> str:
        """Where one file lies."""
        return f"{self._root}{os.sep}{self.names[index]}"

    def evidence(self) -> Iterator[bytes]:
        """All names, and the sizes of some files."""
        yield from (name.encode("utf-8", "surrogateescape") + b"\0" for name in self.names)
        for index in range(0, len(self.names), -(-len(self.names) // STATTED)):
            path = self.path(index)
            size = os.stat(path).st_size if os.path.exists(path) else -1  # noqa: PTH110, PTH116  # a Path is slower
            yield size.to_bytes(8, "little", signed=True)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one; a link to itself is not."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _found(root: Path, fits: Callable[[str], bool], what: str, suffixes: Sequence[str]) -> list[str]:
    """Paths of all such files below a folder, with slashes."""
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
            elif fits(entry.name) and (entry.is_symlink() or entry.is_file()):
                names.append(prefix + entry.name)
            else:
                others[PurePosixPath(entry.name).suffix.lower()] += 1
        todo += sorted(below, reverse=True)
    if not names:
        kinds = ", ".join(f"{count} {shown(suffix)}" for suffix, count in others.most_common(5))
        got = f"{others.total()} other files ({kinds})" if others else "no files at all"
        raise ValueError(message(_folder(root), f"hold {what} ({', '.join(suffixes)})", got))
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
