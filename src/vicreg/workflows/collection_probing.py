"""Judging by more than a frozen representation's probes: augmented items, and fine-tuning on few labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

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
from vicreg.training.collection import threads
from vicreg.training.feed import seed_of
from vicreg.workflows.labelled import Labelled
from vicreg.workflows.medium import Embeds, Medium, RandomCrops, Settings

BATCH = 256


def _classes(train: Labelled, test: Labelled) -> tuple[list[Any], Tensor, Tensor]:
    classes = np.unique(np.concatenate([train.labels, test.labels]))
    codes = [torch.from_numpy(np.searchsorted(classes, part.labels)) for part in (train, test)]
    return list(classes), codes[0], codes[1]


def _crops(part: Labelled, random: RandomCrops, config: Settings) -> Callable[[int], Iterator[tuple[Tensor, Tensor]]]:
    """From an epoch's number to crops and the places of their items among the rows, in random order."""
    count = len(part.rows)

    def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        generator = Generator().manual_seed(seed_of(config.seed, 6, epoch))
        order = torch.randperm(count, generator=generator).tolist()
        numbers = random.draw(count, generator).tolist()

        def crop(place: int) -> Tensor | None:
            try:
                return random.crop(part.source, int(part.rows[place]), numbers[place])
            except CorruptImage:
                return None

        with ThreadPoolExecutor(threads(config.workers), "vicreg-probing") as pool:
            for start in range(0, count, BATCH):
                chosen = order[start : start + BATCH]
                found = [
                    (place, one) for place, one in zip(chosen, pool.map(crop, chosen), strict=True) if one is not None
                ]
                if len(found) > 1:  # batch norm learns nothing from one
                    yield torch.stack([one for _, one in found]), torch.tensor([place for place, _ in found])

    return batches


def augmented_probe(medium: Medium, embedder: Embeds, train: Labelled, test: Labelled, config: Settings) -> str:
    """The accuracy, in words, of a linear probe on items cropped anew (pictures also flipped) at every epoch.

    Args:
        medium: What they are.
        embedder: With the encoder, which stays frozen.
        train: What the probe learns from, but for a fifth by which its learning rate is chosen.
        test: What it is judged on.
        config: For seed and threads.
    """
    classes, codes, test_codes = _classes(train, test)
    held = hold_out(train.labels.astype(str))
    learnt = replace(train, rows=train.rows[~held], labels=train.labels[~held])
    learnt_codes = codes[torch.from_numpy(~held)]
    crops = _crops(learnt, medium.random_crops(embedder), config)

    def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        for cut, places in crops(epoch):
            yield torch.from_numpy(embedder.encode(cut)), learnt_codes[places]

    chosen, places = _embedded(medium, embedder, replace(train, rows=train.rows[held], labels=train.labels[held]))
    by = (chosen, codes[torch.from_numpy(held)][places])
    probe = probe_batches(batches, len(classes), by, seed=config.seed % 2**31)
    h, places = _embedded(medium, embedder, test)
    right = among_first(probe.logits(h), test_codes[places])
    return f"Linear probe on augmented {medium.nouns}: {_interval(right, medium)}."


def _embedded(medium: Medium, embedder: Embeds, part: Labelled) -> tuple[Tensor, NDArray[np.int64]]:
    """The embeddings of the items of a part that can be read, and their places in it."""
    found = list(embedder.stream(part.source, part.rows, Corrupt(1.0)))
    require(bool(found), f"the {medium.nouns}", "be readable", "none that is")
    rows = np.concatenate([which for which, _ in found])
    return torch.from_numpy(np.concatenate([h for _, h in found])), np.searchsorted(part.rows, rows)


def tuned(medium: Medium, embedder: Embeds, train: Labelled, test: Labelled, share: float, config: Settings) -> str:
    """The accuracy, in words, of the whole encoder fine-tuned on a share of the labels.

    Args:
        medium: What is learnt from.
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
    crops = _crops(part, medium.random_crops(embedder), config)

    def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        for cut, places in crops(epoch):
            yield cut.to(embedder.device), own[places].to(embedder.device)

    settings = published_settings(share, len(chosen))
    network = medium.network(embedder)
    model = fine_tuned(network, embedder.width, batches, len(classes), settings, seed=config.seed % 2**31)
    logits, places = _answered(medium, embedder, model, test, config)
    right = among_first(logits, test_codes[places])
    rows = f"{len(chosen):,} labelled {medium.nouns} ({share:.3g} of them)"
    return f"Fine-tuned on {rows}, {settings.epochs} epochs: {_interval(right, medium)}."


def _answered(
    medium: Medium, embedder: Embeds, model: nn.Module, part: Labelled, config: Settings
) -> tuple[Tensor, NDArray[np.int64]]:
    """What a tuned model makes of the items of a part that can be read, and their places in it."""
    found = []
    for rows, _, crops in medium.looked(embedder, part.source, part.rows, Corrupt(1.0), threads(config.workers)):
        with torch.inference_mode():
            found.append((rows, model(crops.to(embedder.device)).float().cpu()))
    require(bool(found), f"the {medium.nouns}", "be readable", "none that is")
    return torch.cat([h for _, h in found]), np.searchsorted(part.rows, np.concatenate([which for which, _ in found]))


def _interval(right: Tensor, medium: Medium) -> str:
    found = accuracy_interval(right.double().numpy())
    return f"accuracy {found.value:.3f} [{found.low:.3f}, {found.high:.3f}] on {len(right):,} {medium.nouns}"
