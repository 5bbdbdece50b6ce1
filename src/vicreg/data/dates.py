"""Columns of dates and times."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from vicreg._checks import require, shown
from vicreg.data import cells as read
from vicreg.data.cells import Cells, Floats
from vicreg.data.numeric import (
    Constant,
    Features,
    centre_and_scale,
    check_scale,
    check_share,
    gap_name,
    record_of,
    standardise,
    with_gaps,
)

DAY = 24 * 60 * 60 * 1_000_000
"""Microseconds."""

CYCLES = {"month": 12, "day": 31, "weekday": 7, "minute": 1440}
"""What of a date comes round again, and after how many steps; "minute" is the time of day."""


@dataclass(frozen=True)
class Date:
    """Moments: the time, standardised, and sine and cosine of the cycles that vary; in all one number's variance.

    Attributes:
        name: The source column.
        pattern: The form of dates in text (``strptime``), None for ISO 8601.
        mean: Mean moment, in seconds since 1970.
        scale: Standard deviation, in seconds.
        cycles: Those of ``CYCLES`` that vary.
        centre: Mean of sine and cosine of each.
        gaps: The share of gaps.
    """

    kind: ClassVar[str] = "date"
    name: str
    pattern: str | None
    mean: float
    scale: float
    cycles: tuple[str, ...]
    centre: tuple[float, ...]
    gaps: float

    def __post_init__(self) -> None:
        check_scale(self.name, self.scale)
        check_share(self.name, self.gaps)
        known = len(set(self.cycles)) == len(self.cycles) and set(self.cycles) <= set(CYCLES)
        require(known, record_of(self.name), f"have cycles among {tuple(CYCLES)}", self.cycles)
        fits = len(self.centre) == 2 * len(self.cycles) and all(abs(c) <= 1 for c in self.centre)
        require(fits, record_of(self.name), "have a centre within the circle of each cycle", self.centre)

    @classmethod
    def fit(cls, name: str, cells: Cells, pattern: str | None = None) -> Date | Constant:
        """Mean, spread and varying cycles of the observed moments."""
        ticks, gap = read.moments(cells, f"column {shown(name)}", pattern)
        seen = ticks[~gap]
        gaps = float(gap.mean())
        if len(seen) == 0 or (seen.min() == seen.max() and gaps == 0):
            return Constant(name)
        mean, scale = centre_and_scale(seen / 1e6)
        steps = {cycle: _cycle_steps(seen, cycle) for cycle in CYCLES}
        varying = tuple(cycle for cycle, step in steps.items() if step.min() < step.max())
        circles = [_circle(CYCLES[cycle])[steps[cycle]].mean(axis=0) for cycle in varying]
        centre = tuple(float(c) for circle in circles for c in circle)
        return cls(name, pattern, mean, scale or 1.0, varying, centre, gaps)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The time, sine and cosine of each cycle, the gaps where the fit saw any."""
        waves = (f"{self.name}: {wave} of {cycle}" for cycle in self.cycles for wave in ("sine", "cosine"))
        return (f"{self.name}: time", *waves, *gap_name(self.name, self.gaps))

    def features(self, cells: Cells) -> Features:
        """Features of shape (n, 1 + 2 cycles [+ 1])."""
        ticks, gap = read.moments(cells, f"column {shown(self.name)}", self.pattern)
        raw = np.empty((len(ticks), 1 + len(self.centre)))
        raw[:, 0] = standardise(ticks / 1e6, self.mean, self.scale)
        for i, cycle in enumerate(self.cycles):
            raw[:, 1 + 2 * i : 3 + 2 * i] = _circle(CYCLES[cycle])[_cycle_steps(ticks, cycle)]
        raw[:, 1:] -= np.array(self.centre)
        # Sine and cosine lie on the unit circle: a cycle's total variance is one less its centre's squared length.
        raw /= math.sqrt(1 + len(self.cycles) - sum(c * c for c in self.centre))
        raw[gap] = 0.0
        return with_gaps(raw, gap, self.gaps)


def _cycle_steps(ticks: npt.NDArray[np.int64], cycle: str) -> npt.NDArray[np.int64]:
    """How many steps into the cycle each moment lies, from 0."""
    days = ticks // DAY
    if cycle == "minute":
        return (ticks - days * DAY) // 60_000_000
    if cycle == "weekday":
        return (days + 3) % 7  # 1970 began on a Thursday
    dates = days.astype("datetime64[D]")
    months = dates.astype("datetime64[M]")
    if cycle == "month":
        return np.asarray(months.astype(np.int64) % 12)
    return np.asarray((dates - months.astype("datetime64[D]")).astype(np.int64))


def _circle(steps: int) -> Floats:
    """Sine and cosine of every step round a cycle, (steps, 2): looked up, so that equal moments give equal bits."""
    angle = 2 * np.pi * np.arange(steps) / steps
    return np.stack([np.sin(angle), np.cos(angle)], axis=1)
