"""The progress of a run, with its terms: a bar in a terminal, a line per tenth elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from vicreg.distributed import process_count
from vicreg.functional import noise_floor, standard_deviation
from vicreg.training.engine import Callback, State

SECONDS_BETWEEN_LOOKS = 0.2
"""Each look at the terms waits for the device."""


@contextmanager
def progress() -> Iterator[Callback]:
    """A callback that shows on standard error how far a run is and what its terms are."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _line_per_tenth
        return
    columns = (MofNCompleteColumn(), BarColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=None)
        looked = 0.0

        def show(state: State) -> None:
            nonlocal looked
            now = time.monotonic()
            if now - looked >= SECONDS_BETWEEN_LOOKS or state.step == state.steps:
                looked = now
                bar.update(task, total=state.steps, completed=state.step, description=terms_in_words(state))

        yield show


def _line_per_tenth(state: State) -> None:
    if state.step % max(1, state.steps // 10) == 0 or state.step == state.steps:
        print(f"step {state.step}/{state.steps}  {terms_in_words(state)}", file=sys.stderr, flush=True)


def terms_in_words(state: State) -> str:
    """The unweighted terms of the last step, the branches' variances and covariances averaged.

    The covariance is what it is above its noise floor: what is below is there whatever the embeddings are.
    """
    latest = dict(zip(state.names, state.terms[state.step - 1].tolist(), strict=True))
    groups: dict[str, list[float]] = {}
    for name, value in latest.items():
        groups.setdefault(name.removesuffix("_a").removesuffix("_b"), []).append(value)
    averages = {name: sum(values) / len(values) for name, values in groups.items()}
    if "covariance" in averages and state.joint is not None:
        averages["covariance"] -= _floor(state.joint.z)
    return "  ".join(f"{name} {value:.3g}" for name, value in averages.items())


def _floor(z: Sequence[Tensor]) -> float:
    """Mean noise floor of the views' covariance terms, in the batch of all processes."""
    views = [one.unsqueeze(1) if one.ndim == 2 else one for one in z]  # local features: the mean over their places
    rows = len(z[0]) * process_count("default")
    places = [place for one in views for place in one.unbind(1)]
    return sum(float(noise_floor(standard_deviation(one).square(), rows)) for one in places) / len(places)
