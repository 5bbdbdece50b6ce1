"""Recordings as files in a folder, whose sub-folders are their labels."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from vicreg._checks import check_integer, message, require, shown
from vicreg.data.image_folder import STATTED, _folder, _labels, _listed, is_folder
from vicreg.data.image_subset import spread
from vicreg.data.signal_decode import SOUNDS, open_sound, sound_rate
from vicreg.data.signal_source import CorruptSignal, OpenedSignal, SignalSource


class SoundFolder(SignalSource):
    """The recordings in a folder and all folders below it, ordered by path, at one rate.

    Files count whose names end as recordings' do (``signal_decode.SOUNDS``, in any case of letters). Hidden files and
    folders do not. Links are followed, each folder being entered once. The label of a recording is the first folder on
    its path; its group is the folder it lies in.

    Args:
        folder: The folder; or one recording, which is then the only one.
        rate: Samples a second that all are resampled to; None for that which most of some have that are spread over
            the folder.
        channels: That all shall have. One is the mean of a recording's; of several, a recording with one repeats it.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It holds no recordings, none of those looked at can be read, or a folder in it cannot be listed.

    Example:
        >>> import tempfile
        >>> import soundfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name, rate in (("cat/1.wav", 8000), ("cat/2.flac", 8000), ("dog/1.wav", 16000)):
        ...         path = Path(folder, name)
        ...         path.parent.mkdir(exist_ok=True)
        ...         soundfile.write(path, np.zeros(rate), rate)
        ...     source = SoundFolder(folder)
        ...     source.names, source.labels.tolist(), source.rate, source.read(2).shape
        (['cat/1.wav', 'cat/2.flac', 'dog/1.wav'], ['cat', 'cat', 'dog'], 8000, (1, 8000))
    """

    sound = True
    rate: int

    def __init__(self, folder: str | Path, rate: int | None = None, channels: int = 1) -> None:
        path = Path(folder)
        require(path.exists(), _folder(path), "exist", "no such folder", error=FileNotFoundError)
        self.names: list[str] = sorted(_found(path)) if path.is_dir() else [path.name]
        self._root = str(path if path.is_dir() else path.parent)
        self.labels = _labels(self.names)
        parents: dict[str, int] = {}
        of = [parents.setdefault(name.rpartition("/")[0], len(parents)) for name in self.names]
        self.groups = np.asarray(of, dtype=np.int64)
        self.channels = check_integer("channels", channels, 1)
        some = ((self._path(self.names[row]), self.names[row]) for row in spread(len(self)))
        self.rate = common_rate(some) if rate is None else check_integer("rate", rate, 1)

    def opened(self, index: int) -> OpenedSignal:
        """One recording, its header read."""
        return open_sound(self._path(self.names[index]), self.names[index], self.rate, self.channels)

    def evidence(self) -> Iterator[bytes]:
        """All names, and the sizes of some files."""
        yield from (name.encode("utf-8", "surrogateescape") + b"\0" for name in self.names)
        for name in self.names[:: -(-len(self.names) // STATTED)]:
            path = self._path(name)
            size = os.stat(path).st_size if os.path.exists(path) else -1  # noqa: PTH110, PTH116  # a Path is slower
            yield size.to_bytes(8, "little", signed=True)

    def _path(self, name: str) -> str:
        return f"{self._root}{os.sep}{name}"


def common_rate(some: Iterator[tuple[str | bytes, str]]) -> int:
    """The rate that most of some recordings have; of several as frequent ones the highest.

    Args:
        some: Path or bytes of each, and its name.

    Raises:
        CorruptSignal: None of them can be read.
    """
    rates: Counter[int] = Counter()
    first: CorruptSignal | None = None
    for file, name in some:
        try:
            rates[sound_rate(file, name)] += 1
        except CorruptSignal as error:
            first = first or error
    if first is not None and not rates:
        raise first
    return max(rates, key=lambda rate: (rates[rate], rate))


def is_sound(name: str) -> bool:
    """Whether a file of this name counts as a recording.

    Example:
        >>> is_sound("Dog.WAV"), is_sound("._dog.wav"), is_sound("dogs.txt")
        (True, False, False)
    """
    return name.lower().endswith(SOUNDS) and not name.startswith(".")


def _found(root: Path) -> list[str]:
    """Paths of all recordings below a folder, with slashes."""
    names: list[str] = []
    others: Counter[str] = Counter()
    entered: set[tuple[int, int]] = set()
    todo = [""]
    while todo:
        prefix = todo.pop()
        status = (root / prefix).stat()
        # On some file systems all numbers are 0.
        if status.st_ino and (status.st_dev, status.st_ino) in entered:
            continue
        entered.add((status.st_dev, status.st_ino))
        below = []
        for entry in _listed(root / prefix):
            if entry.name.startswith("."):
                continue
            if is_folder(entry):
                below.append(f"{prefix}{entry.name}/")
            elif is_sound(entry.name) and (entry.is_symlink() or entry.is_file()):
                names.append(prefix + entry.name)
            else:
                others[PurePosixPath(entry.name).suffix.lower()] += 1
        todo += sorted(below, reverse=True)
    if not names:
        kinds = ", ".join(f"{count} {shown(suffix)}" for suffix, count in others.most_common(5))
        got = f"{others.total()} other files ({kinds})" if others else "no files at all"
        raise ValueError(message(_folder(root), f"hold recordings ({', '.join(SOUNDS)})", got))
    return names
