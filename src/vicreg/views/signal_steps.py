"""What views do to batches of signals and spectrograms: pure functions of the batch and of numbers drawn for it."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def windows(signals: Tensor, starts: Tensor, length: int, lengths: Tensor, fill: Tensor) -> Tensor:
    """From each signal a part of one length; what lies outside the signal is filled.

    Args:
        signals: (b, channels, time).
        starts: (b,) int64 first samples, negative where the part begins before the signal.
        length: Of the parts.
        lengths: (b,) int64 how long each signal is; what follows is not looked at.
        fill: (channels,) values for what lies outside.

    Returns:
        (b, channels, length).

    Example:
        >>> x = torch.tensor([[[1.0, 2.0, 3.0, 0.0]]])
        >>> windows(x, torch.tensor([1]), 3, torch.tensor([3]), torch.tensor([9.0])).tolist()
        [[[2.0, 3.0, 9.0]]]
    """
    # On a CPU slices are copied five times as fast as samples are gathered, of which a GPU knows nothing.
    cut = sliced if signals.device.type == "cpu" else picked
    return cut(signals, starts, length, lengths, fill)


def picked(signals: Tensor, starts: Tensor, length: int, lengths: Tensor, fill: Tensor) -> Tensor:
    """As :func:`windows`, all samples at once."""
    places = starts[:, None] + torch.arange(length, device=signals.device)
    outside = (places < 0) | (places >= lengths[:, None])
    index = places.clamp(0, signals.shape[2] - 1)[:, None].expand(-1, signals.shape[1], -1)
    return torch.where(outside[:, None], fill.to(signals)[:, None], signals.gather(2, index))


def sliced(signals: Tensor, starts: Tensor, length: int, lengths: Tensor, fill: Tensor) -> Tensor:
    """As :func:`windows`, signal by signal."""
    found = signals.new_empty(len(starts), signals.shape[1], length)
    every = zip(signals.unbind(), found.unbind(), starts.tolist(), lengths.tolist(), strict=True)
    for signal, crop, start, time in every:
        begin, end = max(start, 0), min(start + length, time)
        if end - begin < length:
            crop.copy_(fill.to(found)[:, None].expand(-1, length))
        if end > begin:
            crop[:, begin - start : end - start] = signal[:, begin:end]
    return found


def rolled(signals: Tensor, shifts: Tensor) -> Tensor:
    """Each signal later by its shift, what leaves at the end coming in again at the beginning.

    Args:
        signals: (b, channels, time).
        shifts: (b,) int64 samples.

    Example:
        >>> rolled(torch.tensor([[[1, 2, 3]], [[1, 2, 3]]]), torch.tensor([1, -1])).tolist()
        [[[3, 1, 2]], [[2, 3, 1]]]
    """
    time = signals.shape[2]
    places = (torch.arange(time, device=signals.device) - shifts[:, None]) % time
    return signals.gather(2, places[:, None].expand(-1, signals.shape[1], -1))


def from_decibels(decibels: Tensor) -> Tensor:
    """Decibels as the factor of an amplitude.

    Example:
        >>> from_decibels(torch.tensor([0.0, 20.0, -20.0]))
        tensor([ 1.0000, 10.0000,  0.1000])
    """
    return torch.exp(decibels * (math.log(10) / 20))


def noisy(signals: Tensor, noise: Tensor, decibels: Tensor, chosen: Tensor) -> Tensor:
    """Chosen signals with noise, so that each channel's power is so many decibels above it; silence stays silent.

    Args:
        signals: (b, channels, time).
        noise: As many numbers of deviation 1.
        decibels: (b,) ratios of the powers of signal and noise.
        chosen: (b,) bool.

    Example:
        >>> x = torch.full((1, 1, 4), 3.0)
        >>> noisy(x, torch.ones(1, 1, 4), torch.tensor([20.0]), torch.tensor([True]))[0, 0, 0]
        tensor(3.3000)
    """
    amplitude = signals.square().mean(2, keepdim=True).sqrt()
    return torch.addcmul(signals, noise, amplitude * torch.where(chosen, from_decibels(-decibels), 0.0)[:, None, None])


def spans(u: Tensor, most: float, size: int) -> Tensor:
    """Spans of random width and place along an axis: which places lie in any of a sample's.

    Widths are uniform between 0 and the greatest, and places uniform among those where the span fits, as SpecAugment
    (arXiv:1904.08779) has it.

    Args:
        u: (b, spans, 2) in [0, 1): of the width and of the place.
        most: The greatest width as a share of the axis, 0 to 1.
        size: Of the axis.

    Returns:
        (b, size) bool.

    Example:
        >>> spans(torch.tensor([[[0.5, 0.5]]]), 1.0, 8).int().tolist()
        [[0, 0, 1, 1, 1, 1, 0, 0]]
    """
    width = (u[..., 0] * (int(most * size) + 1)).floor()
    start = (u[..., 1] * (size - width + 1)).floor()
    places = torch.arange(size, device=u.device)
    inside = (places >= start[..., None]) & (places < (start + width)[..., None])
    return inside.any(1)


def mixed_powers(spectrograms: Tensor, others: Tensor, share: Tensor) -> Tensor:
    """Logarithms of powers, each with a share of another's power added in (BYOL-A's log-mixup-exp, arXiv:2103.06695).

    Args:
        spectrograms: (b, channels, bands, frames) logarithms of power.
        others: As many.
        share: (b,) of the others' power in [0, 1).

    Example:
        >>> x, y = torch.tensor([4.0, 8.0]).log().view(2, 1, 1, 1)
        >>> mixed_powers(x[None], y[None], torch.tensor([0.25])).exp().flatten()
        tensor([5.])
    """
    share = share.view(-1, 1, 1, 1)
    return torch.logaddexp(spectrograms + torch.log1p(-share), others + share.log())


def stretched(spectrograms: Tensor, scale: Tensor, centre: Tensor) -> Tensor:
    """A rectangle of each spectrogram, resized to the whole by bilinear interpolation; what lies outside is 0.

    Args:
        spectrograms: (b, channels, bands, frames).
        scale: (b, 2) height and width of the rectangle, over those of the spectrogram.
        centre: (b, 2) its middle, where -1 and 1 are the edges of the spectrogram.

    Example:
        >>> x = torch.tensor([0.0, 1.0, 2.0, 3.0]).view(1, 1, 1, 4)
        >>> stretched(x, torch.tensor([[1.0, 0.5]]), torch.tensor([[0.0, 0.0]])).flatten()
        tensor([0.7500, 1.2500, 1.7500, 2.2500])
    """
    count, _, bands, frames = spectrograms.shape
    # affine_grid would multiply matrices for each place, which takes twice as long as the rest.
    grid = spectrograms.new_empty(count, bands, frames, 2)
    for axis, size in enumerate((bands, frames)):
        middles = (2 * torch.arange(size, device=grid.device, dtype=grid.dtype) + 1) / size - 1
        places = torch.addcmul(centre[:, axis, None], scale[:, axis, None], middles)
        grid[..., 1 - axis] = places[:, :, None] if axis == 0 else places[:, None]
    return torch.nn.functional.grid_sample(spectrograms, grid, align_corners=False)
