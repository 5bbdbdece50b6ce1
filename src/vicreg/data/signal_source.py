"""What all collections of signals offer: sounds and other series of numbers, of one channel or several."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicreg.data.corrupt import CorruptImage

Signal = NDArray[np.float32]
"""A signal, (channels, time)."""

SHORTEST = 2
"""A signal has so many samples at least."""


class CorruptSignal(CorruptImage):
    """A signal that cannot be read; the ledger counts it as it does a picture.

    Args:
        name: What its source calls it.
        got: What is wrong with it.
        rule: What it should have been.
        fix: What to do about it, where something can be.

    Example:
        >>> raise CorruptSignal("dog.wav", "an empty file")
        Traceback (most recent call last):
        vicreg.data.signal_source.CorruptSignal: the signal 'dog.wav' must be readable; got an empty file.
    """

    def __init__(self, name: str, got: object, rule: str = "be readable", fix: str = "") -> None:
        super().__init__(name, got, rule, fix, what="signal")


@dataclass(frozen=True)
class OpenedSignal:
    """A signal whose size is known and whose samples may still have to be decoded. It is for one thread at a time.

    Attributes:
        name: What it is called in errors.
        channels: Number of channels.
        length: Number of samples of each.
        decode: From where to where, within its length, to (channels, time) float32 that nobody else holds.
        own: Channels in its file, where it has one; all are mixed to one, or one is repeated.
    """

    name: str
    channels: int
    length: int
    decode: Callable[[int, int], Signal]
    own: int | None = None

    def part(self, start: int, length: int) -> Signal:
        """So many samples from a place on; those before its beginning and after its end are left out.

        Returns:
            (channels, time), which may be shorter than asked for, or empty.

        Raises:
            CorruptSignal: It cannot be decoded, or holds NaN or infinity there.
        """
        begin, end = max(start, 0), min(start + length, self.length)
        if end <= begin:
            return np.empty((self.channels, 0), np.float32)
        samples = self.decode(begin, end)
        # Finite values can have an infinite sum, but then the slow way round finds nothing.
        if not np.isfinite(samples.sum(dtype=np.float64)):
            broken = np.argwhere(~np.isfinite(samples))
            if len(broken):
                channel, place = broken[0]
                got = f"{samples[channel, place]} at sample {begin + place} of channel {channel}"
                raise CorruptSignal(self.name, got, "hold finite numbers")
        return samples

    def whole(self) -> Signal:
        """All of it, (channels, length)."""
        return self.part(0, self.length)


class SignalSource(ABC):
    """Signals with random access.

    Attributes:
        what: The noun.
        names: What each is called: its path below the folder, its id, or the number of its row.
        labels: The class of each, as text or whole numbers; None where there are none. Where only some have one, an
            array of objects in which None stands for the others. To judge by, never to learn from.
        groups: The folder of each, numbered (int64); None where there are no folders.
        rate: Samples a second, the same for all; None where nobody knows.
        rates: How many have which rate of their own, among those looked at to choose the common one; empty where the
            rate was given.
        channels: Of each signal.
        sound: Whether these are sounds, whose full scale is -1 to 1; other signals have units of their own.
        columns: The columns of a long table that its channels are; empty for all else.
    """

    what = "signals"
    names: Sequence[str]
    labels: NDArray[Any] | None = None
    groups: NDArray[np.int64] | None = None
    rate: float | None = None
    rates: Mapping[int, int] = MappingProxyType({})
    channels: int = 1
    sound: bool = False
    columns: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def opened(self, index: int) -> OpenedSignal:
        """One signal, its header read.

        Raises:
            CorruptSignal: It cannot be read.
        """

    @abstractmethod
    def evidence(self) -> Iterator[bytes]:
        """What tells these signals from others, without decoding them all."""

    def length(self, index: int) -> int:
        """Samples of one signal, in each channel; of a file by its header alone.

        Raises:
            CorruptSignal: It cannot be read.
        """
        return self.opened(index).length

    def read(self, index: int) -> Signal:
        """One signal, (channels, time) float32.

        Raises:
            CorruptSignal: It cannot be read.
        """
        return self.opened(index).whole()

    def read_crop(self, index: int, start: int, length: int) -> Signal:
        """A part of one signal; of a file no more is decoded than that needs.

        Args:
            index: Which signal.
            start: Its first sample, which may be negative.
            length: So many samples.

        Returns:
            (channels, time) float32, shorter where the signal does not reach so far.

        Raises:
            CorruptSignal: It cannot be read.
        """
        return self.opened(index).part(start, length)
