"""A study: trials one after the other, shared with every other process that runs the same one, until all are done."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from vicreg._checks import message, shown
from vicreg.diagnostics import Finding
from vicreg.objectives import Objective
from vicreg.training.engine import Callback, Diverged, State
from vicreg.training.monitoring import monitor_of, monitored
from vicreg.tuning.ledger import RUNGS, Ledger, Row, Taken, plain_values
from vicreg.tuning.scores import Score
from vicreg.tuning.space import Space, values_of, with_values
from vicreg.tuning.tried import AnotherFit, Material, Trained, Tried, Watch

COLLAPSES = ("diverging", "one branch collapsed", "norm collapse", "informational collapse", "dead dimensions")
"""What the monitor names and no trial comes back from. What else it names is kept beside the trial."""
SECONDS_BETWEEN_LOOKS = 1.0
PRUNED = "at {:.0%} of its steps its score was among the lower half"


class Pruned(Exception):  # noqa: N818  # no error: the trial was not worth going on with
    """A trial is not worth going on with; the text says why."""


def worker_name() -> str:
    """A name that no other worker has."""
    return uuid.uuid4().hex


def run_study(
    ledger: Ledger,
    material: Material,
    base: Any,
    space: Space,
    score: Score,
    total: int,
    *,
    halving: bool = True,
    relative: bool = False,
    tell: Callable[[Row], None] = lambda row: None,
    wait: Callable[[int], None] = lambda count: None,
) -> None:
    """Run trials until there are ``total``, those of other processes counted in.

    Args:
        ledger: The study.
        material: What is tuned on.
        base: The settings that the search starts from; those of the first trial.
        space: What is searched.
        score: What trials are judged by.
        total: Trials in all.
        halving: Whether a trial ends early whose score is among the lower half at a quarter or at half of its steps.
        relative: Whether the score looks at what was noted of the default: then that is tried before all others.
        tell: Told of each trial that this process has finished.
        wait: Told how many trials other processes are still at, when there is nothing else left to do.

    Raises:
        ValueError: The score is relative, and the default has none.
    """
    own = values_of(base, space)
    default = plain_values(own)
    told = -1
    while True:
        ledger.queue(total, default)
        first = _first(ledger, relative=relative)
        most = 1 if relative and first is None else total
        taken = ledger.take(most)
        if taken is not None:
            number = taken.trial.number
            attempt(ledger, taken, material, base, space, own, score, first.notes if first else {}, halving=halving)
            tell(next(row for row in ledger.rows() if row.number == number))
            continue
        count = ledger.running(most)
        if not count:
            return
        if count != told:
            wait(count)
            told = count
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _first(ledger: Ledger, *, relative: bool) -> Row | None:
    """The default's trial, where the score looks at it and it is done."""
    over = (row for row in ledger.rows() if relative and row.slot == 0 and not row.abandoned)
    first = next((row for row in over if row.state in ("complete", "pruned", "failed")), None)
    if first is not None and first.state != "complete":
        fix = "Name another --score."
        raise ValueError(message("a score that looks at the default", "have one of it", first.reason, fix))
    return first


def attempt(
    ledger: Ledger,
    taken: Taken,
    material: Material,
    base: Any,
    space: Space,
    own: Mapping[str, Any],
    score: Score,
    first: Mapping[str, Any],
    *,
    halving: bool,
) -> None:
    """Run one trial, and write down what came of it. One that is stopped from outside is queued again."""
    try:
        values = taken.values(space, own)
        with ledger.held(taken):
            value = _scored(taken, material, base, values, score, first, halving=halving)
    except Pruned as pruned:
        ledger.prune(taken, str(pruned))
    except Diverged as diverged:
        ledger.prune(taken, f"diverging: {diverged}")
    except (ValueError, TypeError, ArithmeticError, RuntimeError, MemoryError) as failure:
        ledger.fail(taken, str(failure).strip().partition("\n")[0] or type(failure).__name__)
    except BaseException:
        ledger.fail(taken, None)
        raise
    else:
        if math.isfinite(value):
            ledger.complete(taken, value)
        else:
            ledger.fail(taken, message("the score", "be a finite number", value))


def _scored(
    taken: Taken,
    material: Material,
    base: Any,
    values: Mapping[str, Any],
    score: Score,
    first: Mapping[str, Any],
    *,
    halving: bool,
) -> float:
    config = base if taken.default else with_values(base, values)
    begun: list[str] = []

    def watch(which: str) -> Watch:
        begun.append(which)
        first = halving and len(begun) == 1  # a second fit would be late to spare anything
        return partial(_watch, taken, tried, score if first else None, which)

    tried = Tried(material, config, watch, first=first, note=taken.note)
    found = score(tried)
    if isinstance(found, bool) or not isinstance(found, int | float):
        fix = "It is called with the probe, the representation of held-out rows and their labels."
        raise TypeError(message("a score", "be a number", shown(found), fix))
    return float(found)


def _watch(
    taken: Taken, tried: Tried, score: Score | None, which: str, objective: Objective, now: Callable[[], Trained]
) -> Sequence[Callback]:
    """The monitor, and a look at the score at each rung."""

    def heard(finding: Finding) -> None:
        if finding.failure in COLLAPSES:
            raise Pruned(f"{finding.failure} at step {finding.step}: {finding.said} {finding.remedy}")
        taken.note("finding", str(finding))

    def rung(state: State) -> None:
        share = next((one for one in RUNGS if state.step == math.ceil(one * state.steps)), None)
        if score is None or share is None or state.step == state.steps:
            return
        with suppress(AnotherFit):  # such a score can only be told at the end
            found = score(tried.at(which, now()))
            if math.isfinite(found) and not taken.goes_on(share, found):
                raise Pruned(PRUNED.format(share))

    return [monitored(monitor_of(objective, heard), objective), rung]
