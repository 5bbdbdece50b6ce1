"""Views of images: the paper's recipe, batched, on the device, from a generator.

A view is two steps. ``crop`` takes a rectangle of each picture to a square of bytes (in memory, or in the worker that
decoded the file: ``crop_one``); ``finish`` does everything after that on the device: one colour matrix, blur,
solarisation and normalisation, each on the pictures drawn for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from vicreg._checks import check_choice, check_integer, check_number, message, require, shown
from vicreg.views.blur import blur_
from vicreg.views.colour import bounds, channel_means, constant, greyed, jitter, recoloured
from vicreg.views.crop import (
    INTERPOLATIONS,
    NUMBERS,
    Pair,
    Rectangle,
    central,
    check_images,
    draw,
    rectangle,
    rectangles,
    resized,
    resized_one,
)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

LARGE_SCALE = (0.14, 1.0)
SMALL_SCALE = (0.05, 0.14)
"""Shares of the area of large and small crops under multi-crop, as in SwAV (arXiv:2006.09882) and VICRegL's code."""

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class ImageView:
    """One view of a batch of pictures: crop, flip, colour, blur, solarise, normalise, each with its probability.

    The steps and their order are those of the official code (facebookresearch/vicreg, ``augmentations.py``). How the
    colours are done in one matrix, and where that differs, stands in ``vicreg.views.colour``. Solarisation inverts
    what is lighter than the middle; the blur's deviation is in pixels of the crop.

    Attributes:
        size: Side of the crops in pixels.
        scale: Least and greatest share of the picture's area in a crop, in (0, 1].
        ratio: Least and greatest width over height of the rectangle.
        interpolation: ``bicubic`` or ``bilinear``.
        centre: None, or instead of a random rectangle the central square with this share of the shorter side.
        flip: Probability of a flip left to right.
        jitter: Probability of the next four together.
        brightness: The factor is uniform within 1 +- this; in [0, 1].
        contrast: Likewise.
        saturation: Likewise.
        hue: The shift is uniform within +- this share of a turn; in [0, 0.5].
        grayscale: Probability of grey.
        blur: Probability of a Gaussian blur.
        sigma: Least and greatest deviation of the blur, uniform between.
        solarize: Probability of solarisation.
        mean: Mean of each channel, as a share of white, subtracted last.
        std: What is then divided by.

    Example:
        >>> view = ImageView(size=8)
        >>> images = torch.randint(256, (4, 3, 20, 30), dtype=torch.uint8)
        >>> view(images, Generator().manual_seed(0)).shape
        torch.Size([4, 3, 8, 8])
    """

    size: int
    scale: Pair = (0.08, 1.0)
    ratio: Pair = (3 / 4, 4 / 3)
    interpolation: str = "bicubic"
    centre: float | None = None
    flip: float = 0.5
    jitter: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.2
    hue: float = 0.1
    grayscale: float = 0.2
    blur: float = 0.5
    sigma: Pair = (0.1, 2.0)
    solarize: float = 0.1
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD

    def __post_init__(self) -> None:
        check_integer("size", self.size, 1)
        check_choice("interpolation", self.interpolation, INTERPOLATIONS)
        _check_range("scale", self.scale, most=1.0)
        _check_range("ratio", self.ratio)
        _check_range("sigma", self.sigma)
        if self.centre is not None:
            check_number("centre", self.centre, 0, 1, open_low=True)
        for name in ("flip", "jitter", "brightness", "contrast", "saturation", "grayscale", "blur", "solarize"):
            check_number(name, getattr(self, name), 0, 1)
        check_number("hue", self.hue, 0, 0.5)
        for name in ("mean", "std"):
            numbers = getattr(self, name)
            require(len(numbers) == 3, name, "be three numbers, of red, green and blue", shown(numbers))
            for number in numbers:
                check_number(name, number, 0, open_low=name == "std")

    @property
    def crops_at_random(self) -> bool:
        """Whether ``crop`` needs numbers."""
        return self.centre is None or self.flip > 0

    @property
    def finishes_at_random(self) -> bool:
        """Whether ``finish`` needs a generator."""
        return max(self.jitter, self.grayscale, self.blur, self.solarize) > 0

    def draw(self, count: int, generator: Generator) -> Tensor:
        """Numbers for ``crop`` and ``crop_one``, (count, 23) in [0, 1), on the generator's device."""
        return draw(count, generator)

    def rectangle(self, u: Sequence[float], height: int, width: int) -> Rectangle:
        """Top, left, height, width of the part that one picture's numbers choose."""
        if self.centre is not None:
            return central(height, width, self.centre)
        return rectangle(u, height, width, self.scale, self.ratio)

    def crop_one(self, picture: NDArray[np.uint8] | Tensor, u: Sequence[float] = ()) -> Tensor:
        """One picture (h, w, 3) uint8 to its crop, (3, size, size) uint8 on the CPU: for workers.

        Args:
            picture: RGB.
            u: The picture's row of ``draw``; needed unless the view crops centrally and never flips.
        """
        _check_numbers(len(u) if self.crops_at_random else NUMBERS)
        height, width, _ = picture.shape
        flip = self.flip > 0 and u[-1] < self.flip
        return resized_one(picture, self.rectangle(u, height, width), flip, self.size, self.interpolation)

    def crop(self, images: Tensor, u: Tensor | None = None) -> Tensor:
        """Pictures (b, 3, h, w) uint8 to crops (b, 3, size, size) uint8, on the pictures' device.

        Args:
            images: RGB; on a CPU fastest in ``channels_last`` memory.
            u: Numbers from ``draw``, one row for each picture; needed unless the view crops centrally and never flips.

        Raises:
            ValueError: Another shape, or no numbers.
            TypeError: Other than uint8.
        """
        check_images("images", images)
        count, _, height, width = images.shape
        if u is None:
            _check_numbers(0 if self.crops_at_random else NUMBERS)
            u = torch.ones(count, NUMBERS)  # which choose nothing
        require(u.shape == (count, NUMBERS), "u", f"have shape {(count, NUMBERS)}", tuple(u.shape), DRAW)
        chosen, flips = self.cuts(u, height, width)
        return resized(images, chosen, flips, self.size, self.interpolation)

    def cuts(self, u: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """What the numbers choose of pictures of one size: each one's rectangle, and whether it is flipped.

        Args:
            u: (b, 23) numbers from ``draw``.
            height: Of the pictures in pixels.
            width: Of the pictures.

        Returns:
            (b, 4) top, left, height, width, int64; and (b,) bool.

        Example:
            >>> ImageView(8, scale=(0.25, 0.25), ratio=(1.0, 1.0)).cuts(torch.full((1, NUMBERS), 0.5), 100, 100)
            (tensor([[25, 25, 50, 50]]), tensor([False]))
        """
        flips = u[:, -1] < self.flip
        if self.centre is None:
            return rectangles(u, height, width, self.scale, self.ratio), flips
        return torch.tensor(self.rectangle((), height, width), device=u.device).expand(len(u), 4), flips

    def finish(self, crops: Tensor, generator: Generator | None = None) -> Tensor:
        """Crops to what an encoder eats: colour, blur, solarisation, normalisation.

        The result is ``(level / 255 - mean) / std``. What the view never does is not drawn for either.

        Args:
            crops: (b, 3, h, w) uint8.
            generator: On the crops' device; needed by a view that does any of the first three.

        Returns:
            (b, 3, h, w) float32, contiguous.

        Raises:
            ValueError: Another shape, or no generator.
            TypeError: Other than uint8.
        """
        check_images("crops", crops)
        matrix = torch.eye(3, device=crops.device).expand(len(crops), 3, 3)
        offset = torch.zeros(len(crops), 3, device=crops.device)
        if not self.finishes_at_random or len(crops) == 0:
            return recoloured(crops, matrix, offset, self.mean, self.std)
        if generator is None:
            rule = "be given to a view that draws"
            raise ValueError(message("generator", rule, None, "Pass a torch.Generator on the crops' device."))
        u = torch.rand(9, len(crops), generator=generator, device=crops.device)
        if self.jitter > 0:
            matrix, offset = self._jitter(channel_means(crops), u[:5])
        if self.grayscale > 0:
            matrix, offset = greyed(matrix, offset, u[5] < self.grayscale)
        x = recoloured(crops, matrix, offset, self.mean, self.std)
        # Both of the following commute with the normalisation, or are easily said in its units.
        if self.blur > 0:
            low, high = self.sigma
            blur_(x, low + u[6] * (high - low), u[7] < self.blur, most=high)
        if self.solarize > 0:
            solarize_(x, u[8] < self.solarize, self.mean, self.std)
        return x

    def _jitter(self, means: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        chosen = u[0] < self.jitter
        strengths = (self.brightness, self.contrast, self.saturation, self.hue)
        changes = torch.where(chosen, (2 * u[1:5] - 1) * constant(strengths, u.device)[:, None], 0.0)
        brightness, contrast, saturation = (1 + changes[:3]).unbind(0)
        return jitter(means, brightness, contrast, saturation, hue=changes[3])

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """One view of each picture, (b, 3, size, size) float32: ``finish(crop(images, draw(...)))``."""
        return self.finish(self.crop(images, self.draw(len(images), generator)), generator)


DRAW = "Pass the view's draw(count, generator), or one of its rows for one picture."


def _check_numbers(count: int) -> None:
    require(count == NUMBERS, "u", f"be {NUMBERS} numbers for each picture", count, DRAW)


def _check_range(name: str, limits: Pair, most: float = float("inf")) -> None:
    require(len(limits) == 2, name, "be two numbers, least and greatest", shown(limits))
    low = check_number(name, limits[0], 0, most, open_low=True)
    high = check_number(name, limits[1], 0, most, open_low=True)
    require(low <= high, name, "rise from least to greatest", shown(limits))


def solarize_(x: Tensor, chosen: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Invert what is lighter than the middle, in the chosen pictures, in place.

    On bytes with Pillow's threshold of 128 that is ``min(v, 255 - v)``, which needs no threshold.

    Args:
        x: (b, 3, h, w) normalised.
        chosen: (b,) bool.
        mean: What was subtracted from each channel, as a share of white.
        std: What it was then divided by.

    Returns:
        ``x``.

    Example:
        >>> x = torch.tensor([0.2, 0.6, 1.0]).view(1, 3, 1, 1)
        >>> solarize_(x, torch.tensor([True]), (0.0,) * 3, (1.0,) * 3).flatten()
        tensor([0.2000, 0.4000, 0.0000])
    """
    ends = constant([black + white for black, white in bounds(mean, std)], x.device).view(3, 1, 1)
    if x.device.type != "cpu":  # the same work for all, rather than asking the device which are chosen
        return x.copy_(torch.where(chosen[:, None, None, None], torch.minimum(x, ends - x), x))
    rows = chosen.nonzero()[:, 0]
    some = x.index_select(0, rows)
    return x.index_copy_(0, rows, torch.minimum(some, ends - some))


def _paper(size: int) -> tuple[ImageView, ImageView]:
    return ImageView(size), ImageView(size)


def _official(size: int) -> tuple[ImageView, ImageView]:
    return ImageView(size, blur=1.0, solarize=0.0), ImageView(size, blur=0.1, solarize=0.2)


def _cifar(size: int) -> tuple[ImageView, ImageView]:
    view = ImageView(size, scale=(0.2, 1.0), blur=0.0)
    return view, view


def _crop(size: int) -> tuple[ImageView, ImageView]:
    view = ImageView(size, jitter=0.0, grayscale=0.0, blur=0.0, solarize=0.0)
    return view, view


def _identity(size: int) -> tuple[ImageView, ImageView]:
    view = evaluation_view(size, share=1.0)
    return view, view


RECIPES: dict[str, Callable[[int], tuple[ImageView, ImageView]]] = {
    "paper": _paper,
    "official": _official,
    "cifar": _cifar,
    "crop": _crop,
    "identity": _identity,
}
"""From a name to two views: the paper's symmetric recipe (arXiv:2105.04906, C.1: blur .5 and solarisation .1 on
both), the official code's asymmetric one (blur 1 and .1, solarisation 0 and .2, as in BYOL), that of solo-learn and
eb_jepa for small pictures (a fifth of the area at least, no blur), crop and flip alone, and
the central square of the picture itself."""


def image_views(name: str, size: int, n_small: int = 0, small_size: int | None = None) -> tuple[ImageView, ...]:
    """Views by the name of a recipe: two large ones and, for multi-crop, so many small ones.

    With small crops the large ones show at least 14 % of the area and the small ones 5 % to 14 %, and the small ones
    take the two recipes in turn, as in VICRegL's code (where 2 crops of 224 go with 6 of 96) and SwAV.

    Args:
        name: A name in ``RECIPES``.
        size: Side of the large crops in pixels.
        n_small: Small crops.
        small_size: Their side; None is 96/224 of ``size``.

    Raises:
        ValueError: An unknown name, a size below 1, or small crops of views that do not crop.

    Example:
        >>> [view.size for view in image_views("paper", 224, n_small=2)]
        [224, 224, 96, 96]
        >>> [view.blur for view in image_views("official", 32)]
        [1.0, 0.1]
    """
    pair = RECIPES[check_choice("views", name, RECIPES)](size)
    if check_integer("n_small", n_small, 0) == 0:
        return pair
    require(pair[0].centre is None, "n_small", f"be 0 for views {name!r}", n_small, "Choose views that crop.")
    side = max(1, round(size * 96 / 224)) if small_size is None else check_integer("small_size", small_size, 1)
    large = tuple(replace(view, scale=LARGE_SCALE) for view in pair)
    return *large, *(replace(pair[k % 2], size=side, scale=SMALL_SCALE) for k in range(n_small))


def evaluation_view(
    size: int,
    share: float | None = None,
    interpolation: str = "bicubic",
    mean: Triple = IMAGENET_MEAN,
    std: Triple = IMAGENET_STD,
) -> ImageView:
    """The view for embedding: the central square, resized and normalised, nothing drawn.

    Its ``crop(images)``, ``crop_one(picture)`` and ``finish(crops)`` need neither numbers nor a generator.

    Args:
        size: Side in pixels.
        share: Side of the square over the picture's shorter side; None is 224/256 (resize to 256, cut out 224), and
            1 for sizes up to 64, whose pictures are seldom larger than their object.
        interpolation: ``bicubic`` or ``bilinear``.
        mean: Of each channel.
        std: Of each channel.

    Example:
        >>> view = evaluation_view(2)
        >>> view.finish(view.crop(torch.zeros(1, 3, 4, 6, dtype=torch.uint8)))[0, :, 0, 0]
        tensor([-2.1179, -2.0357, -1.8044])
    """
    share = (1.0 if size <= 64 else 224 / 256) if share is None else share
    return replace(_crop(size)[0], interpolation=interpolation, centre=share, flip=0.0, mean=mean, std=std)
