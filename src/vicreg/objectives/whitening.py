"""Any objective on embeddings that are whitened first."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from vicreg._checks import check_integer, require
from vicreg.functional.whitening import whitened
from vicreg.objectives.batchwise import common
from vicreg.objectives.objective import Objective, Outputs, Term, Views

ON_EMBEDDINGS = ("z", ("z", "n_large"))


def whiten(objective: Objective, groups: int = 64) -> Objective:
    """The objective with each of its terms of the embeddings acting on whitened ones, each view by its own statistics.

    ``whiten(vibcreg())`` is VIbCReg with the whitening that its paper may put behind the expander: IterNorm, here
    without trained factors and offsets (docs/METHODS.md). Statistics are those of all processes' rows.

    Args:
        objective: Its terms act on ``"z"``, or on ``("z", "n_large")``, and have one weight each.
        groups: Into how many the columns are cut; whitening is within each. It must divide the width of the embedding.

    Returns:
        Terms of the same names and weights.

    Raises:
        TypeError: ``groups`` is no whole number.
        ValueError: It is below 1, or a term acts on something else or has several weights.

    Example:
        >>> from vicreg.objectives.relatives import vibcreg
        >>> {name: term.weight for name, term in whiten(vibcreg()).items()}
        {'invariance': 25.0, 'variance': 25.0, 'correlation': 200.0}
    """
    check_integer("groups", groups, 1)
    found = {}
    for name, term in objective.items():
        require(term.on in ON_EMBEDDINGS, f"Term {name!r}", "act on the embeddings alone to be whitened", repr(term.on))
        one = not isinstance(term.weight, tuple)
        require(one, f"Term {name!r}", "have one weight to be whitened", term.weight)
        found[name] = replace(term, fn=Whitened(replace(term, weight=1.0), groups), on=("z", "n_large"))
    return Objective(found)


@dataclass(frozen=True)
class Whitened:
    """A term on whitened embeddings.

    Attributes:
        term: The term, of weight 1.
        groups: Of columns.
    """

    term: Term
    groups: int

    def __call__(self, views: Views, n_large: int) -> Tensor:
        """The term; one of each view summed over the views, times 2/V for V views, as without whitening."""
        batch = common(views, 2, self)
        white = tuple(whitened(view, self.groups, batch=batch) for view in views)
        total, _ = Objective({"term": self.term})(Outputs(x=None, h=white, z=white, n_large=n_large))
        return total
