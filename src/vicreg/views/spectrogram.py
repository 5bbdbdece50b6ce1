"""Log-mel spectrograms of batches of sounds, on the device.

The filters follow the two conventions that are in use: HTK's (mel = 2595 log10(1 + f/700)) and that of Slaney's
Auditory Toolbox (linear below 1 kHz, logarithmic above), which librosa has as its default; with ``norm="slaney"`` each
triangle has an area of 1 Hz instead of a peak of 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vicreg._checks import check_choice, check_integer, check_number, require

SCALES = ("htk", "slaney")
NORMS = ("none", "slaney")

LINEAR_UP_TO = 1000.0
HERTZ_PER_MEL = 200 / 3
LOG_STEP = float(np.log(6.4)) / 27
"""Slaney's scale: 200/3 Hz a mel up to 1000 Hz, which is 15 mels; above, 27 mels for each factor of 6.4."""


IN_CACHE = 2**17
"""On a CPU, each thread takes as many signals at a time as have so many complex numbers: the passes over them then stay
in the processor's cache, which took .46 to .7 of the time."""


@dataclass(frozen=True)
class Mel:
    """How a log-mel spectrogram is made. The defaults are for 16 kHz, close to BYOL-A's (arXiv:2103.06695).

    Attributes:
        rate: Samples a second.
        n_mels: Number of bands.
        n_fft: Samples of a Fourier transform, even.
        hop: Samples between two frames.
        window: Samples of the Hann window, at most ``n_fft``; None for ``n_fft``.
        low: Lowest frequency of the bands in Hz.
        high: Highest; None for half the rate.
        scale: "htk" or "slaney": where the bands lie.
        norm: "none", or "slaney": whether a band's triangle has a height or an area of 1.
        floor: Powers below this count as this, so that silence has a logarithm.

    Raises:
        ValueError: A setting is out of range, or does not go with another.

    Example:
        >>> Mel.at(8000)
        Mel(rate=8000, n_mels=64, n_fft=512, hop=80, window=256, low=60.0, high=None, scale='htk', norm='none',
        floor=1e-07)
    """

    rate: int = 16000
    n_mels: int = 64
    n_fft: int = 1024
    hop: int = 160
    window: int | None = None
    low: float = 60.0
    high: float | None = None
    scale: str = "htk"
    norm: str = "none"
    floor: float = 1e-7

    def __post_init__(self) -> None:
        check_integer("rate", self.rate, 1)
        check_integer("n_mels", self.n_mels, 1)
        check_integer("n_fft", self.n_fft, 2)
        require(self.n_fft % 2 == 0, "n_fft", "be even", self.n_fft)
        check_integer("hop", self.hop, 1)
        if self.window is not None:
            check_integer("window", self.window, 1, self.n_fft)
        check_number("low", self.low, 0)
        check_choice("scale", self.scale, SCALES)
        check_choice("norm", self.norm, NORMS)
        check_number("floor", self.floor, 0, open_low=True)
        top = self.top
        check_number("high", top, 0, self.rate / 2, open_low=True)
        require(self.low < top, "low", f"be below high, {top:g} Hz", self.low)

    @property
    def top(self) -> float:
        """Highest frequency of the bands in Hz."""
        return self.rate / 2 if self.high is None else self.high

    def frames(self, time: int) -> int:
        """Frames of a signal of so many samples."""
        return 1 + time // self.hop

    @classmethod
    def at(cls, rate: int, n_mels: int = 64, milliseconds: float = 10.0) -> Mel:
        """Settings for a rate: a frame every so many milliseconds, of windows 3.2 times as long.

        The transform has twice the samples that the window needs (to a power of 2), so that low bands hold some bins.

        Args:
            rate: Samples a second, at least 1000.
            n_mels: Number of bands.
            milliseconds: From frame to frame.
        """
        check_integer("rate", rate, 1000)
        hop = max(1, round(rate * check_number("milliseconds", milliseconds, 0, open_low=True) / 1000))
        window = max(4, round(3.2 * hop))
        return cls(rate, n_mels, n_fft=2 << (window - 1).bit_length(), hop=hop, window=window)


def hertz_to_mel(frequency: Any, scale: str) -> NDArray[np.float64]:
    """Frequencies in Hz as mels.

    Example:
        >>> hertz_to_mel([0.0, 1000.0, 6400.0], "slaney").round(9).tolist()
        [0.0, 15.0, 42.0]
    """
    frequency = np.asarray(frequency, dtype=np.float64)
    if scale == "htk":
        return np.asarray(2595.0 * np.log10(1.0 + frequency / 700.0))
    above = LINEAR_UP_TO / HERTZ_PER_MEL + np.log(np.maximum(frequency, LINEAR_UP_TO) / LINEAR_UP_TO) / LOG_STEP
    return np.asarray(np.where(frequency < LINEAR_UP_TO, frequency / HERTZ_PER_MEL, above))


def mel_to_hertz(mel: Any, scale: str) -> NDArray[np.float64]:
    """Mels as frequencies in Hz.

    Example:
        >>> mel_to_hertz([0.0, 15.0, 42.0], "slaney").round(9).tolist()
        [0.0, 1000.0, 6400.0]
    """
    mel = np.asarray(mel, dtype=np.float64)
    if scale == "htk":
        return np.asarray(700.0 * (10.0 ** (mel / 2595.0) - 1.0))
    knee = LINEAR_UP_TO / HERTZ_PER_MEL
    above = LINEAR_UP_TO * np.exp(LOG_STEP * (np.maximum(mel, knee) - knee))
    return np.asarray(np.where(mel < knee, mel * HERTZ_PER_MEL, above))


def mel_filters(mel: Mel) -> NDArray[np.float64]:
    """Triangles over the bins of a Fourier transform, evenly spaced in mels, (n_mels, n_fft // 2 + 1).

    Each rises from the middle of the band before it to its own and falls to the middle of the one after. A band that
    is narrower than the bins may hold none; its power is then 0 and its logarithm the floor's.

    Example:
        >>> filters = mel_filters(Mel(8000, n_mels=2, n_fft=8, low=0.0))
        >>> filters.shape, int((filters > 0).sum())
        ((2, 5), 4)
    """
    ends = hertz_to_mel([mel.low, mel.top], mel.scale)
    edges = mel_to_hertz(np.linspace(ends[0], ends[1], mel.n_mels + 2), mel.scale)
    bins = np.arange(mel.n_fft // 2 + 1) * (mel.rate / mel.n_fft)
    below, middle, above = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    filters = np.maximum(0.0, np.minimum((bins - below) / (middle - below), (above - bins) / (above - middle)))
    return np.asarray(filters * (2.0 / (above - below)) if mel.norm == "slaney" else filters)


@lru_cache(maxsize=16)
def _tables(mel: Mel, device: torch.device) -> tuple[Tensor, Tensor, slice]:
    """The window, the filters as (bins, n_mels), and which bins these are: from the first that counts on."""
    window = torch.hann_window(mel.window or mel.n_fft, dtype=torch.float64).float()
    filters = mel_filters(mel).T.astype(np.float32)
    used = np.flatnonzero(filters.any(axis=1))
    bins = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 1)
    return window.to(device), torch.from_numpy(filters[bins]).to(device), bins


def power_spectrogram(signals: Tensor, mel: Mel, bins: slice = slice(None)) -> Tensor:
    """Squared magnitudes of the short-time Fourier transform.

    Frame k is centred on sample ``k * hop``; beyond its ends a signal counts as 0. A window shorter than the transform
    stands in its middle.

    Args:
        signals: (n, time) float32.
        mel: Settings.
        bins: Which of the ``n_fft // 2 + 1``.

    Returns:
        (n, 1 + time // hop, bins) float32.
    """
    window, _, _ = _tables(mel, signals.device)
    transformed = torch.stft(
        signals,
        mel.n_fft,
        mel.hop,
        window.numel(),
        window,
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
    some = transformed.transpose(1, 2)[..., bins]
    return some.real.square().addcmul_(some.imag, some.imag)


def _bands(signals: Tensor, mel: Mel) -> Tensor:
    """(n, time) to the logarithms of their bands' powers, (n, frames, n_mels)."""
    _, filters, bins = _tables(mel, signals.device)
    return (power_spectrogram(signals, mel, bins) @ filters).clamp_(min=mel.floor).log_()


def log_mel(signals: Tensor, mel: Mel) -> Tensor:
    """Log-mel spectrograms, in float32 whatever the signals are, a few signals at a time on a CPU.

    Silence is ``log(floor)`` everywhere, and so is what a signal of a few samples leaves empty. No gradient flows.

    Args:
        signals: (b, channels, time), time at least 1.
        mel: Settings.

    Returns:
        (b, channels, n_mels, 1 + time // hop) natural logarithms of power.

    Raises:
        ValueError: Another shape.

    Example:
        >>> tone = torch.sin(torch.arange(16000) * (2 * torch.pi * 1000 / 16000)).view(1, 1, -1)
        >>> spectrogram = log_mel(tone, Mel())
        >>> spectrogram.shape, int(spectrogram[0, 0, :, 50].argmax())
        (torch.Size([1, 1, 64, 101]), 20)
    """
    right = signals.ndim == 3 and 0 not in signals.shape[1:]
    require(right, "signals", "have shape (b, channels, time)", tuple(signals.shape))
    if len(signals) == 0:  # which the transform does not take
        return signals.new_zeros(*signals.shape[:2], mel.n_mels, mel.frames(signals.shape[-1]), dtype=torch.float32)
    with torch.no_grad(), torch.autocast(signals.device.type, enabled=False):
        flat = signals.reshape(-1, signals.shape[-1]).float()
        at_once = len(flat)
        if flat.device.type == "cpu":
            size = mel.frames(flat.shape[-1]) * (mel.n_fft // 2 + 1)
            at_once = max(1, torch.get_num_threads() * IN_CACHE // size)
        bands = torch.cat([_bands(some, mel) for some in torch.split(flat, at_once)])
        return bands.transpose(1, 2).reshape(*signals.shape[:2], mel.n_mels, -1)
