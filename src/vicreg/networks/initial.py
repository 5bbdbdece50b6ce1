"""Networks at their start, drawn from a generator of one's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import Generator, nn

from vicreg._checks import require

Module = TypeVar("Module", bound=nn.Module)


@runtime_checkable
class Starting(Protocol):
    """A module with parameters of its own, or whose layers start otherwise than :func:`initialise` has it."""

    def start(self, generator: Generator | None) -> None:
        """Change what the layers below it, already filled, shall not keep; None is PyTorch's global generator."""


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


def initialise(module: Module, generator: Generator | None) -> Module:
    """Fill every layer, from the generator; what a module's own ``start`` does comes last.

    Linear layers and norms start as PyTorch's own ``reset_parameters`` has it, convolutions from a normal distribution
    by their fan-out (He et al., arXiv:1502.01852), as torchvision's ResNets do.

    Args:
        module: Changed in place.
        generator: On the device of the module; None is PyTorch's global one.

    Raises:
        TypeError: A layer of another kind has parameters or buffers of its own, which would be left as they are.

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
        elif isinstance(layer, nn.Conv1d | nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu", generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm):
            layer.reset_parameters()
        elif not isinstance(layer, Starting):
            own = [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]
            rule = "be linear, a convolution or a norm to be drawn, or have a method 'start'"
            require(not own, "a layer", rule, type(layer).__name__, error=TypeError)
    for layer in module.modules():
        if isinstance(layer, Starting):
            layer.start(generator)
    return module
