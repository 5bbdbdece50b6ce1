"""A table as material for trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from vicreg._checks import message, require
from vicreg.evaluation.inputs import FloatArray, Task, infer_task
from vicreg.networks import JointEmbedding
from vicreg.objectives import Objective
from vicreg.training.config import TableConfig
from vicreg.training.feed import seed_of
from vicreg.training.table import resident, table_run
from vicreg.tuning.tried import Columns, Watch, unwatched
from vicreg.views import Pair, Table, table_views

HIDDEN_SHARE = 1 / 3
MOST_HIDDEN = 32
ROWS_AT_ONCE = 8192
MOST_PROBED = 5000
"""Rows that were learnt from and are represented for probes and neighbours."""


@dataclass(frozen=True, eq=False)
class TableMaterial:
    """A table's rows, cut in two.

    Attributes:
        x: (n, p) vectorised rows that are learnt from.
        raw: (m, p) those held out.
        sources: (p,) index of each feature's source column.
        base: The settings that the search starts from: their views are those of LiDAR, their seed draws the columns
            that are kept out.
        known: (n,) labels of the former; None without labels.
        asked: (m,) labels of the latter.
        labelled: (n,) which of the former have a label; None: all.
        views: In place of those that settings name.
        encoders: In place of those that settings describe, as in :func:`vicreg.training.table.table_run`.
        objective: In place of the one that settings name.

    Example:
        >>> rows = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
        >>> base = TableConfig(n_components=2, steps=3, device="cpu")
        >>> TableMaterial(rows[:40], rows[40:], np.arange(4), base).fit(base).held.shape
        (20, 2)
    """

    x: NDArray[np.float32]
    raw: NDArray[np.float32]
    sources: NDArray[np.int64]
    base: TableConfig
    known: NDArray[Any] | None = None
    asked: NDArray[Any] | None = None
    labelled: NDArray[np.bool_] | None = None
    views: Pair | None = None
    encoders: Sequence[nn.Module] = ()
    objective: Objective | None = None

    @property
    def labels(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """(n,) and (m,) labels of the rows that are asked about, of both parts."""
        if self.known is None or self.asked is None:
            fix = "Name them, or a score without labels."
            raise ValueError(message("a score by labels", "have labels", "none", fix))
        return self.known[self.probed], self.asked

    @cached_property
    def task(self) -> Task:
        """Whether labels are classes or numbers."""
        return infer_task(np.concatenate(self.labels))

    @cached_property
    def probed(self) -> NDArray[np.int64]:
        """The rows that were learnt from and are asked about: those with a label, at most some drawn at random."""
        every = np.arange(len(self.x)) if self.labelled is None else np.flatnonzero(self.labelled)
        if len(every) <= MOST_PROBED:
            return every
        found: NDArray[np.int64] = np.sort(self._generator(1).choice(every, MOST_PROBED, replace=False))
        return found

    @property
    def inputs(self) -> Columns:
        """(n, p) and (m, p) the features of both parts, and (p,) their source columns."""
        return self.x[self.probed], self.raw, self.sources

    @property
    def columns(self) -> Columns:
        """Of the columns that are kept out, all of whose features the settings' seed has drawn."""
        mine = np.isin(self.sources, self.hidden)
        return self.x[self.probed][:, mine], self.raw[:, mine], self.sources[mine]

    @cached_property
    def hidden(self) -> NDArray[np.int64]:
        """The source columns that a fit without columns does not see: a third of those that vary."""
        varies = np.unique(self.sources[(self.x.std(0) > 0) & (self.raw.std(0) > 0)])
        fix = "Choose another score."
        require(len(varies) > 1, "the score by held-out columns", "have two columns that vary", len(varies), fix)
        count = min(MOST_HIDDEN, max(1, round(HIDDEN_SHARE * len(varies))))
        found: NDArray[np.int64] = np.sort(self._generator(0).choice(varies, count, replace=False))
        return found

    def fit(self, config: TableConfig, watch: Watch = unwatched, *, without_columns: bool = False) -> TrainedOnTable:
        """Learn with these settings; without some of the columns where these are to be asked for."""
        features = self._features(without_columns)
        sources = np.unique(self.sources[features], return_inverse=True)[1]
        x = np.ascontiguousarray(self.x[:, features])
        views = self.views or table_views(config.views, config.view_rate)
        run = table_run(config, x, sources, views, self.encoders, self.objective)

        def now() -> TrainedOnTable:
            return TrainedOnTable(run.state.model, self, features)

        run.train(watch(run.objective, now))
        return now()

    @cached_property
    def still(self) -> tuple[Table, Pair]:
        """The held-out rows with the views that the search starts from: neighbours are sought among these rows."""
        views = self.views or table_views(self.base.views, self.base.view_rate)
        return resident(self.raw, self.sources, views, torch.device("cpu")), views

    def _features(self, without_columns: bool) -> NDArray[np.bool_]:
        if not without_columns:
            return np.ones(len(self.sources), bool)
        return ~np.isin(self.sources, self.hidden)

    def _generator(self, which: int) -> np.random.Generator:
        return np.random.default_rng([self.base.seed, which])


class TrainedOnTable:
    """A trained model, asked about the rows of the table that it learnt from.

    Args:
        model: The networks.
        material: The table.
        features: (p,) which features the model knows.
    """

    def __init__(self, model: JointEmbedding, material: TableMaterial, features: NDArray[np.bool_]) -> None:
        self.model, self._material, self._features = model, material, features

    @cached_property
    def learnt(self) -> FloatArray:
        """(n, k) representation of the rows that were learnt from."""
        return self._encoded(self._material.x[self._material.probed])[0].numpy().astype(np.float64)

    @cached_property
    def held(self) -> FloatArray:
        """(m, k) representation of the held-out rows."""
        return self._both[0].numpy().astype(np.float64)

    @property
    def raw(self) -> NDArray[np.float32]:
        """(m, p) the held-out rows."""
        return self._material.raw

    @property
    def embedding(self) -> Tensor:
        """(m, d) embedding of the held-out rows."""
        return self._both[1]

    def views(self, count: int) -> list[FloatArray]:
        """Representations of views of each held-out row; the first kind of view and the second by turns."""
        table, views = self._material.still
        batch = table.batch(torch.arange(len(table.x)))
        found = []
        for number in range(count):
            generator = Generator().manual_seed(seed_of(self._material.base.seed, 7, number))
            view = views[number % 2](batch, generator).numpy()
            found.append(self._encoded(view)[0].numpy().astype(np.float64))
        return found

    @cached_property
    def _both(self) -> tuple[Tensor, Tensor]:
        return self._encoded(self._material.raw)

    def _encoded(self, x: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
        branch = self.model.branches[0]
        device = next(branch.parameters()).device
        rows = torch.from_numpy(np.ascontiguousarray(x[:, self._features]))
        modes = [(module, module.training) for module in branch.modules()]
        branch.eval()
        with torch.inference_mode():
            parts = [branch(chunk.to(device)) for chunk in torch.split(rows, ROWS_AT_ONCE)]
        for module, training in modes:
            module.training = training
        h, z = (torch.cat([part[k].float().cpu() for part in parts]) for k in (0, 1))
        return h, z
