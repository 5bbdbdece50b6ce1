"""An objective is data: named, weighted terms of the branches' outputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor

from vicreg._checks import check_choice, check_number, listed, message, require, shown
from vicreg.distributed import Share, common_batch
from vicreg.functional import terms
from vicreg.functional.fused import Formula, checked, evaluate
from vicreg.functional.terms import per_view, suffix

Views: TypeAlias = tuple[Tensor, ...]

FIELDS = ("x", "h", "z", "p", "target", "maps", "cuts", "decoded", "n_large")
NEEDS = ("predictor", "target", "maps", "cuts", "decoder")

# The functions that are evaluated together, by the name of their weight in a Formula, which has their options too.
FUSED: dict[str, Callable[..., Tensor]] = {
    "invariance": terms.invariance,
    "variance": terms.variance,
    "covariance": terms.covariance,
}


@dataclass(frozen=True)
class Outputs:
    """What the branches made of a batch: in each field one tensor for each view.

    Attributes:
        x: The samples before their views were taken.
        h: Representations: the encoder's outputs, which are kept.
        z: Embeddings: the expander's outputs.
        p: The predictor's outputs.
        target: The averaged target branch's embeddings; of the large views alone, where there are small ones.
        maps: Local embeddings, (n, t, d): the t places of feature maps.
        cuts: Where each view was cut out of its picture, (n, 5): top, left, height and width in pixels, and whether it
            was then flipped left to right.
        decoded: The decoder's outputs.
        n_large: How many of the views are large: pairs among the others, small crops, have no part in the invariance
            term. With None all have.

    Example:
        >>> import torch
        >>> x, h, z = torch.ones(4, 3), torch.ones(4, 2), torch.ones(4, 8)
        >>> outputs = Outputs(x=(x, x), h=(h, h + 1), z=(z, z + 1))
        >>> len(outputs.z), outputs.decoded
        (2, None)
    """

    x: Views | None
    h: Views
    z: Views
    p: Views | None = None
    target: Views | None = None
    maps: Views | None = None
    cuts: Views | None = None
    decoded: Views | None = None
    n_large: int | None = None


@dataclass(frozen=True)
class Term:
    """A weighted function of the branches' outputs.

    Attributes:
        weight: Its factor in the total. 0 makes it a reading: reported, but no part of the total and its gradient.
            ``terms.variance`` and ``terms.covariance``, terms of one view, may have one for each branch.
        fn: A function of tensors to a scalar: ``fn(view_a, view_b, ...)`` where ``on`` is one field, and
            ``fn(field_1, field_2, ...)``, each a tuple with a tensor for each view, where it is several. The functions
            ``invariance``, ``variance`` and ``covariance`` of ``vicreg.functional.terms``, as they are or as
            ``functools.partial(terms.variance, target=0.5)``, are recognised and evaluated together; the last two are
            functions of one view and are summed over the views, times 2/V for V views.
        on: A field of ``Outputs``, or a tuple of several. ``"n_large"`` among several is the number of large views,
            which is that of all where nobody has said otherwise.
        needs: What the branches must have for it, of ``"predictor"``, ``"target"``, ``"maps"`` and ``"decoder"``; and
            ``"cuts"``, which views of pictures have.

    Raises:
        TypeError: ``fn`` cannot be called, or ``weight`` is no number.
        ValueError: There is no such field or part, or a weight is not finite.

    Example:
        >>> from functools import partial
        >>> Term(2.0, partial(terms.variance, target=0.5), on="h").weight
        2.0
        >>> closeness = Term(1.0, lambda a, b: (a - b).abs().mean())
        >>> closeness.on
        'z'
    """

    weight: float | tuple[float, ...]
    fn: Callable[..., Tensor]
    on: str | tuple[str, ...] = "z"
    needs: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        require(callable(self.fn), "fn", "be a function", shown(self.fn), error=TypeError)
        for weight in self.weight if isinstance(self.weight, tuple) else (self.weight,):
            check_number("weight", weight)
        require(len(self.on) > 0, "on", "name at least one field", shown(self.on))
        for field in (self.on,) if isinstance(self.on, str) else self.on:
            check_choice("on", field, FIELDS[:-1] if isinstance(self.on, str) else FIELDS)
        for part in self.needs:
            check_choice("needs", part, NEEDS)
        if isinstance(self.weight, tuple) and self.kind not in ("variance", "covariance"):
            fix = "Only terms.variance and terms.covariance take one for each branch."
            raise ValueError(message("weight", "be one number", self.weight, fix))
        if self.kind is not None:
            parameters = inspect.signature(_unbound(self.fn)).parameters.values()
            known = [p.name for p in parameters if p.default is not p.empty]
            unknown = [option for option in self.options if option not in known]
            require(
                not unknown, f"Options of {self.kind}", f"be of {listed(known, 9)}", listed(unknown), error=TypeError
            )

    @property
    def kind(self) -> str | None:
        """Which of the terms that are evaluated together it is, if it is one."""
        if not isinstance(self.on, str):
            return None
        return next((kind for kind, function in FUSED.items() if function is _unbound(self.fn)), None)

    @property
    def options(self) -> dict[str, Any]:
        """The arguments bound to its function by name."""
        return dict(self.fn.keywords) if isinstance(self.fn, partial) else {}


def _unbound(fn: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return fn.func if isinstance(fn, partial) and not fn.args else fn


@dataclass(frozen=True, eq=False)  # equal as mappings are
class Objective(Mapping[str, Term]):
    """Named terms, and their weighted sum.

    An objective is a mapping of names to terms. ``|`` adds the terms of another one or of a dict, which replace those
    of the same name. Called on ``Outputs`` it returns the total and every term's value.

    Attributes:
        terms: The terms by name; at least one.

    Raises:
        TypeError: A term is no ``Term``, or an option bound to its function is not one of that function's.
        ValueError: There is no term.

    Example:
        >>> import torch
        >>> from vicreg.functional import terms
        >>> objective = Objective({"variance": Term(12.5, terms.variance)})
        >>> objective = objective | {"closeness": Term(25.0, terms.invariance)}
        >>> list(objective), sorted(objective.needs)
        (['variance', 'closeness'], [])
        >>> z = torch.tensor([[1.0, 2.0], [-1.0, -2.0]], requires_grad=True)
        >>> total, values = objective(Outputs(x=(z, z), h=(z, z), z=(z, z + 1.0)))
        >>> round(total.item(), 5), {name: round(value.item(), 6) for name, value in values.items()}
        (25.0, {'variance_a': 0.0, 'variance_b': 0.0, 'closeness': 1.0})
    """

    terms: Mapping[str, Term]

    def __post_init__(self) -> None:
        object.__setattr__(self, "terms", dict(self.terms))
        require(len(self.terms) > 0, "An objective", "have at least one term", "none")
        for name, term in self.terms.items():
            require(isinstance(term, Term), f"Term {shown(name)}", "be a Term", shown(term), error=TypeError)

    def __getitem__(self, name: str) -> Term:
        return self.terms[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.terms)

    def __len__(self) -> int:
        return len(self.terms)

    def __or__(self, other: Mapping[str, Term]) -> Objective:
        return Objective({**self, **other})

    def __ror__(self, other: Mapping[str, Term]) -> Objective:
        return Objective({**other, **self})

    @property
    def needs(self) -> frozenset[str]:
        """What the branches must have: the union of the terms' needs."""
        return frozenset().union(*(term.needs for term in self.values()))

    def __call__(self, outputs: Outputs) -> tuple[Tensor, dict[str, Tensor]]:
        """Evaluate the terms.

        Args:
            outputs: What the branches made of a batch.

        Returns:
            The total with its graph; and the terms, unweighted and detached, by name, those of one view by name and
            view (``variance_a``, ``variance_b``). An invariance of weight 0 is left out where branches differ in width.

        Raises:
            TypeError: A view is no floating tensor, or types differ.
            ValueError: A field that a term acts on is missing, or shapes or devices do not suit it.
        """
        totals: list[Tensor] = []
        values: dict[str, dict[str, Tensor]] = {name: {} for name in self}
        for names in self._groups:
            total, found = self._together(names, outputs)
            totals.append(total)
            values |= found
        for name, term in self.items():
            if term.kind is None:
                value = _alone(name, term, outputs)
                weight = cast(float, term.weight)  # Term has seen to that
                totals.append(value * weight if weight else torch.zeros_like(value))
                values[name] = {name: value.detach()}
        return sum(totals[1:], totals[0]), {key: value for named in values.values() for key, value in named.items()}

    @cached_property
    def _groups(self) -> list[dict[str, str]]:
        """Names by kind of the terms that are evaluated together: on one field, and each kind at most once."""
        groups: list[tuple[Any, dict[str, str]]] = []
        for name, term in self.items():
            if term.kind is not None:
                group = next((group for on, group in groups if on == term.on and term.kind not in group), None)
                if group is None:
                    group = {}
                    groups.append((term.on, group))
                group[term.kind] = name
        return [group for _, group in groups]

    def _together(self, names: Mapping[str, str], outputs: Outputs) -> tuple[Tensor, dict[str, dict[str, Tensor]]]:
        """The weighted total of the terms of one group, and their values, in one computation."""
        some = next(iter(names.values()))
        on = str(self[some].on)

        def share() -> tuple[Formula, Share]:
            views = _views(some, on, outputs)
            settings: dict[str, Any] = {}
            for kind, name in names.items():
                weight = self[name].weight
                scaled = tuple(w * 2 / len(views) for w in per_view(f"Weight of {shown(name)}", weight, len(views)))
                settings |= {kind: weight if kind == "invariance" else scaled} | self[name].options
            if "invariance" in names:
                settings["n_large"] = outputs.n_large
            return checked(Formula(**settings), views, [f"{on}_{suffix(i)}" for i in range(len(views))])

        formula, batch = common_batch("default", share)
        views = _views(some, on, outputs)
        found = evaluate(formula, views, batch=batch, lift=batch.lift("mean"))
        values: dict[str, dict[str, Tensor]] = {}
        for kind, name in names.items():
            value = getattr(found, kind)
            if value is None:  # an invariance without weight, of branches that differ in width
                continue
            each = {f"{name}_{suffix(i)}": v for i, v in enumerate(value)} if kind != "invariance" else {name: value}
            values[name] = each
        return found.total, values


def _alone(name: str, term: Term, outputs: Outputs) -> Tensor:
    """The value of a term that is not evaluated together with others."""
    with torch.set_grad_enabled(torch.is_grad_enabled() and term.weight != 0):
        if isinstance(term.on, str):
            value = term.fn(*_views(name, term.on, outputs))
        else:
            value = term.fn(*(_field(name, field, outputs) for field in term.on))
    scalar = isinstance(value, Tensor) and value.ndim == 0
    got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
    require(scalar, f"Term {shown(name)}", "return a 0-dimensional tensor", got, "Reduce it, as with .mean().")
    return value


def _field(name: str, field: str, outputs: Outputs) -> Views | int:
    if field == "n_large":
        return len(outputs.z) if outputs.n_large is None else outputs.n_large
    return _views(name, field, outputs)


def _views(name: str, field: str, outputs: Outputs) -> Views:
    views: Views | None = getattr(outputs, field)
    if views is None:
        fix = f"The term {shown(name)} acts on it; let the term's needs name the part that makes it."
        raise ValueError(message(f"Outputs.{field}", "be given", None, fix))
    return views
