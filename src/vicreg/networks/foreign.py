"""Encoders that timm makes. The one file that needs timm (``vicreg[image]`` does not bring it)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vicreg._checks import check_integer, require, shown


class TimmEncoder(nn.Module):
    """A model of timm's without its classifier: ``--encoder timm:NAME``.

    Its weights are drawn by timm's own rules from a seed of their own, PyTorch's global generator is left alone, and
    nothing is downloaded; weights from elsewhere come by ``load_weights``.

    Args:
        name: As timm names it, such as "convnext_tiny".
        image_size: Height and width of the pictures; given to models that are made for one size.
        seed: Decides the weights at the start.

    Attributes:
        model: timm's module; its state dict has timm's keys.
        width: Of the representation.
        settings: JSON such that ``TimmEncoder(**settings)`` has the same architecture.

    Shapes:
        (b, 3, h, w) to (b, width).

    Raises:
        ImportError: timm is not installed.
        ValueError: timm has no such model, or its output is no vector.
    """

    def __init__(self, name: str, image_size: int = 224, seed: int = 0) -> None:
        super().__init__()
        check_integer("image_size", image_size, 1)
        try:
            import timm
        except ImportError as error:
            raise ImportError("Encoders timm:NAME need timm: pip install timm.") from error
        # Refuses what timm would fetch from a hub as well: a run's file may name the model, and loading it must not.
        fix = "timm.list_models() lists them."
        require(timm.is_model(name), "the encoder after 'timm:'", "be a model that timm has", shown(name), fix)
        self.settings: dict[str, Any] = {"name": name, "image_size": image_size}
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            try:
                self.model: nn.Module = timm.create_model(name, num_classes=0, img_size=image_size)
            except TypeError:  # most convolutional models take any size, and no such argument
                torch.default_generator.manual_seed(seed)
                self.model = timm.create_model(name, num_classes=0)
        self.width = output_width(self.model, torch.zeros(1, 3, image_size, image_size), f"timm:{name}")

    def forward(self, x: Tensor) -> Tensor:
        """Representations, (b, width)."""
        return self.model(x)  # type: ignore[no-any-return]


def output_width(encoder: nn.Module, batch: Tensor, name: str = "encoder") -> int:
    """Numbers in a representation, found by encoding a batch in evaluation mode; the encoder is left as it was.

    Args:
        encoder: Any module.
        batch: Its input; on its device.
        name: For the message.

    Raises:
        ValueError: It does not give one vector for each sample.

    Example:
        >>> output_width(nn.Linear(3, 8), torch.zeros(2, 3))
        8
        >>> output_width(nn.Conv2d(3, 8, 1), torch.zeros(2, 3, 4, 4))
        Traceback (most recent call last):
        ValueError: encoder must give one vector for each sample, (2, width); got (2, 8, 4, 4). Pool its maps.
    """
    modes = [(module, module.training) for module in encoder.modules()]
    encoder.eval()
    try:
        with torch.no_grad():
            out = encoder(batch)
    finally:
        for module, training in modes:
            module.training = training
    got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
    rule = f"give one vector for each sample, ({len(batch)}, width)"
    vector = isinstance(out, Tensor) and out.ndim == 2 and len(out) == len(batch)
    require(vector, name, rule, got, "Pool its maps.")
    return int(out.shape[1])
