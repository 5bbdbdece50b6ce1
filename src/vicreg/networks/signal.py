"""Encoders for sounds and other signals, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Generator

from vicreg._checks import check_choice, check_integer
from vicreg.networks.initial import drawn
from vicreg.networks.resnet import RESNETS, ResNet

SMALL = 32
"""Signals of up to so many samples, and spectrograms whose shorter side is, keep their resolution in the stem."""
LONG = 4096
"""Signals of more samples than this, as waveforms are, lose all but a sixteenth of it there, and others three quarters:
a ResNet on waveforms would otherwise cost seven times that on their spectrograms."""

DIMS = {"1d": 1, "mel": 2}
"""Axes of what an encoder convolves over, by the end of its name: time, or bands and time."""


def _resnet(form: str, dims: int, channels: int, size: int, width: int | None) -> ResNet:
    block, layers, usual = RESNETS[form]
    stem = "small" if size <= SMALL else "imagenet" if size <= LONG or dims == 2 else "wave"
    return ResNet(block, layers, usual if width is None else width, stem, dims=dims, in_channels=channels)


SIGNAL_ENCODERS: dict[str, Callable[[int, int, int | None], ResNet]] = {
    f"{form}-{kind}": partial(_resnet, form, dims) for kind, dims in DIMS.items() for form in RESNETS
}
"""From the channels, the size and the width (None for the usual one) to the encoder, by name."""


def signal_encoder(name: str, channels: int, size: int, generator: Generator, width: int | None = None) -> ResNet:
    """The encoder of this name, its weights drawn from the generator.

    Args:
        name: One of ``SIGNAL_ENCODERS``: "resnet18-1d" for waveforms and other series (b, channels, time),
            "resnet18-mel" for spectrograms (b, channels, bands, frames), and so on.
        channels: Of the signals.
        size: Samples of a series, or the shorter side of a spectrogram: up to 32 the first convolution has a kernel of
            3 and stride 1 and no pooling follows; above, it is the usual stem, which keeps a quarter of each side; and
            for series of more than 4096 samples one of kernel 80, which keeps a sixteenth.
        generator: On the CPU.
        width: Channels of the first stage; None is the published one, 64.

    Raises:
        ValueError: The name is unknown, or a number is below 1.

    Example:
        >>> import torch
        >>> encoder = signal_encoder("resnet18-1d", 1, 8000, Generator().manual_seed(0), width=16)
        >>> encoder(torch.zeros(2, 1, 8000)).shape, encoder.settings["dims"]
        (torch.Size([2, 128]), 1)
        >>> encoder = signal_encoder("resnet18-mel", 1, 64, Generator().manual_seed(0), width=16)
        >>> encoder(torch.zeros(2, 1, 64, 101)).shape
        torch.Size([2, 128])
    """
    check_integer("channels", channels, 1)
    check_integer("size", size, 1)
    check_choice("encoder", name, SIGNAL_ENCODERS)
    return drawn(lambda: SIGNAL_ENCODERS[name](channels, size, width), generator)
