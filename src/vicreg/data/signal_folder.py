"""Recordings as files in a folder, whose sub-folders are their labels."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from vicreg._checks import check_integer, require
from vicreg.data.sampled import spread
from vicreg.data.signal_decode import SOUNDS, open_sound, sound_rate
from vicreg.data.signal_source import CorruptSignal, OpenedSignal, SignalSource
from vicreg.data.tree import Tree


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
        >>> import numpy as np
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
        self._tree = Tree(folder, is_sound, "recordings", SOUNDS)
        self.names = self._tree.names
        self.labels = self._tree.labels
        self.groups = self._tree.groups
        self.channels = check_integer("channels", channels, 1)
        some = ((self._tree.path(row), self.names[row]) for row in spread(len(self)))
        self.rates = rates_of(some) if rate is None else {}
        self.rate = common_rate(self.rates) if rate is None else check_integer("rate", rate, 1)

    def opened(self, index: int) -> OpenedSignal:
        """One recording, its header read."""
        return open_sound(self._tree.path(index), self.names[index], self.rate, self.channels)

    def evidence(self) -> Iterator[bytes]:
        """All names, and the sizes of some files."""
        return self._tree.evidence()


class SoundFiles(SignalSource):
    """Recordings given by their paths.

    Args:
        paths: Of the files.
        rate: Samples a second that all are resampled to; None for that which most of some have.
        channels: That all shall have, as :class:`SoundFolder` has it.

    Raises:
        ValueError: There are none, or none of those looked at can be read.
    """

    sound = True
    rate: int

    def __init__(self, paths: Iterable[str | os.PathLike[str]], rate: int | None = None, channels: int = 1) -> None:
        self.names = [os.fspath(path) for path in paths]
        require(len(self.names) > 0, "the recordings", "be at least one", "none")
        self.channels = check_integer("channels", channels, 1)
        self.rates = rates_of((self.names[row],) * 2 for row in spread(len(self))) if rate is None else {}
        self.rate = common_rate(self.rates) if rate is None else check_integer("rate", rate, 1)

    def opened(self, index: int) -> OpenedSignal:
        """One recording, its header read."""
        return open_sound(self.names[index], self.names[index], self.rate, self.channels)

    def evidence(self) -> Iterator[bytes]:
        """All names, and the sizes of the files."""
        for name in self.names:
            yield name.encode("utf-8", "surrogateescape") + b"\0"
            yield Path(name).stat().st_size.to_bytes(8, "little")


def rates_of(some: Iterator[tuple[str | bytes, str]]) -> Counter[int]:
    """How many of some recordings have which rate.

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
    return rates


def common_rate(rates: Mapping[int, int]) -> int:
    """The rate that most have; of several as frequent ones the highest.

    Example:
        >>> common_rate({8000: 2, 16000: 2, 44100: 1})
        16000
    """
    return max(rates, key=lambda rate: (rates[rate], rate))


def is_sound(name: str) -> bool:
    """Whether a file of this name counts as a recording.

    Example:
        >>> is_sound("Dog.WAV"), is_sound("._dog.wav"), is_sound("dogs.txt")
        (True, False, False)
    """
    return name.lower().endswith(SOUNDS) and not name.startswith(".")
