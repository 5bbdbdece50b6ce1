"""Which architecture a set of weights is of, told from names and shapes alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from vicreg.networks.resnet import RESNETS, STEMS

ANCHORS = ("layer1.0.conv1.weight", "patch_embed.proj.weight")
"""Weights that each architecture has; what stands in front of them is a prefix."""


class ResNetTraits(NamedTuple):
    """What can be told of a ResNet from its weights."""

    block: str
    layers: tuple[int, ...]
    width: int
    inner: int
    kernel: int
    dims: int
    in_channels: int

    @property
    def name(self) -> str | None:
        """The name of the member of the family with these blocks: of this width if there is one, else of any.

        None for torchvision's wide ResNets and ResNeXts, whose blocks are wider inside than their stage.
        """
        if self.inner != self.width:
            return None
        same = [name for name, form in RESNETS.items() if (form.block, form.layers) == (self.block, self.layers)]
        return next((name for name in same if RESNETS[name].width == self.width), same[0] if same else None)

    @property
    def stem(self) -> str:
        """The stem in words."""
        side = "x".join([str(self.kernel)] * self.dims)
        names = {"imagenet": "the ImageNet stem", "small": "the small-image stem", "wave": "the waveform stem"}
        known = {STEMS[stem][0]: name for stem, name in names.items()}
        return f"{known.get(self.kernel, 'a stem')} (a {side} convolution)"

    def differs_in_stem(self, other: ResNetTraits) -> bool:
        """Whether the first convolution's kernel is all that sets the two apart."""
        return self.kernel != other.kernel and self._replace(kernel=other.kernel) == other

    def __str__(self) -> str:
        name = self.name
        words = f"a {name}" if name else f"a ResNet of {'-'.join(map(str, self.layers))} {self.block} blocks"
        words += f" of width {self.width}" if name is None or RESNETS[name].width != self.width else ""
        words += f" ({self.inner} inside)" if self.inner != self.width else ""
        words += " for signals" if self.dims == 1 else ""
        return words + f" with {self.stem}" + (f" on {self.in_channels} channels" if self.in_channels != 3 else "")


class ViTTraits(NamedTuple):
    """What can be told of a vision transformer from its weights."""

    width: int
    depth: int
    patch: int
    positions: int
    in_channels: int

    def __str__(self) -> str:
        words = f"a vision transformer of width {self.width} and depth {self.depth} with patches of {self.patch}"
        words += f" at {self.positions} positions"
        return words + (f" on {self.in_channels} channels" if self.in_channels != 3 else "")


def traits(tensors: Mapping[str, Tensor]) -> ResNetTraits | ViTTraits | None:
    """What the weights are of, whatever stands in front of their names; None if it cannot be told.

    Args:
        tensors: By name.

    Example:
        >>> from vicreg.networks.resnet import ResNet
        >>> print(traits(ResNet("basic", (2, 2, 2, 2), 16, "small").state_dict()))
        a resnet18 of width 16 with the small-image stem (a 3x3 convolution)
    """
    prefixes = [name.removesuffix(anchor) for name in tensors for anchor in ANCHORS if name.endswith(anchor)]
    prefix = min(prefixes, key=len, default="")
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    return _resnet(own) or _vit(own)


def _resnet(tensors: Mapping[str, Tensor]) -> ResNetTraits | None:
    stem = tensors.get("conv1.weight")
    found = {(int(one[1]), int(one[2])) for name in tensors if (one := re.match(r"layer(\d{1,3})\.(\d{1,3})\.", name))}
    if stem is None or stem.ndim not in (3, 4) or not found:
        return None
    layers = tuple(sum(stage == wanted for stage, _ in found) for wanted in sorted({stage for stage, _ in found}))
    block = "bottleneck" if "layer1.0.conv3.weight" in tensors else "basic"
    width, in_channels, height, kernel = stem.shape if stem.ndim == 4 else (*stem.shape[:2], 1, stem.shape[2])
    inner = tensors[ANCHORS[0]].shape[0] if ANCHORS[0] in tensors else width
    return ResNetTraits(block, layers, width, inner, kernel, 1 if height == 1 else 2, in_channels)


def _vit(tensors: Mapping[str, Tensor]) -> ViTTraits | None:
    patches, positions = tensors.get("patch_embed.proj.weight"), tensors.get("pos_embed")
    if patches is None or patches.ndim != 4 or positions is None or positions.ndim != 3:
        return None
    depth = len({one[1] for name in tensors if (one := re.match(r"blocks\.(\d{1,3})\.", name))})
    width, in_channels, patch = patches.shape[:3]
    return ViTTraits(width, depth, patch, positions.shape[1], in_channels)
