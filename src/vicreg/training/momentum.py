"""How slowly averaged target branches follow the trained ones."""

from __future__ import annotations

import math

BASE = 0.99
"""BYOL's for runs of up to 300 epochs (its paper, arXiv:2006.07733, appendix F.3); for 1000 epochs it takes .996."""


def rising(step: int, steps: int, base: float = BASE) -> float:
    """The share that a target branch keeps of itself at a step: from ``base`` up to 1 along half a cosine.

    Source: BYOL, section 3.2: 1 - (1 - base) (cos(pi k / K) + 1) / 2 at step k of K.

    Args:
        step: From 0 to ``steps`` - 1.
        steps: Length of the run.
        base: Where it begins.

    Example:
        >>> [round(rising(step, 100), 4) for step in (0, 50, 99)]
        [0.99, 0.995, 1.0]
    """
    return 1 - (1 - base) * (math.cos(math.pi * step / steps) + 1) / 2


def steady(step: int, steps: int) -> float:
    """The same share at every step, for streams that have no end."""
    return BASE
