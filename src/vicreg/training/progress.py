"""The progress of a run, with its terms: a bar in a terminal, a line per tenth elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from vicreg.distributed import process_count
from vicreg.functional import noise_floor, standard_deviation
from vicreg.training.engine import Callback, State

SECONDS_BETWEEN_LOOKS = 0.2
"""Each look at the terms waits for the device."""
SECONDS_TO_TELL = 15.0
"""The pace is told after so long, by two steps at least: the first ones are slower than others."""
LONG = 600.0
"""What takes no more seconds needs no estimate."""


@contextmanager
def progress(shorter: str = "--steps shortens it") -> Iterator[Callback]:
    """A callback that shows on standard error how far a run is and what its terms are; once, if much time is left.

    Args:
        shorter: What can be done about that.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        pace = Pace(partial(print, file=sys.stderr, flush=True), shorter)

        def tell(state: State) -> None:
            pace(state)
            _line_per_tenth(state)

        yield tell
        return
    pace = Pace(console.print, shorter)
    columns = (MofNCompleteColumn(), BarColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=None)
        looked = 0.0

        def show(state: State) -> None:
            nonlocal looked
            pace(state)
            now = time.monotonic()
            if now - looked >= SECONDS_BETWEEN_LOOKS or state.step == state.steps:
                looked = now
                bar.update(task, total=state.steps, completed=state.step, description=terms_in_words(state))

        yield show


class Pace:
    """A callback that tells once, early in a run, how much time it has left, where that is long.

    Args:
        say: Told in words.
        shorter: What shortens it.

    Example:
        >>> Pace(print, "--steps shortens it").tell(8000.0)
        About 2 hours left at this pace; --steps shortens it.
    """

    def __init__(self, say: Callable[[str], None], shorter: str) -> None:
        self.say = say
        self.shorter = shorter
        self._begun: tuple[int, float] | None = None
        self._told = False

    def __call__(self, state: State) -> None:
        """After every step."""
        now = time.monotonic()
        if self._begun is None or state.step <= self._begun[0]:  # a run may be followed by a second one
            self._begun = (state.step, now)
            self._told = False
            return
        steps, seconds = state.step - self._begun[0], now - self._begun[1]
        if not self._told and steps > 1 and seconds >= SECONDS_TO_TELL:
            self._told = True
            self.tell(seconds / steps * (state.steps - state.step))

    def tell(self, seconds: float) -> None:
        """Say that so many are left, if they are many."""
        if seconds >= LONG:
            self.say(f"About {duration(seconds)} left at this pace; {self.shorter}.")


def duration(seconds: float) -> str:
    """A time in words, roughly.

    Example:
        >>> duration(720), duration(3700), duration(5400), duration(400_000)
        ('10 minutes', '1 hour', '1.5 hours', '4.5 days')
    """
    minutes = seconds / 60
    if minutes < 57.5:
        return f"{max(5, 5 * round(minutes / 5))} minutes"
    unit, many = ("hour", minutes / 60) if minutes < 48 * 60 else ("day", minutes / 60 / 24)
    many = round(2 * many) / 2 if many < 10 else round(many)
    return f"{many:g} {unit}{'' if many == 1 else 's'}"


def _line_per_tenth(state: State) -> None:
    if state.step % max(1, state.steps // 10) == 0 or state.step == state.steps:
        print(f"step {state.step}/{state.steps}  {terms_in_words(state)}", file=sys.stderr, flush=True)


def terms_in_words(state: State) -> str:
    """The unweighted terms of the last step, the branches' variances and covariances averaged.

    The excess covariance is what it is above its noise floor: the rest is there whatever the embeddings are, so that
    it lies around 0, and below as often as above, where nothing is left to do.
    """
    latest = dict(zip(state.names, state.terms[state.step - 1].tolist(), strict=True))
    groups: dict[str, list[float]] = {}
    for name, value in latest.items():
        groups.setdefault(name.removesuffix("_a").removesuffix("_b"), []).append(value)
    said: dict[str, str] = {}
    averages = {name: sum(values) / len(values) for name, values in groups.items()}
    if "covariance" in averages and state.joint is not None:
        averages["covariance"] -= _floor(state.joint.z)
        said["covariance"] = "excess covariance"
    return "  ".join(f"{said.get(name, name)} {value:.3g}" for name, value in averages.items())


def _floor(z: Sequence[Tensor]) -> float:
    """Mean noise floor of the views' covariance terms, in the batch of all processes."""
    views = [one.unsqueeze(1) if one.ndim == 2 else one for one in z]  # local features: the mean over their places
    rows = len(z[0]) * process_count("default")
    places = [place for one in views for place in one.unbind(1)]
    return sum(float(noise_floor(standard_deviation(one).square(), rows)) for one in places) / len(places)
