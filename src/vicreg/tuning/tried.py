"""A configuration that is tried: fits that happen when a score asks for them, and what it may look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vicreg.evaluation.inputs import FloatArray, Task
from vicreg.objectives import Objective
from vicreg.training.engine import Callback

Columns = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]
"""Features (n, p) of what was learnt from, (m, p) of what is held out, and (p,) their source columns."""


class Trained(Protocol):
    """A trained encoder, asked about what it learnt from and what was held out from it."""

    @property
    def learnt(self) -> FloatArray:
        """(n, k) representation of what was learnt from and is asked about: labelled rows, or some of many."""

    @property
    def held(self) -> FloatArray:
        """(m, k) representation of what was held out."""

    @property
    def raw(self) -> NDArray[np.float32]:
        """(m, p) the same without an encoder, on a common scale."""

    @property
    def embedding(self) -> Tensor:
        """(m, d) embedding of what was held out, on which the loss acts."""

    def views(self, count: int) -> Sequence[FloatArray]:
        """Representations of so many views of each held-out row, the same views for every encoder."""


Watch = Callable[[Objective, Callable[[], Trained]], Sequence[Callback]]
"""From a run's objective, and what gives its encoder as it is, to what is called after each of its steps."""


def unwatched(objective: Objective, now: Callable[[], Trained]) -> Sequence[Callback]:
    """Nothing is called."""
    return ()


class AnotherFit(Exception):  # noqa: N818  # no error: the score has to wait
    """A score asked for a second fit while the first was under way."""


class Material(Protocol):
    """What is tuned on: data cut into what is learnt from and what is held out to choose by."""

    @property
    def labels(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """(n,) and (m,) labels of both parts."""

    @property
    def task(self) -> Task:
        """Whether labels are classes or numbers."""

    @property
    def inputs(self) -> Columns:
        """The columns that are learnt from."""

    @property
    def columns(self) -> Columns:
        """Those that a fit without them is asked for."""

    def fit(self, config: Any, watch: Watch = unwatched, *, without_columns: bool = False) -> Trained:
        """Learn with these settings; without some of the columns where these are to be asked for."""


@dataclass(frozen=True, eq=False)
class Tried:
    """A configuration on some material. Each fit happens once, when it is first asked for.

    Attributes:
        material: The data.
        config: The settings.
        watch: From which fit it is, ``main`` or ``without_columns``, to what watches it.
        under_way: Whether this is the midst of a fit, when no other can be had.
        first: What was noted of the first trial, the default, by name; nothing in that trial itself.
        note: Keeps a number beside the trial, by a name.
    """

    material: Material
    config: Any
    watch: Callable[[str], Watch] = lambda which: unwatched
    under_way: bool = False
    first: Mapping[str, float] = field(default_factory=dict)
    note: Callable[[str, float], None] = lambda name, value: None

    @cached_property
    def main(self) -> Trained:
        """The fit with all columns."""
        return self._fit(self.config, "main")

    @cached_property
    def other_seed(self) -> Trained:
        """The same from another seed."""
        return self._fit(replace(self.config, seed=self.config.seed + 1), None)

    @cached_property
    def without_columns(self) -> Trained:
        """A fit that some columns were kept from."""
        return self._fit(self.config, "without_columns")

    @property
    def labels(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """(n,) and (m,) labels of what was learnt from and of what is held out."""
        return self.material.labels

    @property
    def task(self) -> Task:
        """Whether labels are classes or numbers."""
        return self.material.task

    @property
    def inputs(self) -> Columns:
        """The columns that were learnt from."""
        return self.material.inputs

    @property
    def columns(self) -> Columns:
        """The columns that ``without_columns`` did not see."""
        return self.material.columns

    def at(self, which: str, trained: Trained) -> Tried:
        """The same in the midst of one of its fits, whose encoder is taken as it is."""
        found = replace(self, under_way=True)
        found.__dict__[which] = trained
        return found

    def _fit(self, config: Any, which: str | None) -> Trained:
        if self.under_way:
            raise AnotherFit
        watch = unwatched if which is None else self.watch(which)
        return self.material.fit(config, watch, without_columns=which == "without_columns")
