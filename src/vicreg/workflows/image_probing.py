"""Judging by more than a frozen representation's probes: augmented pictures, and fine-tuning on few labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from vicreg._checks import require
from vicreg.data import Corrupt, CorruptImage
from vicreg.evaluation import (
    accuracy_interval,
    among_first,
    fine_tuned,
    hold_out,
    labelled_share,
    probe_batches,
    published_settings,
)
from vicreg.inference import ImageEmbedder
from vicreg.training.config import ImageConfig
from vicreg.training.feed import seed_of
from vicreg.training.pictures import threads
from vicreg.views import ImageView, image_views
from vicreg.workflows.labelled import Labelled

BATCH = 256


def _classes(train: Labelled, test: Labelled) -> tuple[list[Any], Tensor, Tensor]:
    classes = np.unique(np.concatenate([train.labels, test.labels]))
    codes = [torch.from_numpy(np.searchsorted(classes, part.labels)) for part in (train, test)]
    return list(classes), codes[0], codes[1]


def _crops(part: Labelled, view: ImageView, config: ImageConfig) -> Callable[[int], Iterator[tuple[Tensor, Tensor]]]:
    """From an epoch's number to crops and the places of their pictures among the rows, in random order."""
    count = len(part.rows)

    def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        generator = Generator().manual_seed(seed_of(config.seed, 6, epoch))
        order = torch.randperm(count, generator=generator).tolist()
        numbers = view.draw(count, generator).tolist()

        def crop(place: int) -> Tensor | None:
            try:
                return view.crop_one(part.source.picture(int(part.rows[place])), numbers[place])
            except CorruptImage:
                return None

        with ThreadPoolExecutor(threads(config.workers), "vicreg-pictures") as pool:
            for start in range(0, count, BATCH):
                chosen = order[start : start + BATCH]
                found = [
                    (place, one) for place, one in zip(chosen, pool.map(crop, chosen), strict=True) if one is not None
                ]
                if len(found) > 1:  # batch norm learns nothing from one
                    yield torch.stack([one for _, one in found]), torch.tensor([place for place, _ in found])

    return batches


def augmented_probe(embedder: ImageEmbedder, train: Labelled, test: Labelled, config: ImageConfig) -> str:
    """The accuracy, in words, of a linear probe on pictures cropped and flipped anew at every epoch.

    Args:
        embedder: With the encoder, which stays frozen.
        train: What the probe learns from, but for a fifth by which its learning rate is chosen.
        test: What it is judged on.
        config: For seed and threads.
    """
    classes, codes, test_codes = _classes(train, test)
    view = image_views("crop", embedder.view.size)[0]
    held = hold_out(train.labels.astype(str))
    learnt = replace(train, rows=train.rows[~held], labels=train.labels[~held])
    learnt_codes = codes[torch.from_numpy(~held)]
    crops = _crops(learnt, view, config)

    def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        for images, places in crops(epoch):
            yield torch.from_numpy(embedder.encode(images)), learnt_codes[places]

    chosen, places = _embedded(embedder, replace(train, rows=train.rows[held], labels=train.labels[held]))
    by = (chosen, codes[torch.from_numpy(held)][places])
    probe = probe_batches(batches, len(classes), by, seed=config.seed % 2**31)
    h, places = _embedded(embedder, test)
    right = among_first(probe.logits(h), test_codes[places])
    return f"Linear probe on augmented pictures: {_interval(right)}."


def _embedded(embedder: ImageEmbedder, part: Labelled) -> tuple[Tensor, NDArray[np.int64]]:
    """The embeddings of the pictures of a part that can be read, and their places in it."""
    found = list(embedder.stream(part.source, part.rows, Corrupt(1.0)))
    require(bool(found), "the pictures", "be readable", "none that is")
    rows = np.concatenate([which for which, _ in found])
    return torch.from_numpy(np.concatenate([h for _, h in found])), np.searchsorted(part.rows, rows)


def tuned(embedder: ImageEmbedder, train: Labelled, test: Labelled, share: float, config: ImageConfig) -> str:
    """The accuracy, in words, of the whole encoder fine-tuned on a share of the labels.

    Args:
        embedder: With the encoder; a copy of it is tuned.
        train: Of whose labels a share is taken.
        test: What is judged on.
        share: Above 0 and at most 1.
        config: For seed and threads.
    """
    classes, codes, test_codes = _classes(train, test)
    chosen = labelled_share(train.labels, share, config.seed % 2**31)
    part = replace(train, rows=train.rows[chosen], labels=train.labels[chosen])
    own = codes[torch.from_numpy(chosen)]
    view = image_views("crop", embedder.view.size)[0]
    crops = _crops(part, view, config)

    def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        for images, places in crops(epoch):
            yield view.finish(images.to(embedder.device)), own[places].to(embedder.device)

    settings = published_settings(share, len(chosen))
    model = fine_tuned(embedder.encoder, embedder.width, batches, len(classes), settings, seed=config.seed % 2**31)
    classifier = ImageEmbedder(model, embedder.view)
    logits, places = _embedded(classifier, test)
    right = among_first(logits, test_codes[places])
    rows = f"{len(chosen):,} labelled pictures ({share:.3g} of them)"
    return f"Fine-tuned on {rows}, {settings.epochs} epochs: {_interval(right)}."


def _interval(right: Tensor) -> str:
    found = accuracy_interval(right.double().numpy())
    return f"accuracy {found.value:.3f} [{found.low:.3f}, {found.high:.3f}] on {len(right):,} pictures"
