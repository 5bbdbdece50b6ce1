"""The scale of signals: mean and deviation of each channel, which standardise those to come; kept as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vicreg._checks import listed, message, require, shown
from vicreg.data.corrupt import CorruptImage
from vicreg.data.sampled import spread
from vicreg.data.signal import are_recordings
from vicreg.data.signal_array import rate_in
from vicreg.data.signal_source import SignalSource

PIECE = 2**16
"""Samples of each signal that are looked at, from its middle."""


@dataclass(frozen=True)
class SignalSpec:
    """What signals must be like to be understood as those of the fit were, and how they are scaled.

    Attributes:
        channels: Of each signal.
        rate: Samples a second; None where nobody knew.
        sound: Whether they are sounds, which keep their scale (full scale is -1 to 1): mean 0, deviation 1.
        mean: Of each channel.
        std: Of each channel, above 0: 1 for a constant one.
        columns: The columns that the channels were in a long table.

    Example:
        >>> spec = SignalSpec(1, 100.0, False, (0.5,), (2.0,))
        >>> SignalSpec.from_json(spec.to_json()) == spec
        True
    """

    channels: int
    rate: float | None
    sound: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        right = self.channels >= 1 and len(self.mean) == len(self.std) == self.channels
        right = right and all(map(math.isfinite, (*self.mean, *self.std, self.rate or 1.0))) and min(self.std) > 0
        right = right and (self.rate is None or self.rate > 0)
        require(right, "the specification of signals", "have finite scales of each channel", shown(self.to_json()))

    def to_json(self) -> dict[str, Any]:
        """All of it, as JSON can hold it."""
        return {
            "channels": self.channels,
            "rate": self.rate,
            "sound": self.sound,
            "mean": list(self.mean),
            "std": list(self.std),
            "columns": list(self.columns),
        }

    @classmethod
    def from_json(cls, record: object) -> SignalSpec:
        """The specification that ``to_json`` wrote.

        Raises:
            ValueError: It is not one that ``to_json`` writes.
        """
        try:
            known: dict[str, Any] = dict(record)  # type: ignore[call-overload]  # what is none raises
            rate = known.pop("rate")
            spec = cls(
                int(known.pop("channels")),
                None if rate is None else float(rate),
                bool(known.pop("sound")),
                tuple(map(float, known.pop("mean"))),
                tuple(map(float, known.pop("std"))),
                tuple(map(str, known.pop("columns"))),
            )
        except (TypeError, ValueError, KeyError, OverflowError) as error:
            what, rule = "the specification of signals", "be one that to_json writes"
            raise ValueError(message(what, rule, shown(record))) from error
        require(not known, "the specification of signals", "be one that to_json writes", shown(record))
        return spec

    def check(self, source: SignalSource) -> None:
        """Whether signals are like those of the fit.

        Raises:
            ValueError: They have other channels or the same in another order, are scaled as sounds and those of the fit
                are not, or the other way round; or, where both are known, they have another rate.
        """
        count = "1 channel" if self.channels == 1 else f"{self.channels} channels"
        named = f"They are {listed(self.columns, 20)}, in this order." if self.columns else ""
        require(source.channels == self.channels, "signals", f"have {count}", source.channels, named)
        permuted = source.columns != self.columns and sorted(source.columns) == sorted(self.columns)
        rule = f"have the channels {listed(self.columns)} in this order"
        require(not permuted, "signals", rule, listed(source.columns), "Name them by values.")
        if self.rate is not None and source.rate is not None:
            same = math.isclose(source.rate, self.rate, rel_tol=1e-3)
            fix = "Read them at that rate, or resample them."
            require(same, "signals", f"have {self.rate:g} samples a second", f"{source.rate:g}", fix)
        kinds = {True: "sounds", False: "series that are no sounds"}
        rule, fix = f"be {kinds[self.sound]}, as those of the fit", "Sounds are known by their files, or their rate."
        require(source.sound == self.sound, "signals", rule, kinds[source.sound], fix)

    def how_to_read(self, path: str | Path) -> dict[str, Any]:
        """What to give to :func:`vicreg.data.read_signals`, for signals like those of the fit.

        Recordings are resampled and mixed; arrays and lists are scaled as those of the fit, and have their rate unless
        they say another.

        Args:
            path: Of the signals; no long table.

        Raises:
            ValueError: The file is damaged.

        Example:
            >>> spec = SignalSpec(1, 8000.0, True, (0.0,), (1.0,))
            >>> spec.how_to_read("dog.wav")
            {'rate': 8000, 'channels': 1}
            >>> spec.how_to_read("dogs.npy")
            {'rate': 8000.0, 'sound': True}
        """
        if are_recordings(path):
            return {"rate": None if self.rate is None else round(self.rate), "channels": self.channels}
        return {"rate": rate_in(path) or self.rate, "sound": self.sound}


def fit_signal_spec(source: SignalSource, rows: Sequence[int] | None = None) -> SignalSpec:
    """The scale of some signals: of the middle of 64 that are spread over the source, each of as much weight as long.

    Args:
        source: The signals.
        rows: Those that may be looked at; None for all.

    Raises:
        CorruptSignal: None of those looked at can be read.

    Example:
        >>> from vicreg.data.signal_given import GivenSignals
        >>> fit_signal_spec(GivenSignals(np.array([[[1.0, 3.0], [5.0, 5.0]]])))
        SignalSpec(channels=2, rate=None, sound=False, mean=(2.0, 5.0), std=(1.0, 1.0), columns=())
    """
    zeros, ones = (0.0,) * source.channels, (1.0,) * source.channels
    if source.sound:
        return SignalSpec(source.channels, source.rate, True, zeros, ones, source.columns)
    count, total, squares = 0, np.zeros(source.channels), np.zeros(source.channels)
    chosen = range(len(source)) if rows is None else rows
    pieces, failure = [], None
    for place in spread(len(chosen)):
        try:
            opened = source.opened(int(chosen[place]))
            pieces.append(opened.part(max(0, (opened.length - PIECE) // 2), PIECE).astype(np.float64))
        except CorruptImage as error:
            failure = failure or error
    if failure is not None and not pieces:
        raise failure
    count = sum(piece.shape[1] for piece in pieces)
    total = sum((piece.sum(1) for piece in pieces), total)
    mean = total / count
    squares = sum((((piece - mean[:, None]) ** 2).sum(1) for piece in pieces), squares)
    std = np.sqrt(squares / count)
    # A constant channel's deviation is what rounding left of it.
    std[std <= 1e-7 * np.abs(mean)] = 1.0
    std[std == 0] = 1.0
    return SignalSpec(source.channels, source.rate, False, tuple(mean.tolist()), tuple(std.tolist()), source.columns)
