"""Items of a collection that have a class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicreg.workflows.medium import Source


@dataclass(frozen=True, eq=False)
class Labelled:
    """Items of a source that have a class.

    Attributes:
        source: The collection.
        rows: Which of them.
        labels: (len(rows),) their classes.
    """

    source: Source
    rows: NDArray[np.int64]
    labels: NDArray[Any]

    def kept(self, found: NDArray[np.int64]) -> NDArray[Any]:
        """The classes of those of the rows that could be read."""
        return self.labels[np.searchsorted(self.rows, found)]
