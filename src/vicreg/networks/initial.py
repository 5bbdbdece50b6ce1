"""Networks at their start, drawn from a generator of one's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Generator, nn

from vicreg._checks import require

Module = TypeVar("Module", bound=nn.Module)


def drawn(make: Callable[[], Module], generator: Generator) -> Module:
    """The network that ``make`` makes, its weights drawn from the generator: PyTorch's global one is left alone.

    Args:
        make: Makes a network of the layers that :func:`initialise` knows.
        generator: On the CPU.

    Example:
        >>> a, b = (drawn(lambda: nn.Linear(3, 2), Generator().manual_seed(0)) for _ in range(2))
        >>> torch.equal(a.weight, b.weight)
        True
    """
    with torch.device("meta"):  # neither memory nor random numbers
        module = make()
    return initialise(module.to_empty(device=generator.device), generator)


def initialise(module: Module, generator: Generator) -> Module:
    """Fill linear layers and batch norms as PyTorch's own ``reset_parameters`` does, from the generator.

    Args:
        module: Changed in place.
        generator: On the device of the module.

    Raises:
        TypeError: A layer of another kind has parameters of its own.

    Example:
        >>> layer = initialise(nn.Linear(4, 100), Generator().manual_seed(0))
        >>> bool(layer.weight.abs().max() <= 4**-0.5)
        True
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_uniform_(layer.weight, a=5**0.5, generator=generator)
            if layer.bias is not None:
                nn.init.uniform_(layer.bias, -(layer.in_features**-0.5), layer.in_features**-0.5, generator=generator)
        elif isinstance(layer, nn.BatchNorm1d):
            layer.reset_parameters()
        else:
            known = next(layer.parameters(recurse=False), None) is None
            require(known, "a layer", "be linear or batch norm to be drawn", type(layer).__name__, error=TypeError)
    return module
