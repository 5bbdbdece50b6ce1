"""What can go wrong with a joint embedding, how a look shows it, and what helps.

Each failure is a function of a look (and of the first total) to a `Symptom`, or None. They stand in the order of cause
and effect: a look shows the first that applies, since what follows from it is no news. The limits were set between
healthy runs and runs that were made to fail (docs/diagnostics.md has the figures).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from vicreg.diagnostics.look import Look, Spread

GROWTH = 10.0
"""Times the first total. Healthy totals fell from the start; diverging ones grew 1e5-fold."""
LEAST_DEVIATION = 0.1
"""Of the variance target. Healthy runs had .28 and more, runs without the variance term .11 and less by step 100."""
MOST_DEAD = 0.1
"""Share of the columns. Healthy runs had none dead in the embedding."""
FEWEST_DIRECTIONS = 2.0
"""Of wide embeddings. Healthy runs had 3.2 and more, runs without the covariance term came to 1.0 to 1.8."""
LEAST_SHARE = 0.01
"""Of the gradient at the embedding. Healthy runs had .08 and more; .001 of the default sim_coeff gave .003."""
SMALL_DIFFERENCE = 0.05
"""Views that agree so far leave the invariance term little to do, whatever its weight."""
LARGE_DIFFERENCE = 0.9
"""Healthy runs had .61 and less by step 100; independent views have 1."""
MOST_NOISE = 0.8
"""Share of the covariance term. Of embeddings wider than the batch, .48 and less from 32 rows on, .87 and more at 8."""
FULL_WIDTH = 9
"""Columns from which FEWEST_DIRECTIONS holds; below, the limit falls to 1.1 for two, of which 2 would be white."""


def fewest_directions(most: int) -> float:
    """How many directions an embedding should have at the least, of so many that it could have.

    Example:
        >>> [round(fewest_directions(most), 2) for most in (1, 2, 9, 256)]
        [1.0, 1.12, 2.0, 2.0]
    """
    return 1 + (FEWEST_DIRECTIONS - 1) * (min(most, FULL_WIDTH) - 1) / (FULL_WIDTH - 1)


@dataclass(frozen=True)
class Symptom:
    """A failure as a look shows it.

    Attributes:
        failure: Its name.
        where: Of what: "embedding", "embedding a" for one branch's, "representation", "loss".
        value: What the look found.
        limit: What it went beyond.
        said: The finding in words.
        remedy: What helps, in words.
        worse: 1 where larger values are worse, -1 where smaller ones are; 0 where getting better is not enough.
    """

    failure: str
    where: str
    value: float
    limit: float
    said: str
    remedy: str
    worse: int = 1

    @property
    def at_once(self) -> bool:
        """Whether one look is enough, since it cannot mend."""
        return math.isnan(self.value)

    def mending(self, before: Symptom) -> bool:
        """Whether it is by a tenth better than at the look before."""
        if not self.worse:
            return False
        return (self.value < 0.9 * before.value) if self.worse > 0 else (self.value > 1.1 * before.value)


def symptom(look: Look, first_total: float | None) -> Symptom | None:
    """The failure that a look shows; of several the one that the others follow from.

    Args:
        look: The look.
        first_total: Of the run; None where no total is known.
    """
    found = (failure(look, first_total) for failure in FAILURES)
    return next((one for one in found if one is not None), None)


def diverging(look: Look, first_total: float | None) -> Symptom | None:
    """The loss or an embedding is not finite, or the total has left the range that it began in."""
    name, where = "diverging", "loss"
    remedy = (
        "Lower the learning rate (a tenth is a start), or warm up for longer; in half precision look at the loss scale."
    )
    broken = [term for term, value in look.terms.items() if not math.isfinite(value)]
    spread = [one.deviation for one in (*look.embedding, *look.representation)]
    if not all(map(math.isfinite, spread)):
        return Symptom(name, where, math.nan, 0.0, "Embeddings are not finite.", remedy, worse=0)
    if broken:
        return Symptom(name, where, math.inf, 0.0, f"{' and '.join(broken)} is not finite.", remedy, worse=0)
    if look.total is None or first_total is None or not math.isfinite(first_total):
        return None
    limit = GROWTH * max(abs(first_total), 1.0)
    said = f"The total is {look.total:.3g} at the median, and was {first_total:.3g} at the first step."
    return Symptom(name, where, look.total, limit, said, remedy, worse=0) if look.total > limit else None


def one_branch_collapsed(look: Look, _: float | None = None) -> Symptom | None:
    """One view's embedding is the same for all rows, the other's is not."""
    flat = [_flat(one) for one in look.embedding]
    if flat[0] == flat[1]:
        return None
    index = flat.index(True)
    value, where = look.embedding[index].deviation, f"embedding {'ab'[index]}"
    said = f"It hardly varies over the rows (deviation {value:.2g} of its target), while the other view's does."
    remedy = (
        "Look at that branch: whether its weights are frozen, its inputs constant or its gradient stopped; give it a "
        "variance term of its own (std_coeff for each branch), or share one branch between the views."
    )
    return Symptom("one branch collapsed", where, value, LEAST_DEVIATION, said, remedy, worse=-1)


def norm_collapse(look: Look, _: float | None = None) -> Symptom | None:
    """All rows have nearly the same embedding."""
    if not all(map(_flat, look.embedding)):
        return None
    value = max(one.deviation for one in look.embedding)
    said = f"All rows have nearly the same one (deviation {value:.2g} of its target)."
    remedy = (
        "Raise std_coeff; keep it at least as large as sim_coeff, and both above cov_coeff."
        if _may_have(look, "variance")
        else "Give the objective a variance term, or lower the learning rate."
    )
    return Symptom("norm collapse", "embedding", value, LEAST_DEVIATION, said, remedy, worse=-1)


def dead_dimensions(look: Look, _: float | None = None) -> Symptom | None:
    """Columns are constant while others are not."""
    for where, spreads in (("embedding", look.embedding), ("representation", look.representation)):
        value = max((one.dead for one in spreads), default=0.0)
        if MOST_DEAD < value < 1:
            said = f"{value:.0%} of its dimensions are constant."
            remedy = (
                "Raise std_coeff, or lower the learning rate: units of a ReLU that never fire get no gradient."
                if where == "embedding"
                else "Lower the learning rate or the width: units that never fire get no gradient, and cost space."
            )
            return Symptom("dead dimensions", where, value, MOST_DEAD, said, remedy)
    return None


def informational_collapse(look: Look, _: float | None = None) -> Symptom | None:
    """The columns vary, but all alike."""
    one = min(look.embedding, key=lambda spread: spread.directions)
    limit = fewest_directions(one.most_directions)
    narrow = any(encoded.most_directions == 1 for encoded in look.representation)  # which has no more to give
    if _flat(one) or narrow or not one.directions < limit:
        return None
    said = f"Its {look.width} dimensions vary along {one.directions:.1f} directions only."
    remedy = (
        "Raise cov_coeff: without the covariance term all dimensions come to say the same. If it is high enough, look "
        "whether the data have more than one direction themselves."
    )
    return Symptom("informational collapse", "embedding", one.directions, limit, said, remedy, worse=-1)


def invariance_ignored(look: Look, _: float | None = None) -> Symptom | None:
    """The views of a sample are not brought together."""
    name, where = "invariance ignored", "embedding"
    share = look.shares.get("invariance")
    apart = f"views of a row are {look.difference:.2g} as far apart as those of different rows"
    if share is not None and share < LEAST_SHARE and look.difference > SMALL_DIFFERENCE:
        said = f"The invariance term has {share:.1%} of the gradient, and {apart}."
        remedy = "Raise sim_coeff to about std_coeff, or lower the other weights."
        return Symptom(name, where, share, LEAST_SHARE, said, remedy, worse=-1)
    if look.difference > LARGE_DIFFERENCE:
        said = f"{apart[0].upper()}{apart[1:]}."
        remedy = "Look whether row i of both views is of the same sample; if so weaken the views, or raise sim_coeff."
        return Symptom(name, where, look.difference, LARGE_DIFFERENCE, said, remedy)
    return None


def covariance_at_its_floor(look: Look, _: float | None = None) -> Symptom | None:
    """The covariance term pulls at nothing but the noise of a batch that is smaller than the width."""
    without = not _may_have(look, "covariance") or look.shares.get("covariance") == 0
    if without or look.width <= look.rows or not look.noise > MOST_NOISE:
        return None
    said = f"{look.noise:.0%} of the covariance term is the noise of {look.rows} rows: nothing is left to gain from it."
    remedy = (
        f"The batch is too small for this width: raise batch_size above {look.rows} (with accumulate where memory is "
        f"short), or narrow the expander, which gives {look.width} dimensions."
    )
    return Symptom("covariance at its noise floor", "embedding", look.noise, MOST_NOISE, said, remedy)


FAILURES: tuple[Callable[[Look, float | None], Symptom | None], ...] = (
    diverging,
    one_branch_collapsed,
    norm_collapse,
    dead_dimensions,
    informational_collapse,
    invariance_ignored,
    covariance_at_its_floor,
)
"""In the order of cause and effect."""


def _may_have(look: Look, term: str) -> bool:
    """Whether the loss has such a term, or nothing is known of its terms."""
    known = {name.split("_")[0] for name in (*look.shares, *look.terms)} - {"total"}
    return not known or term in known


def _flat(spread: Spread) -> bool:
    return spread.dead == 1 or spread.deviation < LEAST_DEVIATION
