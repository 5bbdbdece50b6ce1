"""What tells runs on pictures from runs on signals: a record for each, beside which all workflows are the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from vicreg._checks import check_integer, check_number, require, shown
from vicreg.data import Corrupt
from vicreg.networks.export import Exported
from vicreg.objectives import Objective
from vicreg.training.config import ImageConfig
from vicreg.training.engine import Callback, Machine, Optimisation, State
from vicreg.training.settings import check_types
from vicreg.training.signal_config import SignalConfig

Settings = ImageConfig | SignalConfig
"""Settings of a run on a collection."""


@dataclass(frozen=True)
class Reading:
    """How a collection is read, beside where it lies; ``None`` leaves it to the source.

    Attributes:
        labels: What it is judged by: ``folder``, or the name of a column or array.
        rate: Samples a second of signals: of recordings what they are resampled to, of arrays what they have.
        channels: Of recordings.
        id: The column of a long table that tells its signals apart.
        time: The column that orders them.
        values: The columns with their channels.
        sound: Whether arrays are sounds; by their rate if left out.
    """

    labels: str | None = None
    rate: float | None = None
    channels: int | None = None
    id: str | None = None
    time: str | None = None
    values: tuple[str, ...] = ()
    sound: bool | None = None

    def check(self) -> Reading:
        """The same, if it can be followed.

        Raises:
            ValueError: It cannot.
        """
        check_types(self)
        if self.rate is not None:
            check_number("rate", self.rate, 0, open_low=True)
        if self.channels is not None:
            check_integer("channels", self.channels, 1)
        return self

    def plain(self) -> dict[str, Any]:
        """What is said of it but for the labels, as YAML can hold it.

        Example:
            >>> Reading("kind", rate=8000.0, values=("x", "y")).plain()
            {'rate': 8000.0, 'values': ['x', 'y']}
        """
        found = {name: value for name, value in asdict(self).items() if value and name != "labels"}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


class Source(Protocol):
    """What pictures and signals with random access have in common."""

    names: Sequence[str]
    labels: NDArray[Any] | None
    groups: NDArray[np.int64] | None

    def __len__(self) -> int: ...


class Embeds(Protocol):
    """A trained encoder with its preprocessing."""

    @property
    def width(self) -> int:
        """Numbers of an embedding."""

    @property
    def device(self) -> torch.device:
        """Where the encoder is."""

    def to(self, device: torch.device | str) -> Embeds:
        """The same, moved to a device."""

    def encode(self, crops: Tensor) -> NDArray[np.float32]:
        """The embeddings of crops."""

    def stream(
        self, source: Any, rows: NDArray[np.int64] | None = None, ledger: Corrupt | None = None, workers: int = 2
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Rows and their embeddings, some at a time."""

    def save(self, folder: str | Path) -> None:
        """Write it for :func:`vicreg.load`."""


class Prepared(Protocol):
    """A run ready to train."""

    @property
    def state(self) -> State:
        """Where it stands."""

    @property
    def objective(self) -> Objective:
        """Total and terms."""

    @property
    def how(self) -> Optimisation:
        """How to step."""

    @property
    def place(self) -> Machine:
        """The machine."""

    @property
    def epoch(self) -> int:
        """Steps in an epoch."""

    @property
    def ledger(self) -> Corrupt:
        """Counts what cannot be read."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of the start."""

    def train(self, callbacks: Sequence[Callback] = ()) -> State:
        """Step to the end."""


@dataclass(frozen=True, eq=False)
class RandomCrops:
    """Crops at random of single items, for threads.

    Attributes:
        draw: From a count and a generator to the numbers that choose crops, a row for each.
        crop: From a source, a row of it and such numbers to a crop. May raise CorruptImage.
    """

    draw: Callable[[int, Generator], Tensor]
    crop: Callable[[Any, int, Sequence[float]], Tensor]


@dataclass(frozen=True, eq=False)
class Stream:
    """How a medium is read that has no random access.

    Attributes:
        noun: What such a source is called.
        fingerprint: What tells it from others, by where it lies; raises if it is not there.
        run: From settings, where it lies, machine and encoders to the run at its start.
        embedded: From embedder, where it lies, the number of this process and of all, ledger and threads to names and
            embeddings, some at a time.
    """

    noun: str
    fingerprint: Callable[[str], str]
    run: Callable[[Any, str, Machine, Sequence[nn.Module]], Prepared]
    embedded: Callable[[Any, str, int, int, Corrupt, int], Iterator[tuple[list[str], NDArray[np.float32]]]]


Looked = Iterator[tuple[NDArray[np.int64], NDArray[Any], Tensor]]
"""Rows (b,), what they are without an encoder (b, p), and the crops (b, ...) that are embedded."""


@dataclass(frozen=True, eq=False)
class Medium:
    """A kind of collection that encoders are learnt from.

    Attributes:
        kind: Its name in a run's description.
        noun: What an item is called.
        nouns: What several are called.
        config: The class of its settings.
        embedder: The class of its embedders.
        opened: From a path and how to read it to the source.
        subset: From a source and rows to a source of these alone.
        fingerprint: What tells a source from others.
        stream: For sources without random access; None where there are none.
        streams: Whether a path is such a source; raises where it is none of the medium at all.
        run: From settings, source, machine, classes and encoders of one's own to the run at its start.
        words: From a run, its settings and encoders of one's own to what is about to be trained, in words.
        trained: From a run to the embedder of its encoder as it is now.
        seen: From a run and the representations of a step's views to those that a probe learns from while it runs.
        untrained: From an embedder and the run's settings to that of the same networks as they were drawn; None where
            they are not known.
        like: From a path, what is said of how to read it, how a run's own source was read, and the run's embedder to
            how that path is read.
        looked: From embedder, source, rows, ledger and threads to what judging needs, each item being opened once.
        plain: From an embedder and what is looked at, without an encoder and as crops, to what a map of the raw data is
            made of, (b, p).
        what_plain: That, in words.
        shown: From a source and a row to type and content of what a page shows or plays; None where there is nothing.
        random_crops: Those that an embedder's encoder can be tuned with.
        network: From an embedder to a module from crops to embeddings, which has a gradient.
        exported: From an embedder and the name of a format to a file for other programs.
        paired_folders: Whether a run's views are of two items of one folder.
    """

    kind: str
    noun: str
    nouns: str
    config: type[Settings]
    embedder: type[Any]
    opened: Callable[[str, Reading], Any]
    subset: Callable[[Any, NDArray[np.int64]], Any]
    fingerprint: Callable[[Any], str]
    stream: Stream | None
    streams: Callable[[str], bool]
    run: Callable[[Any, Any, Machine, NDArray[np.int64] | None, Sequence[nn.Module]], Prepared]
    words: Callable[[Any, Any, Sequence[nn.Module]], str]
    trained: Callable[[Any], Embeds]
    seen: Callable[[Any, Sequence[Tensor]], Tensor]
    untrained: Callable[[Any, Any], Embeds | None]
    like: Callable[[str, Reading, Reading, Any], Reading]
    looked: Callable[[Any, Any, NDArray[np.int64], Corrupt, int], Looked]
    plain: Callable[[Any, NDArray[Any], Tensor], NDArray[np.float32]]
    what_plain: Callable[[Any], str]
    shown: Callable[[Any, int], tuple[str, bytes] | None]
    random_crops: Callable[[Any], RandomCrops]
    network: Callable[[Any], nn.Module]
    exported: Callable[[Any, str], Exported]
    paired_folders: Callable[[Any], bool]


def millions(encoders: Sequence[nn.Module]) -> str:
    """How many parameters encoders have, in words.

    Example:
        >>> millions([nn.Linear(999, 1000), nn.Linear(999, 1000)])
        '2 million parameters'
    """
    return f"{sum(one.numel() for encoder in encoders for one in encoder.parameters()) / 1e6:.3g} million parameters"


def check_left_out(what: str, reading: Reading) -> None:
    """Whether nothing is said of how to read what is read in one way only.

    Raises:
        ValueError: Something is.
    """
    for name, value in reading.plain().items():
        require(False, f"{name} of {what}", "be left out", shown(value))
