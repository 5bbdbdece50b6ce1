"""Crops of samples that threads open some chunks ahead of the encoder."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import TypeVar

import torch
from torch import Tensor

from vicreg.data import Corrupt, CorruptImage

AT_ONCE = 64
"""Samples embedded together."""
CHUNKS_AHEAD = 2
"""So many such chunks are opened while one is embedded."""

K = TypeVar("K")
Item = TypeVar("Item")


def crops_of_each(
    samples: Iterable[tuple[K, Callable[[], Item]]],
    crop: Callable[[Item], Tensor],
    ledger: Corrupt | None = None,
    workers: int = 2,
    name: str = "vicreg-pictures",
) -> Iterator[tuple[list[K], Tensor]]:
    """Crops of samples of which one does not know how many there are, opened by threads some chunks ahead.

    Args:
        samples: What each is called, and what opens it.
        crop: From a sample to its crop, in the thread.
        ledger: Counts those that cannot be read, which are left out; without it one is an error.
        workers: Threads.
        name: Of the threads.

    Yields:
        What they are called, some at a time, and their crops (b, ...).

    Raises:
        CorruptImage: One cannot be read, and there is no ledger.
        ValueError: Too many are corrupt for the ledger.
    """

    def one(sample: Callable[[], Item]) -> Tensor | None:
        try:
            crop_of_it = crop(sample())
        except CorruptImage as error:
            if ledger is None:
                raise
            ledger.add(error)
            return None
        if ledger is not None:
            ledger.good()
        return crop_of_it

    every = iter(samples)
    chunks = iter(lambda: list(islice(every, AT_ONCE)), [])
    waiting: deque[list[tuple[K, Future[Tensor | None]]]] = deque()
    with ThreadPoolExecutor(workers, name) as pool:
        try:
            for chunk in chain(chunks, [[]] * CHUNKS_AHEAD):
                waiting.append([(key, pool.submit(one, sample)) for key, sample in chunk])
                if len(waiting) > CHUNKS_AHEAD:
                    done = [(key, future.result()) for key, future in waiting.popleft()]
                    if kept := [(key, found) for key, found in done if found is not None]:
                        yield [key for key, _ in kept], torch.stack([found for _, found in kept])
        finally:
            pool.shutdown(cancel_futures=True)
