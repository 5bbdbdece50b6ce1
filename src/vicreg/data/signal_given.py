"""Signals that lie in memory: the columns of an array, of several arrays of different length, or cut out of one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicreg._checks import check_number, message, require, shown
from vicreg.data.signal_source import SHORTEST, CorruptSignal, OpenedSignal, Signal, SignalSource

SLOWEST_SOUND = 4000
"""What has so many samples a second at least is taken for sound, unless somebody says otherwise."""
HASHED = 1024
"""A fingerprint takes in so many signals, evenly spread."""

FULL_SCALE: dict[str, tuple[float, float]] = {
    "int16": (0.0, 2.0**-15),
    "int32": (0.0, 2.0**-31),
    "uint8": (128.0, 2.0**-7),
}
"""What is subtracted from samples of sound, and what they are multiplied by, by their type in memory; others come as
they are."""


class GivenSignals(SignalSource):
    """Signals given as an array, or one by one where they differ in length.

    Args:
        signals: (n, time) or (n, channels, time) numbers; or a list of arrays (time,) or (channels, time).
        labels: (n,) classes; to judge by, never to learn from.
        rate: Samples a second, if they are known.
        names: What each is called; None for its number.
        sound: Whether these are sounds, so that 16-bit numbers (and 32-bit, and bytes) are scaled to -1 to 1; None if
            there are 4000 a second at least.
        faults: What is wrong with some: by their number, the rule and what was got instead.

    Raises:
        TypeError: They are no real numbers.
        ValueError: There are none, they are of a single sample, differ in channels, or there are more or fewer labels.

    Example:
        >>> source = GivenSignals([np.zeros(5, np.int16), np.full(8, 2**14, np.int16)], rate=8000)
        >>> source.length(0), source.read_crop(1, 6, 4).tolist()
        (5, [[0.5, 0.5]])
    """

    def __init__(
        self,
        signals: NDArray[Any] | Sequence[Any],
        labels: NDArray[Any] | None = None,
        rate: float | None = None,
        names: Sequence[str] | None = None,
        sound: bool | None = None,
        faults: Mapping[int, tuple[str, str]] | None = None,
    ) -> None:
        require(len(signals) > 0, "the signals", "be at least one", "none")
        items = [_checked(signals[0])] if isinstance(signals, np.ndarray) else [_checked(item) for item in signals]
        rule, fix = f"have {SHORTEST} samples at least", "Time is the last axis."
        require(max(item.shape[-1] for item in items) >= SHORTEST, "signals", rule, "one at most", fix)
        counts = {1 if item.ndim == 1 else item.shape[0] for item in items}
        require(len(counts) == 1, "signals", "have as many channels each", sorted(counts))
        self._items = signals if isinstance(signals, np.ndarray) else items
        self._faults = faults or {}
        self.names = names or [str(index) for index in range(len(signals))]
        self.channels = counts.pop()
        self.rate = None if rate is None else check_number("rate", rate, 0, open_low=True)
        self.sound = (rate or 0) >= SLOWEST_SOUND if sound is None else sound
        if labels is not None:
            require(len(labels) == len(self), "labels", f"be {len(self)}, one for each signal", len(labels))
        self.labels = labels

    def opened(self, index: int) -> OpenedSignal:
        """One signal, which is there already."""
        name = self.names[index]
        if index in self._faults:
            rule, got = self._faults[index]
            raise CorruptSignal(name, got, rule)
        item = np.atleast_2d(self._items[index])
        if item.shape[1] < SHORTEST:
            raise CorruptSignal(name, item.shape[1], f"have {SHORTEST} samples at least")

        def decode(begin: int, end: int) -> Signal:
            return _as_float(item[:, begin:end], self.sound)

        return OpenedSignal(name, self.channels, item.shape[1], decode)

    def evidence(self) -> Iterator[bytes]:
        """The lengths, and the numbers of some signals."""
        yield repr((len(self), self.channels)).encode()
        for index in range(0, len(self), -(-len(self) // HASHED)):
            item = np.ascontiguousarray(self._items[index])
            yield repr((item.shape, item.dtype.str)).encode()
            yield hashlib.blake2b(item.tobytes()).digest()


def _checked(item: Any) -> NDArray[Any]:
    array = np.asarray(item)
    require(array.dtype.kind in "biuf", "signals", "be real numbers", array.dtype, error=TypeError)
    fits = array.ndim in (1, 2) and array.shape[0] > 0
    fix = "One signal goes into a list: [signal]."
    require(fits, "a signal", "have shape (time,) or (channels, time)", array.shape, fix)
    return array


def _as_float(samples: NDArray[Any], sound: bool) -> Signal:
    """(channels, time) float32 in memory of its own."""
    offset, factor = FULL_SCALE.get(samples.dtype.name, (0.0, 1.0)) if sound else (0.0, 1.0)
    with np.errstate(over="ignore"):  # what becomes infinite is found and named by whoever asked
        floats = np.array(samples, dtype=np.float32, order="C")
    if offset:
        floats -= np.float32(offset)
    if factor != 1:
        floats *= np.float32(factor)
    return floats


def cut_up(flat: NDArray[Any], offset: NDArray[Any], what: str) -> list[NDArray[Any]]:
    """Signals of different length that lie one behind the other, as views.

    Args:
        flat: (total,) or (channels, total) numbers.
        offset: (n + 1,) where each begins, and where the last one ends.
        what: The offsets' name, for errors.

    Raises:
        ValueError: They do not rise from 0 to the total.

    Example:
        >>> [part.tolist() for part in cut_up(np.arange(5), np.array([0, 2, 5]), "offset")]
        [[0, 1], [2, 3, 4]]
    """
    total = flat.shape[-1]
    right = len(offset) > 1 and offset[0] == 0 and offset[-1] == total and bool((offset[1:] >= offset[:-1]).all())
    if not right:
        rule = f"rise from 0 to the number of samples, {total}"
        raise ValueError(message(what, rule, f"{shown(offset[:2].tolist())} to {shown(offset[-1:].tolist())}"))
    return [flat[..., begin:end] for begin, end in zip(offset[:-1].tolist(), offset[1:].tolist(), strict=True)]
