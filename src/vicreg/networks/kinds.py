"""Which class an encoder of a saved run is of."""

from __future__ import annotations

from vicreg.networks.foreign import TimmEncoder
from vicreg.networks.mlp import TableEncoder
from vicreg.networks.resnet import ResNet
from vicreg.networks.vit import ViT

ENCODERS: dict[str, type[TableEncoder | ResNet | ViT | TimmEncoder]] = {
    "mlp": TableEncoder,
    "resnet": ResNet,
    "vit": ViT,
    "timm": TimmEncoder,
}
"""By the name in the file; each is made again by its ``settings``."""
