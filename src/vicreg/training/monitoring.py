"""The monitor of collapse on a run of ours: what it has to know of the objective, and how it is fed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vicreg.diagnostics import CollapseMonitor, Finding
from vicreg.objectives import Objective, Term
from vicreg.training.engine import Callback, State


def monitor_of(objective: Objective, notify: Callable[[Finding], None], processes: int = 1) -> CollapseMonitor:
    """A monitor that knows the scale at which the objective holds the embeddings.

    Args:
        objective: The run's.
        notify: Called with each finding.
        processes: How many share a batch.

    Example:
        >>> from vicreg.objectives import vicreg
        >>> monitor_of(vicreg(variance_target=0.5), notify=print).variance_target
        0.5
    """
    held = [term.options.get("target", 1.0) for term in _of_vicreg(objective).values() if term.kind == "variance"]
    target = _mean(held[0]) if held else None
    return CollapseMonitor(variance_target=target or None, processes=processes, notify=notify)


def monitored(monitor: CollapseMonitor, objective: Objective) -> Callback:
    """A callback that feeds a monitor with every step: the first two views, the terms, and VICReg's weights.

    Args:
        monitor: What to feed.
        objective: The run's.
    """
    weights: dict[str, float] | None = None

    def feed(state: State) -> None:
        nonlocal weights
        if state.joint is None or len(state.joint.z) < 2:
            return
        (h_a, h_b, *_), (z_a, z_b, *_) = state.joint.h, state.joint.z
        latest = dict(zip(state.names, state.terms[state.step - 1].unbind(), strict=True))
        if weights is None:
            weights = {str(term.kind): _weight(term, z_a.shape[-1]) for term in _of_vicreg(objective).values()}
        monitor.update(z_a, z_b, h_a=h_a, h_b=h_b, terms=latest, weights=weights, step=state.step)

    return feed


def _of_vicreg(objective: Objective) -> dict[str, Term]:
    """The terms that the monitor can tell the gradients of."""
    return {name: term for name, term in objective.items() if term.kind is not None and term.on == "z"}


def _weight(term: Term, width: int) -> float:
    """Of a mean over the entries, where the term may be one over the rows."""
    return _mean(term.weight) * (width if term.options.get("per") == "row" else 1)


def _mean(value: Any) -> float:
    numbers = list(value) if isinstance(value, tuple | list) else [value]
    return float(sum(numbers) / len(numbers))
