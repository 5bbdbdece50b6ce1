"""An encoder with a linear map behind it, which brings representations to a common width."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor, nn

from vicreg._checks import check_choice, check_integer
from vicreg.networks.foreign import TimmEncoder
from vicreg.networks.initial import drawn
from vicreg.networks.resnet import ResNet
from vicreg.networks.vit import ViT

Body = ResNet | ViT | TimmEncoder

BODIES: dict[str, type[Body]] = {"resnet": ResNet, "vit": ViT, "timm": TimmEncoder}
"""By the name in the file of a run; each is made again by its ``settings``."""


class Projected(nn.Module):
    """An encoder of pictures or signals, and a linear map to a width that the other side of a pair can have as well.

    Args:
        body: The encoder; or what makes it again, ``{"encoder": name in BODIES, "settings": ...}``.
        width: Of the representation.

    Shapes:
        As the encoder's, to (b, width).

    Raises:
        ValueError: There is no such encoder.

    Example:
        >>> whole = Projected(ResNet("basic", (1, 1, 1, 1), 4, "small"), 3)
        >>> whole(torch.zeros(2, 3, 8, 8)).shape, Projected(**whole.settings).body.width
        (torch.Size([2, 3]), 32)
    """

    def __init__(self, body: Body | Mapping[str, Any], width: int) -> None:
        super().__init__()
        self.width = check_integer("width", width, 1)
        if isinstance(body, Mapping):
            body = BODIES[check_choice("body", body["encoder"], BODIES)](**body["settings"])
        self.body = body
        self.output = nn.Linear(body.width, width)
        name = next(name for name, kind in BODIES.items() if type(body) is kind)
        self.settings: dict[str, Any] = {"body": {"encoder": name, "settings": body.settings}, "width": width}

    def forward(self, x: Tensor) -> Tensor:
        """Representations, (b, width)."""
        h: Tensor = self.output(self.body(x))
        return h


def projected(body: Body, width: int, generator: Generator) -> Projected:
    """An encoder as it is, with a linear map to this width that is drawn from the generator.

    Args:
        body: The encoder.
        width: Of the representation.
        generator: On the CPU.

    Example:
        >>> inner = ResNet("basic", (1, 1, 1, 1), 4, "small")
        >>> projected(inner, 3, Generator().manual_seed(0)).body is inner
        True
    """
    with torch.device("meta"):  # PyTorch's global generator is left alone
        whole = Projected(body, width)
    whole.output = drawn(partial(nn.Linear, body.width, width), generator)
    return whole
