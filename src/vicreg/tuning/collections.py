"""Pictures or signals as material for trials."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from vicreg._checks import message
from vicreg.data import Corrupt
from vicreg.evaluation.inputs import FloatArray, Task
from vicreg.networks import Branch
from vicreg.training.collection import threads
from vicreg.training.engine import machine
from vicreg.training.feed import seed_of
from vicreg.tuning.tried import Columns, Watch, unwatched
from vicreg.workflows.medium import Embeds, Medium, Prepared, Source

MOST_HELD = 2000
MOST_ASKED = 4000
"""Items that were learnt from and are represented for probes."""
MOST_VIEWED, MOST_VIEWS = 256, 4
"""Items, and views of each, that LiDAR is taken of: each costs a pass through the network."""
COLUMNS = ValueError(
    message("a score by columns", "be for a table", "pictures or signals", "rankme, lidar or stability suit all.")
)


@dataclass(frozen=True, eq=False)
class CollectionMaterial:
    """Items of a collection, cut in two.

    Attributes:
        medium: What they are.
        source: All of them.
        learn: (n,) the items that are learnt from, ascending.
        hold: (m,) those held out, ascending.
        base: The settings that the search starts from.
        codes: The number of each item's class in the whole source, -1 for none; None without labels.
    """

    medium: Medium
    source: Source
    learn: NDArray[np.int64]
    hold: NDArray[np.int64]
    base: Any
    codes: NDArray[np.int64] | None = None

    @property
    def labels(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Classes of those that are asked about, of both parts."""
        if self.codes is None:
            fix = "Name them, or a score without labels."
            raise ValueError(message("a score by labels", "have labels", "none", fix))
        return self.codes[self.asked], self.codes[self.hold]

    @property
    def task(self) -> Task:
        """Labels of collections are classes."""
        return "classification"

    @property
    def inputs(self) -> Columns:
        """A collection has no columns."""
        raise COLUMNS

    @property
    def columns(self) -> Columns:
        """A collection has no columns."""
        raise COLUMNS

    @cached_property
    def asked(self) -> NDArray[np.int64]:
        """The items that were learnt from and are asked about: those with a class, or some of them."""
        every = self.learn if self.codes is None else self.learn[self.codes[self.learn] >= 0]
        if len(every) <= MOST_ASKED:
            return every
        generator = np.random.default_rng([self.base.seed, 1])
        found: NDArray[np.int64] = np.sort(generator.choice(every, MOST_ASKED, replace=False))
        return found

    def fit(self, config: Any, watch: Watch = unwatched, *, without_columns: bool = False) -> TrainedOnCollection:
        """Learn with these settings."""
        if without_columns:
            raise COLUMNS
        place = machine(config.device, precision=config.precision)
        codes = None if self.codes is None else self.codes[self.learn]
        run = self.medium.run(config, self.medium.subset(self.source, self.learn), place, codes, ())

        def now() -> TrainedOnCollection:
            return TrainedOnCollection(run, self)

        run.train(watch(run.objective, now))
        return now()


class TrainedOnCollection:
    """A trained run, asked about items of the collection that it learnt from. Each is opened once.

    Args:
        run: The run.
        material: The collection.
    """

    def __init__(self, run: Prepared, material: CollectionMaterial) -> None:
        self._run, self._material = run, material

    @cached_property
    def learnt(self) -> FloatArray:
        """(n, k) representation of items that were learnt from."""
        return self._looked(self._material.asked)[0]

    @property
    def held(self) -> FloatArray:
        """(m, k) representation of the held-out items."""
        return self._held[0]

    @property
    def raw(self) -> NDArray[np.float32]:
        """(m, p) pixels, or what signals are like without an encoder, standardised."""
        raw = self._held[1]
        deviation = raw.std(0)
        found: NDArray[np.float32] = (raw - raw.mean(0)) / np.where(deviation > 0, deviation, 1)
        return found

    @cached_property
    def embedding(self) -> Tensor:
        """(m, d) embedding of the held-out items, of the first branch where two are kept."""
        expander = cast(Branch, self._run.state.model.branches[0]).expander
        width = next((one.shape[1] for one in expander.parameters() if one.ndim == 2), self.held.shape[1])
        h = torch.from_numpy(self.held[:, :width].astype(np.float32))
        z: Tensor = self._still(lambda: expander(h.to(self._run.place.device)).float().cpu())
        return z

    def views(self, count: int) -> list[FloatArray]:
        """Representations of crops at random of some held-out items."""
        material = self._material
        embedder = self._embedder
        crops = material.medium.random_crops(embedder)
        rows = material.hold[:MOST_VIEWED]
        found = []
        for number in range(min(count, MOST_VIEWS)):
            generator = Generator().manual_seed(seed_of(material.base.seed, 7, number))
            numbers = crops.draw(len(rows), generator).tolist()
            cut = [crops.crop(material.source, int(row), one) for row, one in zip(rows, numbers, strict=True)]
            found.append(self._still(partial(self._encoded, embedder, torch.stack(cut))))
        return found

    @cached_property
    def _held(self) -> tuple[FloatArray, NDArray[np.float32]]:
        return self._looked(self._material.hold)

    @property
    def _embedder(self) -> Embeds:
        return self._material.medium.trained(self._run)

    def _encoded(self, embedder: Embeds, crops: Tensor) -> FloatArray:
        return embedder.encode(crops).astype(np.float64)

    def _looked(self, rows: NDArray[np.int64]) -> tuple[FloatArray, NDArray[np.float32]]:
        material = self._material
        ledger, workers = Corrupt(0.0), threads(material.base.workers)

        def look() -> list[tuple[Any, ...]]:
            embedder = self._embedder
            looked = material.medium.looked(embedder, material.source, rows, ledger, workers)
            return [(some, self._encoded(embedder, crops), raw.astype(np.float32)) for some, raw, crops in looked]

        found = self._still(look)
        order = np.argsort(np.concatenate([some for some, *_ in found]))
        return tuple(np.concatenate(part)[order] for part in list(zip(*found, strict=True))[1:])  # type: ignore[return-value]  # two

    def _still(self, act: Callable[[], Any]) -> Any:
        """Without training: batch norm, say, is as it is for new items."""
        model = self._run.state.model
        modes = [(module, module.training) for module in model.modules()]
        model.eval()
        try:
            with torch.inference_mode():
                return act()
        finally:
            for module, training in modes:
                module.training = training
