"""Formulas on the rows of all processes, as functions of terms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from vicreg.distributed import Batch, Share, common_batch
from vicreg.functional.fused import Formula, evaluate
from vicreg.functional.local import matched, middles
from vicreg.functional.sliced import directions
from vicreg.functional.terms import check_embedding, suffix
from vicreg.objectives.objective import Views


def common(views: Sequence[Tensor], least: int, settings: object) -> Batch:
    """The batch that these views' rows are part of, on all processes; each must be of the others' kind.

    Args:
        views: Tensors with their rows first.
        least: How many rows the batch must have.
        settings: Must be in the same words on every process.
    """

    def share() -> tuple[None, Share]:
        for i, view in enumerate(views):
            check_embedding(f"view {suffix(i)}", view, least=0)

        def traits() -> list[str]:
            kinds = [f"view {suffix(i)} (n, {list(view.shape[1:])}) of {view.dtype}" for i, view in enumerate(views)]
            return [f"{len(views)} views", *kinds, described(settings)]

        return None, Share("z", len(views[0]), least, traits)

    return common_batch("default", share)[1]


def described(settings: object) -> str:
    """Settings in words that are the same on every process: functions by their names.

    Example:
        >>> described(EachPair(partial(matched, matches=2)))
        'EachPair(fn=matched(matches=2), least=2)'
    """
    if isinstance(settings, partial):
        named = ", ".join(f"{name}={described(value)}" for name, value in settings.keywords.items())
        return f"{settings.func.__name__}({named})"
    if is_dataclass(settings):
        named = ", ".join(f"{field.name}={described(getattr(settings, field.name))}" for field in fields(settings))
        return f"{type(settings).__name__}({named})"
    return str(getattr(settings, "__name__", settings))


@dataclass(frozen=True)
class EachView:
    """The mean over the views of a formula of one view.

    Attributes:
        fn: Of a view and, by name, the batch.
        factor: By which the mean is multiplied: 2 for the sum over two views.
        least: Rows that the batch must have.
    """

    fn: Callable[..., Tensor]
    factor: float = 1.0
    least: int = 2

    def __call__(self, *views: Tensor) -> Tensor:
        """The term."""
        batch = common(views, self.least, self)
        return torch.stack([self.fn(view, batch=batch) for view in views]).mean() * self.factor


@dataclass(frozen=True)
class EachSliced:
    """The mean over the views of a formula of one view and random directions, the same for all views.

    Attributes:
        fn: Of a view, the directions and, by name, the batch.
        slices: How many directions.
    """

    fn: Callable[..., Tensor]
    slices: int

    def __call__(self, *views: Tensor) -> Tensor:
        """The term; the directions are drawn anew."""
        batch = common(views, 2, self)
        along = directions(views[0], self.slices, batch)
        return torch.stack([self.fn(view, along, batch=batch) for view in views]).mean()


@dataclass(frozen=True)
class EachPair:
    """The mean over the pairs of views of a formula of two; pairs of two small crops do not count.

    Attributes:
        fn: Of two views and, by name, the batch.
        least: Rows that the batch must have.
    """

    fn: Callable[..., Tensor]
    least: int = 2

    def __call__(self, views: Views, n_large: int) -> Tensor:
        """The term."""
        batch = common(views, self.least, self)
        return torch.stack([self.fn(views[i], views[j], batch=batch) for i, j in pairs(len(views), n_large)]).mean()


@dataclass(frozen=True)
class Together:
    """A formula of all views at once.

    Attributes:
        fn: Of some fields and, by name, the batch.
        least: Rows that the batch must have.
    """

    fn: Callable[..., Tensor]
    least: int = 1

    def __call__(self, *fields: Any) -> Tensor:
        """The term."""
        views = list(chain(*(field for field in fields if isinstance(field, tuple))))
        return self.fn(*fields, batch=common(views, self.least, self))


@dataclass(frozen=True)
class Local:
    """The loss of VICReg between matched places of two views' feature maps, mean over the pairs.

    Attributes:
        formula: For two views.
        matches: Pairs of places kept of each sample; all with None.
    """

    formula: Formula
    matches: int | None = None

    def __call__(self, maps: Views, n_large: int) -> Tensor:
        """The term."""
        batch = common(maps, 2, self)
        found = [
            evaluate(self.formula, matched(maps[i], maps[j], self.matches), batch=batch, lift=batch.lift("mean")).total
            for a, b in pairs(len(maps), n_large)
            for i, j in ((a, b), (b, a))
        ]
        return torch.stack(found).mean()


@dataclass(frozen=True)
class Located:
    """The loss of VICReg between the places of two views' feature maps that are nearest in the picture.

    Attributes:
        formula: For two views.
        share: Of each map's places, those nearest to one of the other's.
    """

    formula: Formula
    share: float

    def __call__(self, maps: Views, cuts: Views, n_large: int) -> Tensor:
        """The term."""
        batch = common(maps, 2, self)
        points = [middles(cut, one.shape[1]) for cut, one in zip(cuts, maps, strict=True)]
        found = []
        for a, b in pairs(len(maps), n_large):
            for i, j in ((a, b), (b, a)):
                kept = max(1, round(self.share * maps[i].shape[1]))
                both = matched(maps[i], maps[j], kept, (points[i], points[j]))
                found.append(evaluate(self.formula, both, batch=batch, lift=batch.lift("mean")).total)
        return torch.stack(found).mean()


def pairs(views: int, n_large: int) -> list[tuple[int, int]]:
    """The pairs of views that count: of which at least one is large.

    Example:
        >>> pairs(2, 2), pairs(4, 2)
        ([(0, 1)], [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3)])
    """
    return [(i, j) for i in range(n_large) for j in range(i + 1, views)]
