"""One side of a pair, ready to be learnt from: its encoder, and its feed."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from vicreg._checks import require
from vicreg.data import (
    Corrupt,
    CorruptImage,
    Frame,
    ImageSource,
    SignalSource,
    SignalSpec,
    SignalSubset,
    Subset,
    TableSpec,
    fit_signal_spec,
    fit_spec,
    gathered,
    in_memory,
)
from vicreg.networks import TableEncoder, drawn, image_encoder, perceptron, projected, signal_encoder
from vicreg.training.branches import BranchForm, hidden_widths
from vicreg.training.collection import Deal, threads
from vicreg.training.config import ImageConfig
from vicreg.training.engine import Machine
from vicreg.training.feed import Feed, Order, Resident, seed_of
from vicreg.training.image import image_size, views_of
from vicreg.training.pair_config import PairConfig
from vicreg.training.pictures import OpenedPictures, ResidentPictures
from vicreg.training.preparing import room
from vicreg.training.settings import SAME_FOLDER
from vicreg.training.signal import blank, faults_in_words, rates_in_words, scaled, short_in_words, windows_of
from vicreg.training.signal import views_of as views_of_signals
from vicreg.training.signal_config import SignalBranch, SignalConfig
from vicreg.training.signals import OpenedSignals, ResidentSignals
from vicreg.training.table import whitened_pca
from vicreg.views import MEL, WAVE, Identity, ImageView, Table, TableView, ViewOfSignal, distinct_neighbors

HIDDEN = "256-256"
"""Widths of the hidden layers of a table's encoder, unless it is named."""
PICTURES = "resnet18"
"""Pictures' encoder, unless it is named."""
SLOWEST_MEL = 1000
"""Sounds of fewer samples a second are taken as waves."""
IDENTITY = Identity()


class Side(Protocol):
    """What one side of a pair brings."""

    @property
    def kind(self) -> str:
        """Of its source: ``table``, ``image`` or ``signal``."""

    def __len__(self) -> int:
        """How many rows it has."""

    @property
    def features(self) -> int | None:
        """Numbers per row, of a table."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of its rows."""

    def read(self, place: Machine, ledger: Corrupt, workers: int) -> tuple[Side, NDArray[np.int64]]:
        """The side with the rows that can be read alone, in memory where they fit, and which these are.

        Raises:
            ValueError: Too many cannot be read, for the ledger.
        """

    def take(self, rows: NDArray[np.int64]) -> Side:
        """The same with these rows alone."""

    def encoder(self, width: int, config: PairConfig, generator: Generator, *, aligned: bool) -> nn.Module:
        """The encoder at its start; a table's representation, and that of sides to align, has this width."""

    def decoder(self, width: int, hidden: Sequence[int], generator: Generator) -> nn.Module | None:
        """What tells a table's row from a representation of this width."""

    def sample(self) -> Tensor:
        """Two samples as the encoder takes them, to tell the width of what it gives."""

    def feed(self, order: Order, steps: int, place: Machine, workers: int) -> Feed:
        """One view of the rows of each step; the order's seed is that of the views."""


@dataclass(frozen=True, eq=False)
class TableSide:
    """A table.

    Attributes:
        x: (n, p) vectorised rows.
        spec: What vectorised them.
        view: Of each row.
        hidden: Widths of the encoder's hidden layers.
    """

    x: NDArray[np.float32]
    spec: TableSpec
    view: TableView = IDENTITY
    hidden: tuple[int, ...] = hidden_widths(HIDDEN)

    kind = "table"

    def __len__(self) -> int:
        return len(self.x)

    @property
    def features(self) -> int | None:
        """Numbers per row."""
        return int(self.x.shape[1])

    @property
    def notes(self) -> tuple[str, ...]:
        """What its columns have become."""
        return (self.spec.in_words(),)

    def read(self, place: Machine, ledger: Corrupt, workers: int) -> tuple[Side, NDArray[np.int64]]:
        """The same, with all rows."""
        return self, np.arange(len(self.x))

    def take(self, rows: NDArray[np.int64]) -> TableSide:
        """These rows alone."""
        return replace(self, x=self.x[rows])

    def encoder(self, width: int, config: PairConfig, generator: Generator, *, aligned: bool) -> nn.Module:
        """A perceptron, with a linear path that starts at whitened PCA."""
        p, path, dropout = self.x.shape[1], config.linear_path, config.dropout
        encoder = drawn(lambda: TableEncoder(p, width, self.hidden, path, dropout=dropout), generator)
        if config.linear_path:
            projection, offset = whitened_pca(self.x, width)
            encoder.start_at(torch.from_numpy(projection), torch.from_numpy(offset), generator)
        return encoder

    def decoder(self, width: int, hidden: Sequence[int], generator: Generator) -> nn.Module | None:
        """A perceptron."""
        return drawn(partial(perceptron, width, hidden, self.x.shape[1]), generator)

    def sample(self) -> Tensor:
        """Two rows of zeros."""
        return torch.zeros(2, self.x.shape[1])

    def feed(self, order: Order, steps: int, place: Machine, workers: int) -> Feed:
        """The rows live on the device."""
        k = self.view.n_neighbors
        near = torch.from_numpy(distinct_neighbors(self.x, k)).to(place.device) if k else None
        table = Table(
            torch.from_numpy(self.x).to(place.device), torch.from_numpy(self.spec.sources).to(place.device), near
        )
        return Resident(table.batch, (self.view,), order.beside(order.seed, place.device), order.seed)


@dataclass(frozen=True, eq=False)
class PictureSide:
    """Pictures with random access.

    Attributes:
        source: The pictures.
        view: Of each.
        name: Of the encoder.
        channels: Its width; None as published.
        array: (n, h, w, 3) uint8, where they are in memory.
    """

    source: ImageSource
    view: ImageView
    name: str = PICTURES
    channels: int | None = None
    array: NDArray[np.uint8] | None = None

    kind = "image"
    features = None
    notes = ()

    def __len__(self) -> int:
        return len(self.source)

    def read(self, place: Machine, ledger: Corrupt, workers: int) -> tuple[Side, NDArray[np.int64]]:
        """Each picture is decoded once, and kept where they fit."""
        kept = in_memory(self.source, room(place.device), ledger, workers)
        if kept is not None:
            return replace(self, source=_pictures(self.source, kept[1]), array=kept[0]), kept[1]
        rows = rows_that_open(self.source, ledger, workers)
        return self.take(rows), rows

    def take(self, rows: NDArray[np.int64]) -> PictureSide:
        """These pictures alone."""
        array = None if self.array is None else self.array[rows]
        return replace(self, source=_pictures(self.source, rows), array=array)

    def encoder(self, width: int, config: PairConfig, generator: Generator, *, aligned: bool) -> nn.Module:
        """The encoder by its name; to be aligned, with a linear map behind it."""
        body = image_encoder(self.name, self.view.size, generator, self.channels)
        return projected(body, width, generator) if aligned else body

    def decoder(self, width: int, hidden: Sequence[int], generator: Generator) -> nn.Module | None:
        """None."""
        return None

    def sample(self) -> Tensor:
        """Two black pictures."""
        return torch.zeros(2, 3, self.view.size, self.view.size)

    def feed(self, order: Order, steps: int, place: Machine, workers: int) -> Feed:
        """On the device where they are in memory, else opened by threads."""
        deal = Deal(order)
        if self.array is not None:
            array = torch.from_numpy(np.require(self.array, requirements=["C", "W"])).to(place.device)
            return ResidentPictures(array, (self.view,), deal)
        return OpenedPictures(self.source, (self.view,), deal, steps, place.device, _strict(self), workers)


@dataclass(frozen=True, eq=False)
class SignalSide:
    """Sounds or other signals with random access.

    Attributes:
        source: The signals.
        view: Of each.
        spec: What they are like, and how they are scaled.
        name: Of the encoder.
        channels: Its width; None as published.
        array: (n, channels, longest) float32, where they are in memory.
        lengths: (n,) samples of each, where they are in memory.
    """

    source: SignalSource
    view: ViewOfSignal
    spec: SignalSpec
    name: str
    channels: int | None = None
    array: NDArray[np.float32] | None = None
    lengths: NDArray[np.int64] | None = None

    kind = "signal"
    features = None

    def __len__(self) -> int:
        return len(self.source)

    @property
    def windows(self) -> int:
        """Crops of each signal that its embedding is averaged over."""
        return windows_of(self.source, self.view.length)

    @property
    def notes(self) -> tuple[str, ...]:
        """Other rates than the common one, and of some signals those that are silent, clipped, mixed or short."""
        short = short_in_words(self.source, self.view.length)
        return (*rates_in_words(self.source), *faults_in_words(self.source), *short)

    def read(self, place: Machine, ledger: Corrupt, workers: int) -> tuple[Side, NDArray[np.int64]]:
        """Each signal is decoded once, and kept where they fit."""
        kept = gathered(self.source, room(place.device), ledger, workers)
        if kept is not None:
            source = _signals(self.source, kept.rows)
            return replace(self, source=source, array=kept.array, lengths=kept.lengths), kept.rows
        rows = rows_that_open(self.source, ledger, workers)
        return self.take(rows), rows

    def take(self, rows: NDArray[np.int64]) -> SignalSide:
        """These signals alone."""
        array = None if self.array is None else self.array[rows]
        lengths = None if self.lengths is None else self.lengths[rows]
        return replace(self, source=_signals(self.source, rows), array=array, lengths=lengths)

    def encoder(self, width: int, config: PairConfig, generator: Generator, *, aligned: bool) -> nn.Module:
        """The encoder by its name; to be aligned, with a linear map behind it."""
        size = min(self.sample().shape[2:])
        body = signal_encoder(self.name, self.source.channels, size, generator, self.channels)
        return projected(body, width, generator) if aligned else body

    def decoder(self, width: int, hidden: Sequence[int], generator: Generator) -> nn.Module | None:
        """None."""
        return None

    def sample(self) -> Tensor:
        """Two silent signals."""
        return blank(self.view, self.source.channels)

    def feed(self, order: Order, steps: int, place: Machine, workers: int) -> Feed:
        """On the device where they are in memory, else opened by threads."""
        deal = Deal(order)
        if self.array is not None and self.lengths is not None:
            array, lengths = (torch.from_numpy(one).to(place.device) for one in (self.array, self.lengths))
            return ResidentSignals(array, lengths, (self.view,), deal)
        return OpenedSignals(self.source, (self.view,), deal, steps, place.device, _strict(self), workers)


def table_side(frame: Frame, form: BranchForm | None = None, view: TableView = IDENTITY) -> TableSide:
    """A table as a side. Columns of few distinct numbers are numbers, without levels (docs/experiments.md).

    Args:
        frame: Its input columns, of the rows that are learnt from.
        form: What its branch is to be.
        view: Of each row.
    """
    spec = fit_spec(frame).numbers_alone()
    return TableSide(spec.apply(frame), spec, view, hidden_widths(HIDDEN if form is None else form.encoder))


def picture_side(config: PairConfig, source: ImageSource, form: BranchForm | None, view: str | None) -> PictureSide:
    """Pictures as a side.

    Args:
        config: The settings.
        source: The pictures.
        form: What its branch is to be.
        view: Name of the recipe of its views.
    """
    _check_one_at_a_time(view)
    name = PICTURES if form is None else form.encoder
    own = ImageConfig(encoder=name, width=config.width, image_size=config.image_size, views=view, batch_size=2).check()
    return PictureSide(source, views_of(own, image_size(own, source))[0], name, config.width)


def signal_side(config: PairConfig, source: SignalSource, form: BranchForm | None, view: str | None) -> SignalSide:
    """Sounds or other signals as a side.

    Args:
        config: The settings.
        source: The signals.
        form: What its branch is to be: ``mel`` of sounds and ``wave`` of other signals when left out.
        view: Name of the recipe of its views.
    """
    _check_one_at_a_time(view)
    usual = MEL if source.sound and (source.rate or 0) >= SLOWEST_MEL else WAVE
    name = usual if form is None else form.encoder
    own = SignalConfig(
        branches=(name, name),
        width=config.width,
        seconds=config.seconds,
        length=config.length,
        views=view,
        batch_size=2,
    ).check()
    branch: SignalBranch = own.forms(sound=source.sound)[0]
    spec = fit_signal_spec(source)
    views = scaled(views_of_signals(own, source, spec, (branch.eats,)), source, config.seed)
    return SignalSide(source, views[0], spec, branch.encoder, config.width)


def _check_one_at_a_time(view: str | None) -> None:
    rule, fix = "be of the item itself in a pair", "Its partner is the other view."
    require(view != SAME_FOLDER, "views", rule, SAME_FOLDER, fix)


def check_lengths(sides: Sequence[Side]) -> None:
    """Check that every row has a partner.

    Raises:
        ValueError: Sides of different length.
    """
    left, right = map(len, sides)
    fix = "Align them by a key column."
    require(left == right, "the sides of a pair", "have as many rows", f"{left} and {right}", fix)
    require(left >= 2, "the pairs", "be at least 2 to learn from", left)


def together(sides: Sequence[Side], place: Machine, ledgers: Sequence[Corrupt], workers: int | None) -> list[Side]:
    """The sides with the rows that can be read on both.

    Args:
        sides: Of a pair; row k of the one belongs to row k of the other.
        place: The machine.
        ledgers: Of each side: counts what cannot be read.
        workers: Threads.

    Raises:
        ValueError: Too many cannot be read, or fewer than two pairs can.
    """
    (left, left_rows), (right, right_rows) = (
        side.read(place, ledger, threads(workers)) for side, ledger in zip(sides, ledgers, strict=True)
    )
    both = np.intersect1d(left_rows, right_rows)
    require(len(both) >= 2, "the pairs", "be at least 2 to learn from", len(both))
    kept = ((left, np.searchsorted(left_rows, both)), (right, np.searchsorted(right_rows, both)))
    return [side if len(rows) == len(side) else side.take(rows) for side, rows in kept]


def rows_that_open(source: ImageSource | SignalSource, ledger: Corrupt, workers: int) -> NDArray[np.int64]:
    """The rows of a source that can be decoded; the others are counted.

    A pair must not be half of another one, so that no substitute can be looked for while the run is on.

    Args:
        source: Pictures or signals.
        ledger: Counts what cannot be read.
        workers: Threads.

    Raises:
        ValueError: Too many cannot be read.
    """

    def opens(row: int) -> bool:
        try:
            source.picture(row) if isinstance(source, ImageSource) else source.read(row)
        except CorruptImage as error:
            ledger.add(error)
            return False
        return True

    with ThreadPoolExecutor(workers, "vicreg-pairs") as pool:
        return np.flatnonzero(np.fromiter(pool.map(opens, range(len(source))), bool, len(source)))


def order_of(order: Order, which: int) -> Order:
    """The same rows for one side, whose views have a seed of their own: no two sides are cut alike.

    Args:
        order: Of the pairs.
        which: 0 for the left side, 1 for the right one.
    """
    return order.beside(seed_of(order.seed, 6, which), order.device)


def _strict(side: Side) -> Corrupt:
    """Of a side that could all be read a moment ago."""
    return Corrupt(0.0, of=len(side))


def _pictures(source: ImageSource, rows: NDArray[np.int64]) -> ImageSource:
    return source if len(rows) == len(source) else Subset(source, rows)


def _signals(source: SignalSource, rows: NDArray[np.int64]) -> SignalSource:
    return source if len(rows) == len(source) else SignalSubset(source, rows)
