"""Encoders for pictures, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Generator

from vicreg._checks import check_choice, check_integer, require
from vicreg.networks.foreign import TimmEncoder
from vicreg.networks.initial import drawn
from vicreg.networks.resnet import RESNETS, ResNet
from vicreg.networks.vit import VITS, ViT

ImageEncoder = ResNet | ViT | TimmEncoder

SMALL = 64
"""Pictures of up to this size keep their resolution in a ResNet's stem."""


def _resnet(name: str, image_size: int, width: int | None) -> ResNet:
    form = RESNETS[name]
    stem = "small" if image_size <= SMALL else "imagenet"
    return ResNet(form.block, form.layers, form.width if width is None else width, stem)


def _vit(name: str, image_size: int, width: int | None) -> ViT:
    size, patch = VITS[name], patch_size(image_size)
    if width is None:
        return ViT(image_size, patch, size.width, heads=size.heads)
    return ViT(image_size, patch, width, heads=max(1, width // 64))


def patch_size(image_size: int) -> int:
    """Height and width of a vision transformer's patches: 16, and for pictures of up to 64 pixels an eighth of them.

    Raises:
        ValueError: The pictures cannot be cut into such patches.

    Example:
        >>> patch_size(224), patch_size(32)
        (16, 4)
    """
    patch = 16 if image_size > SMALL else max(image_size // 8, 1)
    rule, fix = f"be a multiple of {patch} for a vision transformer", f"Choose {image_size // patch * patch}."
    require(image_size % patch == 0, "image_size", rule, image_size, fix)
    return patch


IMAGE_ENCODERS: dict[str, Callable[[int, int | None], ResNet | ViT]] = {
    **{name: partial(_resnet, name) for name in RESNETS},
    **{name: partial(_vit, name) for name in VITS},
}
"""From the pictures' size and the width (None for the usual one) to the encoder, by name."""


def image_encoder(name: str, image_size: int, generator: Generator, width: int | None = None) -> ImageEncoder:
    """The encoder of this name for pictures of this size, its weights drawn from the generator.

    Up to 64 pixels a ResNet gets the small-image stem (a convolution of 3 with stride 1, no pooling), and a vision
    transformer patches of an eighth of the picture; above, the stem and the patches of 16 that they have for ImageNet.

    Args:
        name: One of ``IMAGE_ENCODERS``, or "timm:NAME" for a model of timm's, where that is installed.
        image_size: Height and width of the pictures, at least 1.
        generator: On the CPU.
        width: Channels of a ResNet's first stage (64 as published), or width of a transformer's tokens, with a head
            for every 64 of them; None is the published one.

    Raises:
        ValueError: The name is unknown, or the width or size does not suit the architecture.
        ImportError: "timm:NAME" without timm.

    Example:
        >>> encoder = image_encoder("resnet18", 32, Generator().manual_seed(0), width=16)
        >>> encoder.width, encoder.settings["stem"]
        (128, 'small')
    """
    check_integer("image_size", image_size, 1)
    if isinstance(name, str) and name.startswith("timm:"):
        require(width is None, "width", "be left out for timm's models", width, "Choose a model of that width.")
        seed = int(torch.randint(2**63 - 1, (), generator=generator))
        return TimmEncoder(name.removeprefix("timm:"), image_size, seed)
    check_choice("encoder", name, [*IMAGE_ENCODERS, "timm:NAME"])
    return drawn(lambda: IMAGE_ENCODERS[name](image_size, width), generator)
