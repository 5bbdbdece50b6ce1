"""Views of sounds and other signals, batched, on the device, from a generator.

A view is two steps. ``crop`` takes a part of each signal to one length: in memory, or in the worker that reads a file,
where ``span`` says which part is wanted, so that of a long recording no more is decoded, and ``crop_one`` takes it to
the length. ``finish`` does everything after that on the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from vicreg._checks import check_integer, check_number, message, require, shown
from vicreg.views.colour import constant
from vicreg.views.signal_steps import from_decibels, noisy, rolled, spans, windows

Pair = tuple[float, float]


@dataclass(frozen=True)
class SignalView:
    """One view of a batch of signals: crop, standardise, shift, gain, polarity, noise, time masks.

    A signal shorter than the crop is surrounded by its mean (by silence, for sounds), at random or evenly.

    Attributes:
        length: Samples of a crop.
        centre: Whether the crop is the middle of the signal rather than a part drawn at random.
        shift: The signal is moved by a share of its length, uniform within +- this, what leaves at one end coming in at
            the other; in [0, 0.5].
        gain: Least and greatest gain in decibels, uniform between.
        polarity: Probability of the signal times -1.
        noise: Probability of white noise in all channels.
        snr: Least and greatest ratio of the signal's power to the noise's in decibels, uniform between.
        masks: Number of time masks: spans that are set to the mean.
        mask: Greatest width of a mask, as a share of the crop; it is uniform from 0. In [0, 1].
        mean: Of each channel, subtracted first; one number holds for all.
        std: What is then divided by.

    Raises:
        ValueError: A setting is out of its range.

    Example:
        >>> view = SignalView(100, polarity=0.5, gain=(-6.0, 6.0))
        >>> view(torch.randn(4, 1, 250), Generator().manual_seed(0)).shape
        torch.Size([4, 1, 100])
    """

    length: int
    centre: bool = False
    shift: float = 0.0
    gain: Pair = (0.0, 0.0)
    polarity: float = 0.0
    noise: float = 0.0
    snr: Pair = (10.0, 40.0)
    masks: int = 0
    mask: float = 0.1
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        check_integer("length", self.length, 1)
        check_integer("masks", self.masks, 0)
        check_number("shift", self.shift, 0, 0.5)
        for name in ("polarity", "noise", "mask"):
            check_number(name, getattr(self, name), 0, 1)
        check_range("gain", self.gain)
        check_range("snr", self.snr)
        same = 0 < len(self.mean) == len(self.std)
        require(
            same, "mean and std", "be as many numbers as there are channels", f"{len(self.mean)} and {len(self.std)}"
        )
        for value in self.mean:
            check_number("mean", value)
        for value in self.std:
            check_number("std", value, 0, open_low=True)

    @property
    def finishes_at_random(self) -> bool:
        """Whether ``finish`` needs a generator."""
        return bool(self.shift or any(self.gain) or self.polarity or self.noise or self.masks)

    def still(self, length: int | None = None) -> SignalView:
        """The view for embedding: the middle of the signal, surrounded by its mean if shorter, nothing drawn.

        Args:
            length: Samples of it; None for those of this view. The longest signal's gives each as a whole.
        """
        return SignalView(length or self.length, centre=True, mean=self.mean, std=self.std)

    def draw(self, count: int, generator: Generator) -> Tensor:
        """Numbers for ``crop``, ``span`` and ``crop_one``, (count, 1) in [0, 1), float64, on the generator's device."""
        return torch.rand(count, 1, generator=generator, device=generator.device, dtype=torch.float64)

    def span(self, time: int, u: Sequence[float] = ()) -> tuple[int, int]:
        """First sample and number of samples of the crop of a signal that has so many; the first may be negative.

        Args:
            time: Samples of the signal.
            u: The signal's row of ``draw``; needed unless the view is of the middle.
        """
        room = abs(time - self.length)
        _check_numbers(1 if self.centre else len(u))
        place = room // 2 if self.centre else min(int(u[0] * (room + 1)), room)
        return (place if time >= self.length else -place), self.length

    def crop_one(self, part: NDArray[np.float32], start: int) -> Tensor:
        """One signal's part as its crop, (channels, length) float32 on the CPU: for workers.

        Args:
            part: (channels, any), what a source gave for ``span``: samples before the beginning of the signal and after
                its end are missing.
            start: The first of ``span``.
        """
        found = torch.from_numpy(np.ascontiguousarray(part))
        crop = self._fill(len(part)).to(found)[:, None].repeat(1, self.length)
        begin = max(0, -start)
        crop[:, begin : begin + part.shape[1]] = found
        return crop

    def crop(self, signals: Tensor, u: Tensor | None = None, lengths: Tensor | None = None) -> Tensor:
        """Signals (b, channels, time) to crops (b, channels, length), on their device.

        Args:
            signals: Of one length, or padded to it.
            u: Numbers from ``draw``, one row for each; needed unless the view is of the middle.
            lengths: (b,) int64 samples of each signal, on the same device; None for ``time``.

        Raises:
            ValueError: Another shape, or no numbers.
        """
        check_signals(signals)
        count, channels, time = signals.shape
        if lengths is None:
            lengths = torch.full((count,), time, device=signals.device)
        room = (lengths - self.length).abs()
        if self.centre or u is None:
            _check_numbers(1 if self.centre else 0)
            place = room // 2
        else:
            require(u.shape == (count, 1), "u", f"have shape {(count, 1)}", tuple(u.shape), DRAW)
            place = torch.minimum((u[:, 0].to(signals.device) * (room + 1)).long(), room)
        starts = torch.where(lengths >= self.length, place, -place)
        return windows(signals, starts, self.length, lengths, self._fill(channels))

    def finish(self, crops: Tensor, generator: Generator | None = None) -> Tensor:
        """Crops to what an encoder eats. What the view never does is not drawn for either.

        Args:
            crops: (b, channels, time); any time will do.
            generator: On the crops' device; needed by a view that draws.

        Returns:
            (b, channels, time) float32.

        Raises:
            ValueError: Another shape, or no generator.
        """
        check_signals(crops)
        self._fill(crops.shape[1])  # complains of other channels
        count, device = len(crops), crops.device
        x = crops.float()
        if any(self.mean) or set(self.std) != {1.0}:
            mean, scale = (constant(numbers, device)[:, None] for numbers in (self.mean, self.std))
            x = (x - mean) / scale
        if not self.finishes_at_random or count == 0:
            return x
        check_generator(generator)
        u = torch.rand(5, count, generator=generator, device=device)
        if self.shift:
            x = rolled(x, ((2 * u[0] - 1) * (self.shift * x.shape[2])).round().long())
        if any(self.gain) or self.polarity:
            factor = from_decibels(between(self.gain, u[1]))
            x = x * torch.where(u[2] < self.polarity, -factor, factor)[:, None, None]
        if self.noise:
            noise = torch.randn(x.shape, generator=generator, device=device)
            x = noisy(x, noise, between(self.snr, u[3]), u[4] < self.noise)
        if self.masks:
            where = torch.rand(count, self.masks, 2, generator=generator, device=device)
            x = x.masked_fill(spans(where, self.mask, x.shape[2])[:, None], 0.0)
        return x

    def __call__(self, signals: Tensor, generator: Generator, lengths: Tensor | None = None) -> Tensor:
        """One view of each signal, (b, channels, length) float32: ``finish(crop(signals, draw(...)))``."""
        return self.finish(self.crop(signals, self.draw(len(signals), generator), lengths), generator)

    def _fill(self, channels: int) -> Tensor:
        rule = f"have {len(self.mean)} channels, as the view's mean and std"
        require(len(self.mean) in (1, channels), "signals", rule, channels)
        return torch.tensor(self.mean).expand(channels)


DRAW = "Pass the view's draw(count, generator), or one of its rows for one signal."


def check_signals(signals: Tensor) -> None:
    """Whether a batch is (b, channels, time), with one channel and sample at least.

    Raises:
        ValueError: It has another shape.
    """
    right = signals.ndim == 3 and 0 not in signals.shape[1:]
    require(right, "signals", "have shape (b, channels, time)", tuple(signals.shape))


def check_generator(generator: Generator | None) -> None:
    """Whether there is one.

    Raises:
        ValueError: There is none.
    """
    if generator is None:
        rule = "be given to a view that draws"
        raise ValueError(message("generator", rule, None, "Pass a torch.Generator on the signals' device."))


def check_range(name: str, limits: Pair, low: float = -200.0, high: float = 200.0) -> None:
    """Whether two numbers rise and lie within limits.

    Raises:
        ValueError: They do not.
        TypeError: One is no number.
    """
    require(len(limits) == 2, name, "be two numbers, least and greatest", shown(limits))
    least, most = (check_number(name, number, low, high) for number in limits)
    require(least <= most, name, "rise from least to greatest", shown(limits))


def between(limits: Pair, u: Tensor) -> Tensor:
    """Uniform numbers in [0, 1) as such between limits.

    Example:
        >>> between((-2.0, 2.0), torch.tensor([0.0, 0.5]))
        tensor([-2.,  0.])
    """
    return limits[0] + u * (limits[1] - limits[0])


def _check_numbers(count: int) -> None:
    require(count == 1, "u", "be one number for each signal", count, DRAW)
