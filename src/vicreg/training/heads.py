"""What encoders are joined to: expanders, and for some objectives predictors and expanders of feature maps."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial

from torch import Generator, nn

from vicreg.networks import Branch, JointEmbedding, drawn, expander, perceptron

WIDEST_LOCAL = 512
"""VICRegL's expander of feature maps has three layers of this width (its code's ``--maps-mlp``)."""


def predictors(needs: Collection[str], layers: Sequence[Sequence[int]], generator: Generator) -> list[nn.Module]:
    """A predictor for each branch, if the objective needs any: one hidden layer, and the embedding's width.

    The hidden layer is as wide as the expander's last hidden one where it predicts an averaged branch, as BYOL's, and
    a quarter of the embedding otherwise, as SimSiam's.

    Args:
        needs: Of the objective.
        layers: For each branch the widths of its representation and of its expander's layers.
        generator: Draws the weights.

    Example:
        >>> (one,) = predictors({"predictor"}, [(16, 64, 32)], Generator().manual_seed(0))
        >>> [tuple(weight.shape) for weight in one.parameters() if weight.ndim == 2]
        [(8, 32), (32, 8)]
    """
    if "predictor" not in needs:
        return []
    made: list[nn.Module] = []
    for widths in layers:
        width = widths[-1]
        hidden = max(1, width // 4)
        if "target" in needs:
            hidden = widths[-2] if len(widths) > 2 else width
        made.append(drawn(partial(perceptron, width, (hidden,), width), generator))
    return made


def map_expander(needs: Collection[str], layers: Sequence[int], generator: Generator) -> nn.Module | None:
    """The expander of the places of feature maps, if the objective needs one: as the branch's own, up to 512 wide.

    Args:
        needs: Of the objective.
        layers: Widths of the branch's representation and of its expander's layers.
        generator: Draws the weights.

    Example:
        >>> map_expander({"maps"}, (16, 2048), Generator().manual_seed(0))[-1]
        Linear(in_features=16, out_features=512, bias=True)
    """
    if "maps" not in needs:
        return None
    return drawn(partial(expander, layers[0], [min(width, WIDEST_LOCAL) for width in layers[1:]]), generator)


def joined(
    encoders: Sequence[nn.Module],
    layers: Sequence[Sequence[int]],
    needs: Collection[str],
    generator: Generator,
    n_large: int | None = None,
    decoders: Sequence[nn.Module | None] = (),
) -> JointEmbedding:
    """Branches of encoders and expanders, with what the objective needs beside them.

    Args:
        encoders: Of the branches.
        layers: For each the widths of its representation and of its expander's layers.
        needs: Of the objective.
        generator: Draws the weights.
        n_large: How many views are large; None for all.
        decoders: One for each branch, None where it has none.

    Example:
        >>> joint = joined([nn.Linear(4, 2)], [(2, 8, 8)], frozenset(), Generator().manual_seed(0))
        >>> [tuple(weight.shape) for weight in joint.branches[0].expander.parameters() if weight.ndim == 2]
        [(8, 2), (8, 8)]
    """
    heads = [drawn(partial(expander, width, rest), generator) for width, *rest in layers]
    maps = [map_expander(needs, each, generator) for each in layers]
    branches = [Branch(*parts) for parts in zip(encoders, heads, maps, strict=True)]
    beside = predictors(needs, layers, generator)
    averaged = "target" in needs
    return JointEmbedding(branches, decoders=decoders, predictors=beside, averaged=averaged, n_large=n_large)
