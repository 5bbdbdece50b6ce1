"""Some signals of a source, as a source; and all of them in memory, where they fit."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicreg.data.corrupt import Corrupt, CorruptImage
from vicreg.data.sampled import spread
from vicreg.data.signal_source import OpenedSignal, Signal, SignalSource


class SignalSubset(SignalSource):
    """Some signals of a source, in the order given.

    Args:
        source: The signals.
        rows: Which of them.
    """

    def __init__(self, source: SignalSource, rows: NDArray[np.int64]) -> None:
        self.source = source
        self.rows = rows
        self.names = [source.names[row] for row in rows]
        self.labels = None if source.labels is None else source.labels[rows]
        self.groups = None if source.groups is None else source.groups[rows]
        self.rate, self.channels, self.sound, self.rates = source.rate, source.channels, source.sound, source.rates
        self.columns = source.columns

    def opened(self, index: int) -> OpenedSignal:
        """One signal, its header read."""
        return self.source.opened(int(self.rows[index]))

    def evidence(self) -> Iterator[bytes]:
        """That of the source."""
        return self.source.evidence()


class Gathered(NamedTuple):
    """Signals in memory.

    Attributes:
        array: (n, channels, longest) float32; beyond a signal's end it is 0.
        lengths: (n,) int64 samples of each.
        rows: (n,) int64 which rows of the source they are.
    """

    array: NDArray[np.float32]
    lengths: NDArray[np.int64]
    rows: NDArray[np.int64]


def gathered(source: SignalSource, most_bytes: int, ledger: Corrupt, workers: int) -> Gathered | None:
    """All signals in one array, if it takes no more than so many bytes.

    Args:
        source: The signals.
        most_bytes: The limit.
        ledger: Counts those that cannot be read, which are left out.
        workers: Threads that read them.

    Returns:
        The signals; None where there are too many, or they are too long.

    Raises:
        ValueError: Too many are corrupt, or all of them.
    """

    def bytes_for(longest: int) -> int:
        return 4 * len(source) * source.channels * longest

    def samples(row: int) -> Signal | None:
        try:
            return source.read(row)
        except CorruptImage as error:
            ledger.add(error)
            return None

    longest = max((_length(source, row) for row in spread(len(source))), default=0)
    if bytes_for(longest) > most_bytes:
        return None
    found: list[Signal | None] = []
    with ThreadPoolExecutor(workers, "vicreg-signals") as pool:
        for signal in pool.map(samples, range(len(source))):
            found.append(signal)
            longest = longest if signal is None else max(longest, signal.shape[1])
            if bytes_for(longest) > most_bytes:
                pool.shutdown(cancel_futures=True)
                return None
    rows = [row for row, signal in enumerate(found) if signal is not None]
    lengths = np.array([0 if signal is None else signal.shape[1] for signal in found], np.int64)[rows]
    array = np.zeros((len(rows), source.channels, int(lengths.max(initial=0))), np.float32)
    for place, row in enumerate(rows):
        array[place, :, : lengths[place]] = found[row]
        found[row] = None  # so that memory holds most signals once
    return Gathered(array, lengths, np.asarray(rows, np.int64))


def some_signals(source: SignalSource) -> Iterator[OpenedSignal]:
    """Some signals that are spread over the source; those that cannot be read are left out."""
    for row in spread(len(source)):
        with suppress(CorruptImage):
            yield source.opened(row)


def length_at(source: SignalSource, share: float) -> int:
    """So long is the given share of some signals that are spread over the source, at most.

    Args:
        source: The signals.
        share: 0.5 for the median length, 1 for the longest.

    Raises:
        CorruptSignal: None of them can be read.
    """
    lengths = sorted(length for row in spread(len(source)) if (length := _length(source, row)))
    if not lengths:
        source.length(0)  # says what is wrong with it
    return lengths[round(share * (len(lengths) - 1))]


def _length(source: SignalSource, row: int) -> int:
    try:
        return source.length(row)
    except CorruptImage:
        return 0
