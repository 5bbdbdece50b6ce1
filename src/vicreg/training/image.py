"""From pictures and their settings to a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, nn

from vicreg._checks import message, require
from vicreg.data import Corrupt, ImageSource, Shards, Subset, common_size, in_memory
from vicreg.networks import (
    JointEmbedding,
    default_expander,
    image_encoder,
    load_weights,
    output_width,
)
from vicreg.objectives import Objective
from vicreg.training.branches import copies, expander_layers
from vicreg.training.collection import Deal, threads
from vicreg.training.config import ImageConfig
from vicreg.training.engine import Callback, Machine, Optimisation, State, check_launched, start, train
from vicreg.training.feed import Feed, Order, full_batches
from vicreg.training.heads import joined
from vicreg.training.pictures import OpenedPictures, ResidentPictures
from vicreg.training.preparing import check_enough, optimisation, partners_of, room
from vicreg.training.settings import SAME_FOLDER
from vicreg.training.shards import ShardPictures
from vicreg.views import ImageView, image_views

SMALL = 64
"""Pictures of up to so many pixels are looked at in their own size."""
LARGE_SIDE = 224
LEAST_SIDE = 8


@dataclass(frozen=True, eq=False)
class ImageRun:
    """A run ready to go: its state, and what :func:`vicreg.training.engine.train` needs beside it.

    Attributes:
        state: At its start.
        feed: The pictures' views by step.
        objective: Total and terms.
        how: How to step.
        place: The machine.
        size: Side of the large views.
        epoch: Steps in an epoch.
        ledger: Counts pictures that cannot be read.
        notes: What a user should know of the start, such as what was left aside of a file of weights.
    """

    state: State
    feed: Feed
    objective: Objective
    how: Optimisation
    place: Machine
    size: int
    epoch: int
    ledger: Corrupt
    notes: tuple[str, ...] = ()

    def train(self, callbacks: Sequence[Callback] = ()) -> State:
        """Step to the end."""
        return train(self.state, self.feed, self.objective, self.how, self.place, callbacks)


def image_run(
    config: ImageConfig,
    source: ImageSource,
    place: Machine,
    codes: NDArray[np.int64] | None = None,
    encoders: Sequence[nn.Module] = (),
) -> ImageRun:
    """Prepare a run on pictures with random access.

    Args:
        config: The settings.
        source: The pictures that are learnt from.
        place: The machine.
        codes: (n,) the number of each picture's class, -1 for none: passed on to who judges, never learnt from.
        encoders: In place of the configured one: one, of which every branch gets a copy, or one for each branch.

    Raises:
        ValueError: Fewer than two pictures for each process, a setting out of its range, an encoder whose output is no
            vector, or ``torchrun`` has started processes that the machine is without.

    Example:
        >>> from vicreg.data import GivenImages
        >>> from vicreg.training.engine import machine
        >>> pictures = np.random.default_rng(0).integers(256, size=(16, 8, 8, 3), dtype=np.uint8)
        >>> config = ImageConfig(width=16, expander=(32,), batch_size=8, steps=2, device="cpu")
        >>> run = image_run(config, GivenImages(pictures), machine("cpu"))
        >>> run.train().step, run.size
        (2, 8)
    """
    config.check()
    check_launched(place.count)
    check_enough(source.what, len(source), place)
    size = image_size(config, source)
    views = views_of(config, size)
    model, notes = joint_embedding(config, size, encoders)  # before pictures are decoded: what is wrong is soon said
    ledger = Corrupt(config.max_corrupt, of=len(source))
    kept = in_memory(source, room(place.device), ledger, threads(config.workers))
    rows = np.arange(len(source)) if kept is None else kept[1]
    check_enough(source.what, len(rows), place)
    source = source if len(rows) == len(source) else Subset(source, rows)
    labels = None if codes is None else torch.from_numpy(codes[rows]).to(place.device)
    batch = min(config.batch_size, len(rows) // place.count * place.count)  # as many on every process
    order = Order(full_batches(len(rows), batch), len(rows), config.seed)
    how = optimisation(config, config.steps_for(len(rows)), order.batches, batch, model)
    deal = Deal(order, place.rank, place.count, partners_of(source, config.views))
    n_large = 2 if config.small_views else None
    feed: Feed
    if kept is not None:
        array = torch.from_numpy(np.require(kept[0], requirements=["C", "W"])).to(place.device)
        feed = ResidentPictures(array, views, deal, labels, n_large)
    else:
        feed = OpenedPictures(
            source, views, deal, how.steps, place.device, ledger, threads(config.workers), labels, n_large
        )
    state = start(model, place, how)
    return ImageRun(state, feed, config.named(), how, place, size, order.batches, ledger, tuple(notes))


def shard_run(config: ImageConfig, where: str, place: Machine, encoders: Sequence[nn.Module] = ()) -> ImageRun:
    """Prepare a run on a stream of pictures from shards; its length is given in steps.

    Args:
        config: The settings, with ``steps``.
        where: Path, folder, URL or pattern of the shards.
        place: The machine; every process reads its own shards.
        encoders: As in :func:`image_run`.

    Raises:
        ValueError: No steps are given, fewer shards than processes, or views of two pictures of one folder.
        FileNotFoundError: A shard is not there.
    """
    config.check()
    check_launched(place.count)
    steps = _steps_of(config)
    require(config.views != SAME_FOLDER, "views", "be of one picture each in shards", config.views)
    size = config.image_size or LARGE_SIDE
    ledger = Corrupt(config.max_corrupt)
    shards = Shards(where, config.seed, place.rank, place.count, ledger=ledger)
    views = views_of(config, size)
    each = config.batch_size // place.count
    n_large = 2 if config.small_views else None
    feed = ShardPictures(shards, views, each, config.seed, place, threads(config.workers), n_large)
    model, notes = joint_embedding(config, size, encoders)
    epoch = max(1, steps // max(1, config.epochs))
    how = optimisation(config, steps, epoch, config.batch_size, model)
    return ImageRun(start(model, place, how), feed, config.named(), how, place, size, epoch, ledger, tuple(notes))


def _steps_of(config: ImageConfig) -> int:
    """The run's length in steps, which must be given."""
    if config.steps is None:
        raise ValueError(message("steps", "be given for shards", None, "Nobody knows how many pictures they hold."))
    return config.steps


def image_size(config: ImageConfig, source: ImageSource) -> int:
    """Side of the views: as configured, else that of small pictures, else 224."""
    if config.image_size is not None:
        return config.image_size
    shorter = min(common_size(source))
    return max(shorter, LEAST_SIDE) if shorter <= SMALL else LARGE_SIDE


def views_of(config: ImageConfig, size: int) -> tuple[ImageView, ...]:
    """The views that the settings name, of this size."""
    usual = "cifar" if size <= SMALL else "paper"
    name = usual if config.views in (None, SAME_FOLDER) else str(config.views)
    return image_views(name, size, config.small_views, config.small_size)


def joint_embedding(
    config: ImageConfig, size: int, encoders: Sequence[nn.Module] = ()
) -> tuple[JointEmbedding, list[str]]:
    """The networks at their start, drawn from the seed; encoders that are given keep their weights, in copies.

    Returns:
        The networks, and notes on the file of weights.
    """
    generator = Generator().manual_seed(config.seed)
    forms = config.forms()
    made: list[nn.Module] = copies(encoders, config.branches, config.shared)
    made = made or [image_encoder(form.encoder, size, generator, config.width) for form in forms]
    notes: list[str] = []
    if config.weights is not None:
        for encoder in made:
            notes = load_weights(encoder, Path(config.weights))
    widths = [output_width(encoder, torch.zeros(2, 3, size, size)) for encoder in made]
    usual = default_expander(max(widths)) if config.expander is None else config.expander
    layers = expander_layers(forms, widths, usual)
    n_large = 2 if config.small_views else None
    return joined(made, layers, config.named().needs, generator, n_large), notes
