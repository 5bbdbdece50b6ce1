"""Brightness, contrast, saturation, hue and grey: one 3 x 4 matrix for each picture.

Split a pixel x into its grey Y and its chroma x - Y. Brightness b, contrast c about the picture's mean grey, saturation
s about the pixel's own and a rotation R of the chroma make of it

    b (c (Y + s R (x - Y)) + (1 - c) mean(Y))

in whatever order they are applied: saturation and hue leave the grey alone and commute, contrast leaves its mean. So
no order is drawn. The mean grey is linear in the channels' means. Scaling and normalisation fold into the same matrix,
and all of it is one pass.

Two things differ from doing the steps one after another as torchvision does. Values are clamped once, at the end, and
not after each step (nor rounded to bytes): a chain that overshoots and comes back keeps what clamping would have cut,
and it is only through that, and through hue, that torchvision's random order is seen at all. And hue is a rotation in
YIQ, not a shift in HSV (:func:`hue_rotation`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601), as in Pillow, torchvision and kornia."""

BLUE_TO_RED = 0.492111 / 0.877283
"""The scale of B - Y over that of R - Y in YUV, and in YIQ, which is YUV turned by 33 degrees (and mirrored)."""

BLOCK = 2**18
"""On a CPU, pixels are recoloured in blocks of so many numbers, which stay in the second cache."""


def constant(values: Sequence[float], device: torch.device) -> Tensor:
    """A few numbers as a float32 tensor there, without waiting for the device, as ``torch.tensor`` on it would."""
    return torch.tensor(values, dtype=torch.float32).to(device, non_blocking=True)


def hue_rotation(turns: Tensor) -> Tensor:
    """Matrices that shift the hue by rotating the chrominance plane of YIQ, (b, 3, 3).

    Positive turns go from red to yellow to green, as in HSV. Unlike a shift of HSV's hue the rotation is linear and
    keeps the luma, not the largest channel: a turn of 1/3 makes pure red a green as dark as that red. Hues are also
    spaced otherwise (red and green are 137 degrees apart, not 120), and saturated colours may leave [0, 1]. On random
    colours and turns of 0.1 the two change pixels as much, in directions with a cosine of about 0.7.

    Args:
        turns: (b,) shifts as shares of a full turn; torchvision's ``hue``.

    Example:
        >>> grey = torch.full((3,), 0.5)
        >>> torch.allclose(hue_rotation(torch.tensor([0.1]))[0] @ grey, grey)
        True
    """
    one = torch.ones_like(turns)
    return jitter(torch.zeros(len(turns), 3, device=turns.device), one, one, one, turns)[0]


def jitter(
    means: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor, hue: Tensor
) -> tuple[Tensor, Tensor]:
    """Brightness, contrast, saturation and hue of each picture as one affine map.

    Args:
        means: (b, 3) means of the channels, in the units that the map is to act on.
        brightness: (b,) factors; 1 changes nothing.
        contrast: (b,) factors about the mean grey.
        saturation: (b,) factors about each pixel's grey.
        hue: (b,) shifts as shares of a turn; 0 changes nothing.

    Returns:
        Matrices (b, 3, 3) and offsets (b, 3): a pixel x becomes ``matrix @ x + offset``.

    Example:
        >>> one, half = torch.ones(1), torch.tensor([0.5])
        >>> matrix, offset = jitter(torch.full((1, 3), 0.4), half, half, one, 0 * one)
        >>> matrix[0, 0], offset[0]  # half as bright, then half way to its mean, 0.2
        (tensor([0.2500, 0.0000, 0.0000]), tensor([0.1000, 0.1000, 0.1000]))
    """
    luma = constant(LUMA, means.device)
    chroma = torch.eye(3, device=means.device) - luma  # rows R - Y, G - Y, B - Y
    red, blue = BLUE_TO_RED * chroma[2], -chroma[0] / BLUE_TO_RED
    quarter = torch.stack([red, -(LUMA[0] * red + LUMA[2] * blue) / LUMA[1], blue])  # the chroma turned by 90 degrees
    angle = 2 * math.pi * hue
    turned = (saturation * angle.cos())[:, None, None] * chroma + (saturation * angle.sin())[:, None, None] * quarter
    matrix = (brightness * contrast)[:, None, None] * (luma + turned)
    offset = brightness * (1 - contrast) * (means @ luma)
    return matrix, offset[:, None].expand_as(means)


def greyed(matrix: Tensor, offset: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """The same maps, followed by grey for the chosen pictures (b,)."""
    luma = constant(LUMA, matrix.device)
    grey = (luma @ matrix)[:, None].expand_as(matrix)
    return (
        torch.where(chosen[:, None, None], grey, matrix),
        torch.where(chosen[:, None], (offset @ luma)[:, None], offset),
    )


def bounds(mean: Sequence[float], std: Sequence[float]) -> list[tuple[float, float]]:
    """What black and white are in each channel after normalisation.

    Example:
        >>> bounds((0.5, 0.5, 0.25), (0.5, 0.25, 0.25))
        [(-1.0, 1.0), (-2.0, 2.0), (-1.0, 3.0)]
    """
    return [(-m / s, (1 - m) / s) for m, s in zip(mean, std, strict=True)]


def channel_means(crops: Tensor) -> Tensor:
    """Means of the channels as shares of white, (b, 3) float32 in [0, 1], of crops (b, 3, h, w) uint8."""
    return crops.mean(dim=(2, 3), dtype=torch.float32) / 255


def recoloured(crops: Tensor, matrix: Tensor, offset: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Bytes to floats through each picture's colour map, clamped to black and white, and normalised.

    Args:
        crops: (b, 3, h, w) uint8.
        matrix: (b, 3, 3) on shares of white, in [0, 1].
        offset: (b, 3).
        mean: Of each channel, as a share of white.
        std: Likewise.

    Returns:
        (b, 3, h, w) float32, contiguous: ``(clamp(matrix @ x / 255 + offset, 0, 1) - mean) / std``.

    Example:
        >>> x = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
        >>> recoloured(x, 2 * torch.eye(3)[None], torch.zeros(1, 3), (0.0,) * 3, (1.0,) * 3).flatten()
        tensor([0.0000, 0.4000, 1.0000])
    """
    means, stds = (constant(values, crops.device) for values in (mean, std))
    matrix = matrix / (255 * stds[:, None])
    offset = ((offset - means) / stds)[..., None]
    out = torch.empty(crops.shape, device=crops.device)
    start = 0
    for block in _blocks(crops):
        end = start + len(block)
        torch.baddbmm(offset[start:end], matrix[start:end], _floats(block), out=out[start:end].flatten(2))
        for channel, (black, white) in enumerate(bounds(mean, std)):
            out[start:end, channel].clamp_(black, white)
        start = end
    return out


def _blocks(crops: Tensor) -> tuple[Tensor, ...]:
    most = max(1, BLOCK // crops[0].numel()) if crops.device.type == "cpu" and len(crops) else max(1, len(crops))
    return torch.split(crops, most)


def _floats(block: Tensor) -> Tensor:
    """(b, 3, pixels) float32. Bytes are put in order first: four times less to move than floats."""
    return block.contiguous().flatten(2).float()
