"""Random resized crops: numbers first, then rectangles, then one resampling that crops, resizes and flips.

A crop is a pure function of numbers drawn up front, so a worker that learns a picture's size only when it opens the
file takes the same rectangle as anybody else. The law is that of torchvision's RandomResizedCrop; the pixels are those
of cropping the picture and resizing the part with antialiasing, as Pillow does, to within two of 255 levels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.nn import functional as F  # noqa: N812

from vicreg._checks import check_choice, check_integer, require

TRIES = 10
NUMBERS = 2 * TRIES + 3
"""Uniform numbers of one crop: scale and ratio of each try, two for the position, one for the flip."""

INTERPOLATIONS = {"bicubic": 2.0, "bilinear": 1.0}
"""From a name to its kernel's half-width in pixels."""

SMALL = 48
"""On a CPU, pictures and crops of up to so many pixels a side are resampled by matrices, all at once."""
BLOCK = 2**18
"""On a CPU, numbers in a block of small pictures: what nearly stays in the second cache between two products."""
BLOCK_ELSEWHERE = 2**27
"""On other devices only memory bounds a block, and the whole batch is usually one."""

Pair = tuple[float, float]
Rectangle = tuple[int, int, int, int]
"""Top, left, height, width, in pixels."""


def draw(count: int, generator: Generator) -> Tensor:
    """Uniform numbers of so many crops, (count, 23) in [0, 1), float64, on the generator's device.

    Example:
        >>> draw(4, Generator().manual_seed(0)).shape
        torch.Size([4, 23])
    """
    return torch.rand(count, NUMBERS, generator=generator, device=generator.device, dtype=torch.float64)


def rectangle(u: Sequence[float], height: int, width: int, scale: Pair, ratio: Pair) -> Rectangle:
    """One picture's rectangle: what :func:`rectangles` gives, in microseconds, for workers that open files.

    Args:
        u: At least 22 of a crop's numbers (:func:`draw`).
        height: Of the picture, in pixels.
        width: Of the picture.
        scale: Least and greatest share of the picture's area.
        ratio: Least and greatest width over height of the rectangle.

    Example:
        >>> rectangle([0.5] * NUMBERS, 100, 100, scale=(0.25, 0.25), ratio=(1.0, 1.0))
        (25, 25, 50, 50)
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for k in range(TRIES):
        area = height * width * (scale[0] + u[2 * k] * (scale[1] - scale[0]))
        aspect = math.exp(low + u[2 * k + 1] * (high - low))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top = min(int(u[2 * TRIES] * (height - h + 1)), height - h)
            return top, min(int(u[2 * TRIES + 1] * (width - w + 1)), width - w), h, w
    h = min(height, max(1, round(width / ratio[0])))
    w = min(width, max(1, round(height * ratio[1])))
    return (height - h) // 2, (width - w) // 2, h, w


def rectangles(u: Tensor, height: int | Tensor, width: int | Tensor, scale: Pair, ratio: Pair) -> Tensor:
    """Rectangles by the law of torchvision's ``RandomResizedCrop.get_params``, one for each picture.

    Of ten tries the first counts whose rectangle, of a uniform share of the area and a log-uniform ratio, fits into
    the picture; its place is uniform. Where none fits, the largest central rectangle within the ratio is taken.

    Args:
        u: (b, 22 or more) numbers in [0, 1) (:func:`draw`); the first 22 are used.
        height: Of the pictures in pixels: one for all, or (b,).
        width: Likewise.
        scale: Least and greatest share of the picture's area.
        ratio: Least and greatest width over height of the rectangle.

    Returns:
        (b, 4) top, left, height, width, int64, on the device of ``u``.

    Example:
        >>> rectangles(torch.full((1, 22), 0.5), 100, 100, scale=(0.25, 0.25), ratio=(1.0, 1.0))
        tensor([[25, 25, 50, 50]])
    """
    u = u.double()
    height, width = (
        side.to(u)[:, None] if isinstance(side, Tensor) else u.new_full((1, 1), side) for side in (height, width)
    )
    low, high = math.log(ratio[0]), math.log(ratio[1])
    area = height * width * (scale[0] + u[:, 0 : 2 * TRIES : 2] * (scale[1] - scale[0]))
    aspect = torch.exp(low + u[:, 1 : 2 * TRIES : 2] * (high - low))
    w, h = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first = fits.byte().argmax(dim=1, keepdim=True)
    any_fits = fits.any(dim=1, keepdim=True)
    h = torch.where(any_fits, h.gather(1, first), (width / ratio[0]).round().clamp(min=1).minimum(height))
    w = torch.where(any_fits, w.gather(1, first), (height * ratio[1]).round().clamp(min=1).minimum(width))
    room = torch.cat([height - h, width - w], dim=1)
    place = (u[:, 2 * TRIES : 2 * TRIES + 2] * (room + 1)).floor().minimum(room)
    place = torch.where(any_fits, place, (room / 2).floor())
    return torch.cat([place, h, w], dim=1).long()


def central(height: int, width: int, share: float) -> Rectangle:
    """The square in the middle whose side is this share of the picture's shorter side.

    Example:
        >>> central(100, 200, share=0.5)
        (25, 75, 50, 50)
    """
    side = max(1, round(share * min(height, width)))
    return (height - side) // 2, (width - side) // 2, side, side


def resized(images: Tensor, rectangles: Tensor, flips: Tensor, size: int, interpolation: str = "bicubic") -> Tensor:
    """Each picture's rectangle, resized with antialiasing to a square and flipped left to right where asked.

    On a CPU, larger pictures go one by one through PyTorch's resampling of bytes, which is fastest for
    ``images`` in ``channels_last`` memory; small ones, and all on other devices, are two batched matrix products,
    without a word from the device. The two agree to within two levels.

    Args:
        images: (b, 3, h, w) uint8.
        rectangles: (b, 4) top, left, height, width in pixels, within the pictures.
        flips: (b,) bool.
        size: Side of the crops in pixels.
        interpolation: ``bicubic`` (Pillow's, a = -0.5) or ``bilinear``.

    Returns:
        (b, 3, size, size) uint8 on the images' device, in either memory format.

    Raises:
        ValueError: Another shape, size or interpolation.
        TypeError: Other than uint8.

    Example:
        >>> images = torch.arange(12, dtype=torch.uint8).view(1, 1, 3, 4).expand(1, 3, 3, 4)
        >>> resized(images, torch.tensor([[1, 1, 2, 2]]), torch.tensor([True]), size=2)[0, 0]
        tensor([[ 6,  5],
                [10,  9]], dtype=torch.uint8)
    """
    check_images("images", images)
    check_integer("size", size, 1)
    check_choice("interpolation", interpolation, INTERPOLATIONS)
    given = (tuple(rectangles.shape), tuple(flips.shape))
    rule = f"be of shapes {(len(images), 4)} and {(len(images),)}"
    require(given == ((len(images), 4), (len(images),)), "rectangles and flips", rule, given)
    if images.device.type == "cpu" and max(*images.shape[2:], size) > SMALL:
        return _one_by_one(images, rectangles, flips, size, interpolation)
    return _by_matrices(images, rectangles, flips, size, interpolation)


def resized_one(
    picture: NDArray[np.uint8] | Tensor, rectangle: Rectangle, flip: bool, size: int, interpolation: str = "bicubic"
) -> Tensor:
    """One picture's rectangle, as :func:`resized` makes it of many: for workers.

    Args:
        picture: (h, w, 3) uint8, RGB.
        rectangle: Top, left, height, width in pixels, within the picture.
        flip: Whether to flip left to right.
        size: Side of the crop in pixels.
        interpolation: ``bicubic`` or ``bilinear``.

    Returns:
        (3, size, size) uint8 on the CPU; the memory is that of (size, size, 3).

    Example:
        >>> resized_one(np.full((4, 6, 3), 7, dtype=np.uint8), (0, 1, 4, 4), flip=False, size=8).unique()
        tensor([7], dtype=torch.uint8)
    """
    top, left, height, width = rectangle
    part = picture[top : top + height, left : left + width]
    # A copy: rows of the rectangle lie apart, and PyTorch warns of arrays that cannot be written to.
    pixels = torch.from_numpy(np.array(part, order="C")) if isinstance(part, np.ndarray) else part.contiguous()
    # With the strides of channels_last in full, of the batch's dimension, too: only so PyTorch takes its fast path.
    one = pixels.as_strided((1, 3, height, width), (height * width * 3, 1, width * 3, 3))
    return _resample(one, flip, size, interpolation)[0]


def check_images(name: str, images: Tensor) -> None:
    """Raise unless it is a batch of RGB pictures as bytes, (b, 3, h, w)."""
    fix = "An array of pictures (b, h, w, 3) becomes one by torch.from_numpy(array).permute(0, 3, 1, 2)."
    require(images.dtype == torch.uint8, name, "be uint8", images.dtype, "Levels are 0 to 255.", error=TypeError)
    right = images.ndim == 4 and images.shape[1] == 3 and min(images.shape[2:]) > 0
    require(right, name, "have shape (b, 3, h, w)", tuple(images.shape), fix)


def _one_by_one(images: Tensor, rectangles: Tensor, flips: Tensor, size: int, interpolation: str) -> Tensor:
    crops = images.new_empty((len(images), 3, size, size)).contiguous(memory_format=torch.channels_last)
    for i, ((top, left, h, w), flip) in enumerate(zip(rectangles.tolist(), flips.tolist(), strict=True)):
        part = images[i : i + 1, :, top : top + h, left : left + w]
        crops[i : i + 1] = _resample(part, flip, size, interpolation)
    return crops


def _resample(part: Tensor, flip: bool, size: int, interpolation: str) -> Tensor:
    part = part.contiguous(memory_format=torch.channels_last)  # PyTorch's fast path for bytes
    part = F.interpolate(part, size=(size, size), mode=interpolation, antialias=True, align_corners=False)
    return part.flip(-1) if flip else part


def _by_matrices(images: Tensor, rectangles: Tensor, flips: Tensor, size: int, interpolation: str) -> Tensor:
    count, _, height, width = images.shape
    top, left, h, w = rectangles.to(images.device, non_blocking=True).unbind(1)
    flips = flips.to(images.device, non_blocking=True)
    rows = _taps(height, size, interpolation, images.device)
    columns = rows if height == width else _taps(width, size, interpolation, images.device)
    down = _matrices(top, h, torch.zeros_like(flips), height, rows)
    across = _matrices(left, w, flips, width, columns).mT
    crops = images.new_empty((count, 3, size, size))
    most = BLOCK if images.device.type == "cpu" else BLOCK_ELSEWHERE
    at_once = max(1, most // (3 * max(height, size) * max(width, size)))
    for start in range(0, count, at_once):
        block = slice(start, start + at_once)
        # Rows first and channels between rows and columns: both products then read their operands where they lie.
        x = images[block].transpose(1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        x = torch.bmm(down[block], x.view(len(x), height, 3 * width))
        x = torch.bmm(x.view(len(x), size * 3, width), across[block]).view(len(x), size, 3, size)
        # By way of int16: PyTorch's conversion from float to uint8 takes five times as long.
        crops[block] = x.round_().clamp_(0, 255).to(torch.int16).transpose(1, 2)
    return crops


def _matrices(start: Tensor, length: Tensor, flips: Tensor, side: int, taps: tuple[Tensor, Tensor]) -> Tensor:
    """What each of ``side`` pixels gives to each of ``size`` along one axis, (b, size, side), rows summing to 1."""
    weights, first = taps
    row = length - 1 + side * flips
    source = (first[row] + start[:, None])[..., None] + torch.arange(weights.shape[2], device=start.device)
    source.clamp_(0, side - 1)  # where that changes anything, the weight is 0
    matrices = torch.zeros(len(start), weights.shape[1], side, device=start.device)
    return matrices.scatter_add_(2, source, weights[row])


def _taps(side: int, size: int, interpolation: str, device: torch.device) -> tuple[Tensor, Tensor]:
    """Weights (2 side, size, taps) and their first pixel (2 side, size), for lengths from 1 to ``side``, then flipped.

    A picture's matrix depends on its rectangle's length alone but for a shift, and lengths are few.
    """
    half = INTERPOLATIONS[interpolation]
    length = torch.arange(1, side + 1, device=device, dtype=torch.float32)[:, None]
    step = length / size
    widening = step.clamp(min=1)  # antialiasing: the kernel is as wide as the step between output pixels
    centre = (torch.arange(size, device=device) + 0.5) * step
    first = (centre - half * widening + 0.5).floor()
    pixels = first[..., None] + torch.arange(math.ceil(2 * half * max(1.0, side / size)) + 1, device=device)
    weights = _kernel(((pixels + 0.5 - centre[..., None]) / widening[..., None]).abs_(), interpolation)
    weights = weights * ((pixels >= 0) & (pixels < length[..., None]))
    weights = weights / weights.sum(dim=-1, keepdim=True)
    return torch.cat([weights, weights.flip(1)]), torch.cat([first, first.flip(1)]).long()


def _kernel(x: Tensor, interpolation: str) -> Tensor:
    """Pillow's kernels of a distance in pixels: a triangle, or the cubic with a = -0.5."""
    if interpolation == "bilinear":
        return (1 - x).clamp_(min=0)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((2.5 - 0.5 * x) * x - 4) * x + 2
    return torch.where(x < 1, near, far).mul_(x < 2)
