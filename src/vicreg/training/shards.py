"""Shards as a feed: each process opens pictures of its own stream, a few batches ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

from torch import Generator

from vicreg._checks import require
from vicreg.data import CorruptImage, Sample, Shards, crops_of
from vicreg.training.collection import STEPS_AHEAD, Cropped, cuts_of, finished
from vicreg.training.engine import Machine
from vicreg.training.feed import Drawn, seed_of
from vicreg.training.pictures import Cut
from vicreg.views import ImageView, resized_one

MOST_UNREAD = 1000
"""A ledger counts a picture once, however often it comes round: shards with none that can be read would never end."""


class ShardPictures:
    """Pictures of a stream, opened and cropped by threads.

    A picture that cannot be read gives way to the next of the stream. A run that goes on begins where the stream stood
    when the last step's pictures had been taken from it.

    Args:
        shards: This process's stream.
        views: Of each picture.
        each: Pictures of a step on this process.
        seed: Of the views.
        place: The machine.
        workers: Threads.
        n_large: How many views are large; None for all.
    """

    def __init__(
        self,
        shards: Shards,
        views: Sequence[ImageView],
        each: int,
        seed: int,
        place: Machine,
        workers: int,
        n_large: int | None = None,
    ) -> None:
        self.shards = shards
        self.views = views
        self.each = each
        self.seed = seed
        self.place = place
        self.n_large = n_large
        self._pool = ThreadPoolExecutor(workers, "vicreg-pictures")
        self._begun = self._taken = self._unread = 0
        self._waiting: deque[_Begun] = deque()
        self._stood = shards.position()
        self._generator = Generator(place.device)
        self._resize = partial(resized_one, interpolation=views[0].interpolation)

    def draw(self, step: int) -> Drawn:
        """The views of the stream's next pictures."""
        found: list[list[Cropped]] = []
        while len(found) < self.each:
            while len(self._waiting) < self.each * (1 + STEPS_AHEAD):
                self._begin()
            begun = self._waiting.popleft()
            crops = begun.crops.result()
            self._stood = begun.after
            self._taken += 1
            if crops is not None:
                found.append(crops)
            self._unread = 0 if crops is not None else self._unread + 1
            rule = "be readable, one at least"
            require(self._unread < MOST_UNREAD, "pictures", rule, f"{MOST_UNREAD} in a row that are not")
        self._generator.manual_seed(seed_of(self.seed, 3, step, self.place.rank))
        views = finished(self.views, found, self.place.device, self._generator)
        return Drawn(views, n_large=self.n_large, cuts=cuts_of(found, self.place.device))

    def _begin(self) -> None:
        sample = next(self.shards)
        generator = Generator().manual_seed(seed_of(self.seed, 1, self._begun, self.place.rank))
        numbers = [view.draw(1, generator)[0].tolist() for view in self.views]
        crops = self._pool.submit(self._crops, sample, numbers)
        self._waiting.append(_Begun(crops, self.shards.position()))
        self._begun += 1

    def _crops(self, sample: Sample, numbers: Sequence[Sequence[float]]) -> list[Cropped] | None:
        wanted = [(Cut(view, u), view.size) for view, u in zip(self.views, numbers, strict=True)]
        try:
            found = crops_of(sample.opened(), wanted, self._resize)
        except CorruptImage as error:
            self.shards.ledger.add(error)
            return None
        self.shards.ledger.good()
        return [Cropped(one, cut.chosen) for one, (cut, _) in zip(found, wanted, strict=True)]

    def position(self) -> dict[str, Any]:
        """Where the stream stands, how many pictures were taken from it, and what could not be read."""
        return {"stream": self._stood, "taken": self._taken, "corrupt": self.shards.ledger.state()}

    def seek(self, position: dict[str, Any]) -> None:
        """Go to where it stood."""
        self.shards.seek(position["stream"])
        self.shards.ledger.restore(position["corrupt"])
        self._stood = self.shards.position()
        self._begun = self._taken = int(position["taken"])
        self._waiting.clear()

    def close(self) -> None:
        """Stop the threads, close the shards."""
        self._pool.shutdown(cancel_futures=True)
        self.shards.close()


class _Begun(NamedTuple):
    crops: Future[list[Cropped] | None]
    after: dict[str, int]
