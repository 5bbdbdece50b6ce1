"""Views of sounds as log-mel spectrograms: those of the waveform, and what is done to the spectrogram after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from vicreg._checks import check_integer, check_number
from vicreg.views.signal import SignalView, between, check_generator, check_range
from vicreg.views.signal_steps import mixed_powers, spans, stretched
from vicreg.views.spectrogram import Mel, log_mel

Pair = tuple[float, float]


@dataclass(frozen=True)
class SpectrogramView:
    """One view of a batch of sounds as log-mel spectrograms: the waveform's view, log-mel, mix, resize, masks.

    Attributes:
        wave: The view of the waveform, whose crops these are.
        mel: Settings of the spectrogram.
        mix: Another sound of the batch is added with a share of the power that is uniform between 0 and this, in
            [0, 1).
        resize: Least and greatest height and width of a rectangle that is resized to the whole, over those of the
            spectrogram and uniform between; (1, 1) for none. It lies at random, in height within the spectrogram, in
            width within one and a half of it.
        bands: Number of frequency masks: bands that are set to the mean.
        band: Greatest width of one, as a share of all; it is uniform from 0. In [0, 1].
        masks: Number of time masks.
        mask: Greatest width of one, as a share of the crop.
        mean: Of the logarithms of power; subtracted before the rectangle is resized.
        std: What is then divided by.

    Raises:
        ValueError: A setting is out of its range.

    Example:
        >>> view = SpectrogramView(SignalView(4000), Mel.at(8000), bands=1, band=0.2)
        >>> view(torch.randn(4, 1, 8000), Generator().manual_seed(0)).shape
        torch.Size([4, 1, 64, 51])
    """

    wave: SignalView
    mel: Mel
    mix: float = 0.0
    resize: Pair = (1.0, 1.0)
    bands: int = 0
    band: float = 0.2
    masks: int = 0
    mask: float = 0.2
    mean: float = -10.0
    std: float = 5.0

    def __post_init__(self) -> None:
        check_number("mix", self.mix, 0, 0.999)
        check_range("resize", self.resize, 0.01, 100.0)
        check_integer("bands", self.bands, 0)
        check_integer("masks", self.masks, 0)
        check_number("band", self.band, 0, 1)
        check_number("mask", self.mask, 0, 1)
        check_number("mean", self.mean)
        check_number("std", self.std, 0, open_low=True)

    @property
    def length(self) -> int:
        """Samples of a crop."""
        return self.wave.length

    @property
    def finishes_at_random(self) -> bool:
        """Whether ``finish`` needs a generator."""
        own = bool(self.mix or self.bands or self.masks or self.resize != (1.0, 1.0))
        return own or self.wave.finishes_at_random

    def still(self, length: int | None = None) -> SpectrogramView:
        """The view for embedding, as ``SignalView.still``."""
        return SpectrogramView(self.wave.still(length), self.mel, mean=self.mean, std=self.std)

    def scaled(self, crops: Tensor) -> SpectrogramView:
        """This view with the mean and deviation that the spectrograms of some crops have.

        Args:
            crops: (b, channels, time).
        """
        found = log_mel(self.wave.still().finish(crops), self.mel)
        std = float(found.std(correction=0))
        return replace(self, mean=float(found.mean()), std=std if std > 1e-3 else 1.0)

    def draw(self, count: int, generator: Generator) -> Tensor:
        """As ``SignalView.draw``."""
        return self.wave.draw(count, generator)

    def span(self, time: int, u: Sequence[float] = ()) -> tuple[int, int]:
        """As ``SignalView.span``."""
        return self.wave.span(time, u)

    def crop_one(self, part: NDArray[np.float32], start: int) -> Tensor:
        """As ``SignalView.crop_one``."""
        return self.wave.crop_one(part, start)

    def crop(self, signals: Tensor, u: Tensor | None = None, lengths: Tensor | None = None) -> Tensor:
        """As ``SignalView.crop``."""
        return self.wave.crop(signals, u, lengths)

    def finish(self, crops: Tensor, generator: Generator | None = None) -> Tensor:
        """Crops to what an encoder eats. What the view never does is not drawn for either.

        Args:
            crops: (b, channels, time).
            generator: On the crops' device; needed by a view that draws.

        Returns:
            (b, channels, n_mels, 1 + time // hop) float32, about standardised.

        Raises:
            ValueError: Another shape, or no generator.
        """
        x = log_mel(self.wave.finish(crops, generator), self.mel)
        count = len(x)
        if self.mix and count > 1:
            check_generator(generator)
            # A shift that is the same for all gives each another one, whatever it is.
            shift = torch.randint(1, count, (1,), generator=generator, device=x.device)
            others = (torch.arange(count, device=x.device) + shift) % count
            shares = torch.rand(count, generator=generator, device=x.device) * self.mix
            x = mixed_powers(x, x[others], shares)
        x = x.sub_(self.mean).div_(self.std)
        if count == 0:
            return x
        if self.resize != (1.0, 1.0):
            x = self._resized(x, generator)
        for number, share, axis in ((self.bands, self.band, 2), (self.masks, self.mask, 3)):
            if number:
                check_generator(generator)
                where = torch.rand(count, number, 2, generator=generator, device=x.device)
                beyond = (~spans(where, share, x.shape[axis])).to(x)
                x *= beyond[:, None, :, None] if axis == 2 else beyond[:, None, None]
        return x

    def _resized(self, x: Tensor, generator: Generator | None) -> Tensor:
        check_generator(generator)
        u = torch.rand(2, len(x), 2, generator=generator, device=x.device)
        most = x.new_tensor(CANVAS)
        scale = torch.minimum(between(self.resize, u[0]), most)
        return stretched(x, scale, (2 * u[1] - 1) * (most - scale))

    def __call__(self, signals: Tensor, generator: Generator, lengths: Tensor | None = None) -> Tensor:
        """One view of each sound, (b, channels, n_mels, frames): ``finish(crop(signals, draw(...)))``."""
        return self.finish(self.crop(signals, self.draw(len(signals), generator), lengths), generator)


CANVAS = (1.0, 1.5)
"""Height and width of what rectangles are cut out of, over those of the spectrogram, which lies in its middle."""
