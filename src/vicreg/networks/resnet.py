"""Residual networks for pictures and for signals, their weights named as torchvision and timm name theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Generator, Tensor, nn

from vicreg._checks import check_choice, check_integer, require
from vicreg.networks.initial import initialise

STEMS = {"imagenet": (7, 2), "small": (3, 1), "wave": (80, 4)}
"""Kernel and stride of the first convolution."""
POOLS = {"imagenet": (3, 2), "wave": (5, 4)}
"""Kernel and stride of the max pooling after it, where there is any."""


def _sides(dims: int, size: int, other: int) -> tuple[int, int]:
    """A size over time and the other one over height; or the same over both.

    A signal is a picture of height 1, since PyTorch's convolutions over one axis know no memory format that is fast on
    a CPU: so they took 1.7 times as long (ResNet-18 of width 16 on 8000 samples, forward and backward).
    """
    return (other if dims == 1 else size, size)


def _convolution(dims: int, n_in: int, n_out: int, kernel: int, stride: int = 1) -> nn.Module:
    """Without a bias, since batch norm would subtract it again; as large as its input but for the stride."""
    kernels, strides = _sides(dims, kernel, 1), _sides(dims, stride, 1)
    return nn.Conv2d(n_in, n_out, kernels, strides, padding=_sides(dims, kernel // 2, 0), bias=False)


def _pool(dims: int, kernel: int, stride: int) -> nn.Module:
    return nn.MaxPool2d(_sides(dims, kernel, 1), _sides(dims, stride, 1), padding=_sides(dims, kernel // 2, 0))


def _downsample(dims: int, n_in: int, n_out: int, stride: int) -> nn.Module | None:
    """The skip path where a block changes the shape; None where it does not."""
    if stride == 1 and n_in == n_out:
        return None
    return nn.Sequential(_convolution(dims, n_in, n_out, 1, stride), nn.BatchNorm2d(n_out))


class BasicBlock(nn.Module):
    """Two 3-wide convolutions and a skip path (He et al., arXiv:1512.03385, figure 5 left)."""

    expansion = 1

    def __init__(self, dims: int, n_in: int, width: int, stride: int, zero_init: bool) -> None:
        super().__init__()
        self.zero_init = zero_init
        self.conv1 = _convolution(dims, n_in, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _convolution(dims, width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _downsample(dims, n_in, width, stride)

    def start(self, generator: Generator | None) -> None:
        """Begin as the skip path alone (Goyal et al., arXiv:1706.02677), if asked to."""
        if self.zero_init:
            nn.init.zeros_(self.bn2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(b, n_in, ...) to (b, width, ...)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """A 3-wide convolution between two of width 1, and a skip path; the middle one has the stride, as torchvision's."""

    expansion = 4

    def __init__(self, dims: int, n_in: int, width: int, stride: int, zero_init: bool) -> None:
        super().__init__()
        n_out = self.expansion * width
        self.zero_init = zero_init
        self.conv1 = _convolution(dims, n_in, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _convolution(dims, width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _convolution(dims, width, n_out, 1)
        self.bn3 = nn.BatchNorm2d(n_out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _downsample(dims, n_in, n_out, stride)

    def start(self, generator: Generator | None) -> None:
        """Begin as the skip path alone, if asked to."""
        if self.zero_init:
            nn.init.zeros_(self.bn3.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(b, n_in, ...) to (b, 4 * width, ...)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)  # type: ignore[no-any-return]


BLOCKS: dict[str, type[BasicBlock | Bottleneck]] = {"basic": BasicBlock, "bottleneck": Bottleneck}


class Form(NamedTuple):
    """What tells the members of the family apart."""

    block: str
    layers: tuple[int, ...]
    width: int = 64


RESNETS = {
    "resnet18": Form("basic", (2, 2, 2, 2)),
    "resnet34": Form("basic", (3, 4, 6, 3)),
    "resnet50": Form("bottleneck", (3, 4, 6, 3)),
    "resnet50x2": Form("bottleneck", (3, 4, 6, 3), 128),
}
"""By name. ``resnet50x2`` has every layer twice as wide, as the official VICReg code has it (facebookresearch/vicreg
4e12602, ``resnet.py``); torchvision's ``wide_resnet50_2`` is another network."""


class ResNet(nn.Module):
    """A residual network up to its mean over places: a picture or a signal becomes a vector.

    The names and shapes of its weights are those of torchvision's and timm's ResNets, without their last layer
    ``fc``. It starts as torchvision's do: convolutions by fan-out, norms at 1 and 0.

    Args:
        block: "basic" or "bottleneck".
        layers: How many blocks each of the stages has.
        width: Channels of the first stage; every further stage has twice as many.
        stem: "imagenet", a convolution of 7 with stride 2 and max pooling; "small", one of 3 with stride 1, which
            suits pictures of up to 64 pixels (SimCLR, arXiv:2002.05709, appendix B.9); or "wave", one of 80 with stride
            4 and max pooling by 4, which suits waveforms of thousands of samples (M18, arXiv:1610.00087).
        dims: 2 for pictures, 1 for signals.
        in_channels: Of the input.
        zero_init: Whether every block starts as its skip path alone.

    Attributes:
        width: Of the representation.
        settings: JSON such that ``ResNet(**settings)`` has the same architecture.

    Shapes:
        (b, in_channels, h, w), or (b, in_channels, t) with ``dims=1``, to (b, width).

    Raises:
        ValueError: A setting is out of its range.

    Example:
        >>> import torch
        >>> encoder = ResNet("basic", (1, 1, 1, 1), width=16, stem="small")
        >>> encoder(torch.ones(2, 3, 32, 32)).shape, encoder.width
        (torch.Size([2, 128]), 128)
        >>> ResNet("basic", (2, 2, 2, 2), width=16, dims=1, in_channels=1)(torch.ones(2, 1, 4000)).shape
        torch.Size([2, 128])
    """

    def __init__(
        self,
        block: str,
        layers: Sequence[int],
        width: int = 64,
        stem: str = "imagenet",
        dims: int = 2,
        in_channels: int = 3,
        zero_init: bool = True,
    ) -> None:
        super().__init__()
        kind = BLOCKS[check_choice("block", block, BLOCKS)]
        kernel, stride = STEMS[check_choice("stem", stem, STEMS)]
        require(len(layers) > 0, "layers", "have at least one stage", "none")
        layers = [check_integer("each number in layers", number, 1) for number in layers]
        check_integer("width", width, 1)
        check_integer("dims", dims, 1, 2)
        check_integer("in_channels", in_channels, 1)
        self.settings: dict[str, Any] = {
            "block": block,
            "layers": layers,
            "width": width,
            "stem": stem,
            "dims": dims,
            "in_channels": in_channels,
            "zero_init": zero_init,
        }
        self.conv1 = _convolution(dims, in_channels, width, kernel, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = _pool(dims, *POOLS[stem]) if stem in POOLS else nn.Identity()
        self.dims = dims
        self.n_stages = len(layers)
        n_in = width
        for stage, number in enumerate(layers):
            blocks: list[nn.Module] = []
            for i in range(number):
                blocks.append(kind(dims, n_in, width << stage, 2 if stage and not i else 1, zero_init))
                n_in = kind.expansion * (width << stage)
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.width = n_in
        initialise(self, None)

    def maps(self, x: Tensor) -> Tensor:
        """Feature maps before the mean over places, (b, width, h', w') or (b, width, t')."""
        x = x[:, :, None] if self.dims == 1 else x
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in range(self.n_stages):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return x.squeeze(2) if self.dims == 1 else x

    def with_maps(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Representations, and the maps that they are the mean of."""
        maps = self.maps(x)
        return maps.flatten(2).mean(2), maps

    def forward(self, x: Tensor) -> Tensor:
        """Representations, (b, width)."""
        return self.with_maps(x)[0]
