"""Perceptrons: the table encoder with its linear path, expanders and decoders."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Generator, Tensor, nn

from vicreg._checks import check_integer, check_number, require


def hidden_layers(widths: Sequence[int], norm: bool = True, dropout: float = 0.0) -> nn.Sequential:
    """Blocks of linear, batch norm and ReLU: ``widths[0]`` inputs, ``widths[-1]`` outputs.

    Args:
        widths: Of the input and of every layer.
        norm: Whether there is batch norm; then the linear layers carry no bias, since it would subtract it again.
        dropout: Share of each layer's outputs that training leaves out at random.

    Example:
        >>> hidden_layers((5, 8, 8))(torch.ones(4, 5)).shape
        torch.Size([4, 8])
    """
    blocks: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        blocks += [nn.Linear(n_in, n_out, bias=not norm), *([nn.BatchNorm1d(n_out)] if norm else []), nn.ReLU()]
        blocks += [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(*blocks)


def perceptron(n_in: int, hidden: Sequence[int], n_out: int) -> nn.Sequential:
    """Hidden blocks and a linear output layer: a decoder, or an expander (section 4.2 of the VICReg paper).

    Args:
        n_in: Width of the input.
        hidden: Widths of the hidden layers; may be empty.
        n_out: Width of the output.

    Example:
        >>> perceptron(4, (16, 16), 9)(torch.ones(2, 4)).shape
        torch.Size([2, 9])
    """
    return nn.Sequential(*hidden_layers((n_in, *hidden)), nn.Linear((n_in, *hidden)[-1], n_out))


def expander(n_in: int, widths: Sequence[int]) -> nn.Module:
    """The expander with these layer widths, the last being the embedding's; none is the identity.

    Example:
        >>> expander(4, (64, 256))(torch.ones(2, 4)).shape, expander(4, ())
        (torch.Size([2, 256]), Identity())
    """
    return perceptron(n_in, widths[:-1], widths[-1]) if widths else nn.Identity()


def default_expander(width: int) -> tuple[int, int, int]:
    """Layer widths of an expander that suit a representation of this width: four times as wide, at most 8192.

    That is 8192-8192-8192 for ResNet-50's 2048 and for what is wider (section 4.2 and table 1 of the VICReg paper,
    arXiv:2105.04906), and 2048-2048-2048 for ResNet-18's 512 (solo-learn's setting for CIFAR-10, at 1df0b89,
    ``scripts/pretrain/cifar/vicreg.yaml``, with one hidden layer fewer).

    Example:
        >>> default_expander(2048), default_expander(512), default_expander(128)
        ((8192, 8192, 8192), (2048, 2048, 2048), (512, 512, 512))
    """
    wide = min(4 * width, 8192)
    return wide, wide, wide


class TableEncoder(nn.Module):
    """A perceptron from vectorised rows to representations, with a linear path beside it.

    The linear path carries what a linear map of the columns can carry (it starts at whitened PCA,
    :meth:`start_at`), the hidden layers add what it cannot: there their output layer starts at zero.

    Args:
        n_features: Width of a vectorised row.
        n_components: Width of the representation; None leaves the output layer out, so that the representation
            is what the last hidden layer gives (the earliest table form of VICReg).
        hidden: Widths of the hidden layers; may be empty with a linear path.
        linear_path: Whether there is one.
        norm: Whether the hidden layers have batch norm. Without it, without a linear path and with ``n_components``
            None, one hidden layer is a dense layer and a ReLU.
        dropout: Share of each hidden layer's outputs that training leaves out at random, from 0 to below 1.

    Shapes:
        (n, n_features) to (n, width).

    Raises:
        ValueError: The parts leave no path from input to output.

    Example:
        >>> encoder = TableEncoder(30, 8, hidden=(64, 64))
        >>> encoder(torch.ones(4, 30)).shape
        torch.Size([4, 8])
    """

    def __init__(
        self,
        n_features: int,
        n_components: int | None = 16,
        hidden: Sequence[int] = (128, 128),
        linear_path: bool = True,
        norm: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_integer("n_features", n_features, 1)
        require(check_number("dropout", dropout, 0) < 1, "dropout", "be below 1", dropout)
        for width in hidden:
            check_integer("each width in encoder", width, 1)
        require(
            n_components is not None or (bool(hidden) and not linear_path),
            "n_components",
            "be a number with linear_path=True or without hidden layers",
            None,
        )
        self.width = hidden[-1] if n_components is None else check_integer("n_components", n_components, 1)
        require(bool(hidden) or linear_path, "encoder", "have hidden layers or a linear path", "neither")
        self.settings: dict[str, Any] = {
            "n_features": n_features,
            "n_components": n_components,
            "hidden": list(hidden),
            "linear_path": linear_path,
            "norm": norm,
            "dropout": dropout,
        }
        self.hidden = hidden_layers((n_features, *hidden), norm, dropout)
        self.output = nn.Linear(hidden[-1], n_components) if n_components is not None and hidden else None
        self.linear = nn.Linear(n_features, self.width) if linear_path else None

    @torch.no_grad()
    def start_at(self, projection: Tensor, offset: Tensor, generator: Generator) -> None:
        """Start as ``projection @ x + offset``: the linear path gives that, the hidden layers' output is 0.

        Components beyond those of the projection start small and random. Without a linear path nothing changes.

        Args:
            projection: (m, n_features), m at most the representation's width.
            offset: (m,).
            generator: Draws the components beyond.
        """
        if self.linear is None:
            return
        self.linear.weight.normal_(std=1e-2 / self.linear.in_features**0.5, generator=generator)
        self.linear.bias.zero_()
        self.linear.weight[: len(projection)] = projection
        self.linear.bias[: len(offset)] = offset
        if self.output is not None:
            self.output.weight.zero_()
            self.output.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Representations of vectorised rows, (n, width)."""
        linear: Tensor | None = None if self.linear is None else self.linear(x)
        if linear is not None and len(self.hidden) == 0:
            return linear
        h: Tensor = self.hidden(x)
        h = h if self.output is None else self.output(h)
        return h if linear is None else h + linear


class TableDecoder(nn.Module):
    """From a representation back to the row, and beside it a linear read-out of the row's whitened components.

    Args:
        width: Width of the representation.
        hidden: Widths of the hidden layers on the way to the row.
        n_features: Width of a vectorised row, p.
        n_read_out: How many components are read out, m.

    Attributes:
        projection: (m, p), from rows to the components to be read out (:meth:`aim_at`).
        offset: (m,), added to them.

    Shapes:
        (n, width) to (n, p + m): the row, then the read-out.

    Example:
        >>> TableDecoder(2, (8,), 5, 1)(torch.ones(4, 2)).shape
        torch.Size([4, 6])
    """

    projection: Tensor
    offset: Tensor

    def __init__(self, width: int, hidden: Sequence[int], n_features: int, n_read_out: int) -> None:
        super().__init__()
        self.row = perceptron(width, hidden, n_features)
        self.read_out = nn.Linear(width, n_read_out)
        self.register_buffer("projection", torch.zeros(n_read_out, n_features))
        self.register_buffer("offset", torch.zeros(n_read_out))

    def start(self, generator: Generator | None) -> None:
        """Aim at nothing yet."""
        self.projection.zero_()
        self.offset.zero_()

    def aim_at(self, projection: Tensor, offset: Tensor) -> None:
        """Set what is to be read out: ``projection @ x + offset``."""
        self.projection.copy_(projection)
        self.offset.copy_(offset)

    def forward(self, h: Tensor) -> Tensor:
        """The row and the read-out side by side, (n, p + m)."""
        return torch.cat((self.row(h), self.read_out(h)), dim=1)
