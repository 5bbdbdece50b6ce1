"""What is looked at while a collection is learnt from: an online probe, and at every epoch readings and neighbours."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from vicreg.data import Corrupt
from vicreg.evaluation import OnlineLinear, epoch_readings, weighted_knn
from vicreg.training.collection import threads
from vicreg.training.engine import State
from vicreg.training.feed import seed_of
from vicreg.workflows.collection_about import Collection
from vicreg.workflows.medium import Embeds, Prepared

MOST, FEWEST = 2048, 128
"""Items that readings are taken of: a tenth of what is learnt from, within these bounds."""
NEIGHBORS = 20


class Watch:
    """A callback that leaves a line for every epoch. It takes no part in learning: what it sees has no gradient.

    The online probe answers for each batch's augmented items before it learns from them. At the end of an epoch,
    held-out items are asked for their nearest among some that are learnt from; readings are of the former, or
    without labels of the latter. In a stream they are of the last batches' augmented items.

    Args:
        run: What is watched.
        collection: Its source.
        workers: Threads that open items.

    Attributes:
        lines: What was found at each epoch, by name.
    """

    def __init__(self, run: Prepared, collection: Collection, workers: int | None = None) -> None:
        self.run = run
        self.collection = collection
        self.workers = threads(workers)
        self.lines: list[dict[str, float]] = []
        self._recent: list[Tensor] = []
        self._since = (run.state.step, time.monotonic())
        self._all_known = collection.codes is not None and bool((collection.codes >= 0).all())
        self._bank, self._asked = _chosen(collection, run.how.seed)
        self._probe: OnlineLinear | None = None
        if collection.codes is not None:
            with _still(run.state.model):
                width = collection.medium.trained(run).width
            self._probe = OnlineLinear(width, len(collection.classes), seed=run.how.seed, device=run.place.device)

    def __call__(self, state: State) -> None:
        """After every step."""
        if state.joint is None or state.drawn is None:
            return
        h, labels = self.collection.medium.seen(self.run, state.joint.h), state.drawn.labels
        if self._probe is not None and labels is not None:
            known = labels >= 0
            if self._all_known or int(known.sum()) > 1:
                self._probe.step(h, labels) if self._all_known else self._probe.step(h[known], labels[known])
        if self.collection.source is None:
            self._recent = [*self._recent[-MOST // len(h) :], h]
        if state.step % self.run.epoch == 0 or state.step == state.steps:
            self._look(state)

    def _look(self, state: State) -> None:
        begun, since = self._since
        steps, seconds = state.step - begun, max(time.monotonic() - since, 1e-9)
        batch = len(state.joint.h[0]) * self.run.place.count if state.joint else 0
        line = {
            "epoch": state.step / self.run.epoch,
            "step": float(state.step),
            "learning_rate": state.optimizer.param_groups[0]["lr"],
            f"{self.collection.medium.nouns}_per_second": steps * batch / seconds,
        }
        if self._probe is not None:
            line["online_linear"] = float(self._probe.accuracy())
            self._probe.restart()
        if self.run.place.first:
            line |= self._readings(state)
        self.lines.append(line)
        self._since = (state.step, time.monotonic())

    def _readings(self, state: State) -> dict[str, float]:
        if self.collection.source is None:
            recent = torch.cat(self._recent)[-MOST:].float().cpu()
            return epoch_readings(recent) if torch.isfinite(recent).all() else {}
        with _still(state.model):
            embedder = self.collection.medium.trained(self.run)
            bank, bank_rows = self._embedded(embedder, self._bank)
            asked, asked_rows = self._embedded(embedder, self._asked)
        if len(bank) < 2 or not torch.isfinite(bank).all():  # none can be read, or the run has diverged and will say so
            return {}
        found = epoch_readings(bank if len(asked) < FEWEST else asked)
        codes = self.collection.codes
        k = min(NEIGHBORS, len(bank))
        if codes is not None and len(asked) and k:
            answers = weighted_knn(bank, codes[bank_rows], asked, len(self.collection.classes), k=(k,))[k]
            found["knn"] = float((np.asarray(answers) == codes[asked_rows]).mean())
        return found

    def _embedded(self, embedder: Embeds, rows: NDArray[np.int64]) -> tuple[Tensor, NDArray[np.int64]]:
        if self.collection.source is None or not len(rows):
            return torch.empty(0, 1), rows
        patient = Corrupt(1.0)  # the run's own ledger decides on how many are too many
        found = list(embedder.stream(self.collection.source, rows, patient, self.workers))
        if not found:
            return torch.empty(0, 1), rows[:0]
        return torch.from_numpy(np.concatenate([h for _, h in found])), np.concatenate([which for which, _ in found])

    def tensors(self) -> dict[str, Tensor]:
        """The online probe's state, and what a stream's next readings are of."""
        found = {"recent": torch.cat(self._recent).cpu()} if self._recent else {}
        if self._probe is not None:
            found |= {f"online.{name}": value.cpu() for name, value in self._probe.tensors().items()}
        return found

    def plain(self) -> dict[str, Any]:
        """The lines so far."""
        return {"epochs": self.lines, "each": len(self._recent[-1]) if self._recent else 0}

    def restore(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """Go on from there."""
        self.lines = [dict(line) for line in plain["epochs"]]
        self._since = (self.run.state.step, time.monotonic())
        if "recent" in tensors:
            self._recent = list(torch.split(tensors["recent"].to(self.run.place.device), plain["each"]))
        if self._probe is not None:
            named = {name: value for name, value in tensors.items() if name.startswith("online.")}
            self._probe.restore({name.removeprefix("online."): value for name, value in named.items()})


@contextmanager
def _still(model: nn.Module) -> Iterator[None]:
    """A model in evaluation mode; each of its modules is left as it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _chosen(collection: Collection, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Some labelled items that are learnt from, and some that are held out."""
    if collection.source is None:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    learnt, held = collection.rows, np.flatnonzero(collection.held)
    if collection.codes is not None:
        learnt = learnt[collection.codes[learnt] >= 0]
    most = min(MOST, max(FEWEST, len(collection.rows) // 10))
    generator = Generator().manual_seed(seed_of(seed, 5))

    def some(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
        found: NDArray[np.int64] = np.sort(rows[torch.randperm(len(rows), generator=generator)[:most].numpy()])
        return found

    return some(learnt, 2 * most if len(held) else most), some(held, most)
