"""Which few of many samples are looked at, where looking at all would take too long."""

from __future__ import annotations

import numpy as np

SAMPLED = 64
"""So many are looked at before all are expected to be like them."""


def spread(count: int) -> list[int]:
    """Some indices from first to last.

    Example:
        >>> spread(3), spread(1000)[:3]
        ([0, 1, 2], [0, 16, 32])
    """
    return sorted({round(row) for row in np.linspace(0, count - 1, min(SAMPLED, count))})
