"""Branches side by side: the network that pretraining trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from vicreg._checks import require


class Joint(NamedTuple):
    """What the branches made of the views, one tensor per view."""

    h: tuple[Tensor, ...]
    z: tuple[Tensor, ...]
    decoded: tuple[Tensor, ...] | None


class Branch(nn.Module):
    """Encoder, then expander: a view becomes a representation ``h`` and an embedding ``z``."""

    def __init__(self, encoder: nn.Module, expander: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.expander = expander

    def forward(self, view: Tensor) -> tuple[Tensor, Tensor]:
        """Representation and embedding of one view."""
        h = self.encoder(view)
        return h, self.expander(h)


class JointEmbedding(nn.Module):
    """Two or more branches; one branch alone is shared by every view.

    Args:
        branches: One shared branch, or one per view.
        decoder: Maps a representation back to the sample, for objectives that need it; thrown away after
            pretraining as the expander is.

    Example:
        >>> import torch
        >>> branch = Branch(nn.Linear(4, 2), nn.Linear(2, 8))
        >>> out = JointEmbedding([branch])((torch.ones(3, 4), torch.zeros(3, 4)))
        >>> len(out.z), out.z[0].shape, out.decoded
        (2, torch.Size([3, 8]), None)
    """

    def __init__(self, branches: Sequence[Branch], decoder: nn.Module | None = None) -> None:
        super().__init__()
        require(len(branches) > 0, "branches", "name at least one branch", 0)
        self.branches = nn.ModuleList(branches)
        self.decoder = decoder

    @property
    def encoder(self) -> nn.Module:
        """The encoder that is kept: the first branch's."""
        return self.branches[0].encoder  # type: ignore[return-value]  # ModuleList forgets its element type

    def forward(self, views: Sequence[Tensor]) -> Joint:
        """Representations, embeddings and, with a decoder, reconstructions of every view."""
        branches = list(self.branches) * len(views) if len(self.branches) == 1 else list(self.branches)
        require(len(branches) == len(views), "views", f"be {len(branches)}, one for each branch", len(views))
        h, z = zip(*(branch(view) for branch, view in zip(branches, views, strict=True)), strict=True)
        decoded = None if self.decoder is None else tuple(self.decoder(one) for one in h)
        return Joint(h, z, decoded)
