"""Branches side by side: the network that pretraining trains, and what some methods put beside the branches."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from vicreg._checks import check_number, require


class Joint(NamedTuple):
    """What the branches made of the views, one tensor per view.

    Attributes:
        h: Representations.
        z: Embeddings.
        decoded: What the decoder made of the representations; of the branches that have one.
        p: The predictors' outputs.
        target: The averaged branches' embeddings, of the large views.
        maps: Local embeddings, (n, t, d) for t places.
    """

    h: tuple[Tensor, ...]
    z: tuple[Tensor, ...]
    decoded: tuple[Tensor, ...] | None
    p: tuple[Tensor, ...] | None = None
    target: tuple[Tensor, ...] | None = None
    maps: tuple[Tensor, ...] | None = None


@runtime_checkable
class Mapping(Protocol):
    """An encoder that shows the feature maps which its representation is made of."""

    def with_maps(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Representations (n, width), and feature maps (n, channels, ...)."""


class Branch(nn.Module):
    """Encoder, then expander: a view becomes a representation ``h`` and an embedding ``z``.

    Args:
        encoder: Gives ``h``.
        expander: Gives ``z``.
        map_expander: Gives the local embedding of each place of the encoder's feature maps, for objectives that need
            them; its input is (places, channels).

    Raises:
        TypeError: There is a ``map_expander``, and the encoder shows no maps.
    """

    def __init__(self, encoder: nn.Module, expander: nn.Module, map_expander: nn.Module | None = None) -> None:
        super().__init__()
        shows = map_expander is None or isinstance(encoder, Mapping)
        rule, fix = "have a method with_maps(x) that gives h and its feature maps", "ResNets and ViTs of ours have it."
        require(shows, "encoder", rule, type(encoder).__name__, fix, error=TypeError)
        self.encoder = encoder
        self.expander = expander
        self.map_expander = map_expander

    def forward(self, view: Tensor) -> tuple[Tensor, Tensor]:
        """Representation and embedding of one view."""
        h = self.encoder(view)
        return h, self.expander(h)

    def with_maps(self, view: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Representation, embedding, and the local embeddings (n, t, d) of one view."""
        h, maps = cast(Mapping, self.encoder).with_maps(view)
        places = maps.flatten(2).mT
        local = cast(nn.Module, self.map_expander)(places.flatten(0, 1))
        return h, self.expander(h), local.reshape(*places.shape[:2], -1)


class JointEmbedding(nn.Module):
    """Two or more branches; one branch alone is shared by every view.

    Args:
        branches: One shared branch, or one per view.
        decoder: Maps a representation back to the sample, for objectives that need it; thrown away after
            pretraining as the expander is.
        decoders: In its place one for each branch, None where a branch has none.
        predictors: One for each branch, for objectives that need them: from an embedding to another view's.
        averaged: Whether there are target branches: copies of the branches, never trained, which :meth:`follow` them.
        n_large: How many of the views are large; the target branches see these alone. With None all are.

    Example:
        >>> import torch
        >>> branch = Branch(nn.Linear(4, 2), nn.Linear(2, 8))
        >>> out = JointEmbedding([branch])((torch.ones(3, 4), torch.zeros(3, 4)))
        >>> len(out.z), out.z[0].shape, out.decoded
        (2, torch.Size([3, 8]), None)
    """

    def __init__(
        self,
        branches: Sequence[Branch],
        decoder: nn.Module | None = None,
        *,
        decoders: Sequence[nn.Module | None] = (),
        predictors: Sequence[nn.Module] = (),
        averaged: bool = False,
        n_large: int | None = None,
    ) -> None:
        super().__init__()
        require(len(branches) > 0, "branches", "name at least one branch", 0)
        fits = len(predictors) in (0, len(branches))
        require(fits, "predictors", f"be one for each of {len(branches)} branches", len(predictors))
        self.branches = nn.ModuleList(branches)
        require(
            len(decoders) in (0, len(branches)),
            "decoders",
            f"be one for each of {len(branches)} branches",
            len(decoders),
        )
        self.decoder = decoder
        self.decoders = nn.ModuleDict({str(k): one for k, one in enumerate(decoders) if one is not None})
        self.predictors = nn.ModuleList(predictors) if predictors else None
        self.target = copy.deepcopy(self.branches).requires_grad_(False) if averaged else None
        self.n_large = n_large

    @property
    def encoder(self) -> nn.Module:
        """The encoder that is kept: the first branch's."""
        return self.encoders[0]

    @property
    def encoders(self) -> list[nn.Module]:
        """Those of all branches."""
        return [cast(Branch, branch).encoder for branch in self.branches]

    def forward(self, views: Sequence[Tensor]) -> Joint:
        """What the branches and what stands beside them make of every view."""
        count = len(views)
        shared = len(self.branches) == 1
        require(shared or len(self.branches) == count, "views", f"be {len(self.branches)}, one for each branch", count)
        branches = cast(list[Branch], list(self.branches) * (count if shared else 1))
        maps: tuple[Tensor, ...] | None = None
        if branches[0].map_expander is None:
            h, z = zip(*(branch(view) for branch, view in zip(branches, views, strict=True)), strict=True)
        else:
            every = [branch.with_maps(view) for branch, view in zip(branches, views, strict=True)]
            h, z, maps = zip(*every, strict=True)
        decoded: tuple[Tensor, ...] | None = None
        if self.decoder is not None:
            decoded = tuple(self.decoder(one) for one in h)
        elif self.decoders:
            decoded = tuple(self.decoders[str(k)](one) for k, one in enumerate(h) if str(k) in self.decoders)
        p: tuple[Tensor, ...] | None = None
        if self.predictors is not None:
            predictors = list(self.predictors) * (count if shared else 1)
            p = tuple(predictor(one) for predictor, one in zip(predictors, z, strict=True))
        return Joint(h, z, decoded, p, self._targets(views), maps)

    @torch.no_grad()
    def _targets(self, views: Sequence[Tensor]) -> tuple[Tensor, ...] | None:
        if self.target is None:
            return None
        large = views[: self.n_large]
        targets = list(self.target) * (len(large) if len(self.target) == 1 else 1)
        return tuple(target(view)[1] for target, view in zip(targets, large, strict=True))

    @torch.no_grad()
    def follow(self, momentum: float) -> None:
        """Move the target branches, if there are any, towards the branches: target = m target + (1 - m) branch.

        Their batch norms keep running statistics of their own, which nothing depends on in training.

        Args:
            momentum: m, between 0 and 1.

        Example:
            >>> joint = JointEmbedding([Branch(nn.Linear(1, 1, bias=False), nn.Identity())], averaged=True)
            >>> _ = joint.target[0].encoder.weight.zero_(), joint.branches[0].encoder.weight.data.fill_(1.0)
            >>> joint.follow(0.75)
            >>> joint.target[0].encoder.weight.item()
            0.25
        """
        if self.target is None:
            return
        check_number("momentum", momentum, 0, 1)
        for slow, fast in zip(self.target.parameters(), self.branches.parameters(), strict=True):
            slow.lerp_(fast, 1 - momentum)
