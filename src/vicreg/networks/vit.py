"""A vision transformer, its weights named as timm names those of ``vit_small_patch16_224``."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F  # noqa: N812  # the field's name for it

from vicreg._checks import check_integer, require
from vicreg.networks.initial import initialise

EPS = 1e-6
"""Of the layer norms, as in the published vision transformers; PyTorch's own default is 1e-5."""


class Attention(nn.Module):
    """Self-attention with one projection for queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(b, n, width) to the same."""
        b, n, width = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).reshape(b, n, width))  # type: ignore[no-any-return]


class Layer(nn.Module):
    """Attention, then a perceptron, each behind a layer norm and beside a skip path."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPS)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=EPS)
        parts = {"fc1": nn.Linear(width, hidden), "act": nn.GELU(), "fc2": nn.Linear(hidden, width)}
        self.mlp = nn.Sequential(OrderedDict(parts))

    def forward(self, x: Tensor) -> Tensor:
        """(b, n, width) to the same."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class Size(NamedTuple):
    """Width of the representation, and how many heads there are at that width."""

    width: int
    heads: int


VITS = {"vit_tiny": Size(192, 3), "vit_small": Size(384, 6)}
"""By name; both have 12 layers (Touvron et al., arXiv:2012.12877, table 1)."""


def resampled(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Position embeddings for another grid of patches, by bicubic interpolation; the class token's stays.

    Args:
        positions: (1, 1 + side * side, width), of a square grid.
        grid: Rows and columns wanted.

    Example:
        >>> resampled(torch.zeros(1, 1 + 16, 8), (2, 3)).shape
        torch.Size([1, 7, 8])
    """
    side = int((positions.shape[1] - 1) ** 0.5)
    if grid == (side, side):
        return positions
    square = positions[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2).float()
    square = F.interpolate(square, size=grid, mode="bicubic", antialias=True)
    return torch.cat((positions[:, :1], square.flatten(2).transpose(1, 2).to(positions.dtype)), dim=1)


class ViT(nn.Module):
    """A vision transformer (Dosovitskiy et al., arXiv:2010.11929) up to its class token.

    Pictures of another size than ``image_size``, such as small crops beside large ones, get their position embeddings
    by interpolation. The linear layers and the position embeddings start at a truncated normal distribution with a
    deviation of .02, as DeiT's and timm's do.

    Args:
        image_size: Height and width of a picture, a multiple of ``patch``.
        patch: Height and width of a patch.
        width: Of every token, and of the representation.
        depth: Number of layers.
        heads: Of each attention; divides ``width``.
        in_channels: Of a picture.

    Attributes:
        width: Of the representation.
        settings: JSON such that ``ViT(**settings)`` has the same architecture.

    Shapes:
        (b, in_channels, h, w), h and w multiples of ``patch``, to (b, width).

    Raises:
        ValueError: A setting is out of its range, or a picture's size no multiple of the patches'.

    Example:
        >>> encoder = ViT(image_size=32, patch=8, width=64, depth=2, heads=2)
        >>> encoder(torch.ones(2, 3, 32, 32)).shape, encoder.maps(torch.ones(2, 3, 16, 16)).shape
        (torch.Size([2, 64]), torch.Size([2, 64, 2, 2]))
    """

    def __init__(
        self,
        image_size: int = 224,
        patch: int = 16,
        width: int = 384,
        depth: int = 12,
        heads: int = 6,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        for name, value in [("patch", patch), ("depth", depth), ("heads", heads), ("in_channels", in_channels)]:
            check_integer(name, value, 1)
        check_integer("image_size", image_size, patch)
        require(image_size % patch == 0, "image_size", f"be a multiple of the patches' {patch}", image_size)
        check_integer("width", width, heads)
        require(width % heads == 0, "width", f"be a multiple of the {heads} heads", width)
        self.settings: dict[str, Any] = {
            "image_size": image_size,
            "patch": patch,
            "width": width,
            "depth": depth,
            "heads": heads,
            "in_channels": in_channels,
        }
        self.width, self.patch = width, patch
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + (image_size // patch) ** 2, width))
        self.patch_embed = nn.Sequential(OrderedDict(proj=nn.Conv2d(in_channels, width, patch, stride=patch)))
        self.blocks = nn.Sequential(*(Layer(width, heads, 4 * width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=EPS)
        initialise(self, None)

    def start(self, generator: Generator | None) -> None:
        """Draw the tokens, and the linear layers otherwise than elsewhere."""
        fan_in = self.patch_embed.get_submodule("proj").get_parameter("weight")[0].numel()
        nn.init.trunc_normal_(self.pos_embed, std=0.02, generator=generator)
        nn.init.trunc_normal_(self.cls_token, std=0.02, generator=generator)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02, generator=generator)
                nn.init.zeros_(layer.bias)
            elif isinstance(layer, nn.Conv2d):  # a linear layer of a patch: by its fan-in
                nn.init.trunc_normal_(layer.weight, std=fan_in**-0.5, generator=generator)

    def tokens(self, x: Tensor) -> Tensor:
        """The class token, then one token for each patch, after the last norm: (b, 1 + patches, width)."""
        height, width = x.shape[-2:]
        fits = height % self.patch == 0 and width % self.patch == 0
        rule = f"have a height and width that are multiples of the patches' {self.patch}"
        require(fits, "pictures", rule, f"{height} x {width}")
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), dim=1)
        x = x + resampled(self.pos_embed, (height // self.patch, width // self.patch))
        return self.norm(self.blocks(x))  # type: ignore[no-any-return]

    def maps(self, x: Tensor) -> Tensor:
        """The patches' tokens as feature maps, (b, width, h / patch, w / patch)."""
        return self.with_maps(x)[1]

    def with_maps(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Representations, and the patches' tokens as feature maps."""
        height, width = x.shape[-2:]
        grid = (height // self.patch, width // self.patch)
        tokens = self.tokens(x)
        return tokens[:, 0], tokens[:, 1:].transpose(1, 2).reshape(len(x), self.width, *grid)

    def forward(self, x: Tensor) -> Tensor:
        """Representations, the class token's, (b, width)."""
        return self.tokens(x)[:, 0]
