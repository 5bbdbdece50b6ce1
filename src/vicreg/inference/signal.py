"""Trained encoders of sounds or other signals with their preprocessing: new signals to embeddings."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vicreg._checks import listed, require, shown
from vicreg.data import Corrupt, GivenSignals, OpenedSignal, SignalSource, SignalSpec, SoundFiles, read_signals
from vicreg.inference.crops import AT_ONCE, crops_of_each
from vicreg.inference.files import write_encoder, write_encoders
from vicreg.views import MEL, WAVE, Mel, SignalView, SpectrogramView, ViewOfSignal


class SignalPart(NamedTuple):
    """An encoder, and what it sees of a signal.

    Attributes:
        encoder: The network, in evaluation mode.
        view: A view without anything random: the waveform, or its log-mel spectrogram.
    """

    encoder: nn.Module
    view: ViewOfSignal

    @property
    def eats(self) -> str:
        """What it sees: "wave" or "mel"."""
        return MEL if isinstance(self.view, SpectrogramView) else WAVE


class SideBySide(nn.Module):
    """From crops of signals to representations: those of all parts side by side, the mean over a signal's crops.

    Args:
        parts: Encoders and their views.

    Shapes:
        (b, crops, channels, length), or (b, channels, length) for one crop each, to (b, width).
    """

    def __init__(self, parts: Sequence[SignalPart]) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(part.encoder for part in parts)
        self.views = [part.view for part in parts]

    def forward(self, crops: Tensor) -> Tensor:
        """Representations, (b, width)."""
        each = crops.flatten(0, -3)
        parts = zip(self.encoders, self.views, strict=True)
        joined = torch.cat([encoder(view.finish(each)).float() for encoder, view in parts], dim=1)
        return joined.view(*crops.shape[:2], -1).mean(1) if crops.ndim == 4 else joined


@dataclass(frozen=True, eq=False)
class SignalEmbedder:
    """What one keeps of a run on signals: its encoders, and how signals are prepared for them.

    Where the two branches saw different things, the waveform and its spectrogram, both encoders are kept, and a
    signal's embedding is their representations side by side; :meth:`part` gives one of them alone. A signal is
    embedded by crops that are spread evenly over it, whose representations are averaged; one that is shorter than a
    crop is surrounded by its mean. Its embedding does not depend on the signals beside it.

    Attributes:
        parts: The encoders, and what each sees.
        spec: What signals must be like, and how they are scaled.
        windows: Crops of each signal.

    Example:
        >>> view = SignalView(1000)
        >>> spec = SignalSpec(1, 8000.0, True, (0.0,), (1.0,))
        >>> pool = nn.Sequential(nn.Conv1d(1, 5, 9), nn.AdaptiveAvgPool1d(1), nn.Flatten())
        >>> SignalEmbedder((SignalPart(pool, view.still()),), spec).transform([np.zeros(700), np.ones(3000)]).shape
        (2, 5)
        >>> SignalEmbedder((SignalPart(pool, view.still()),), spec)
        SignalEmbedder(wave, sounds of 1 channel at 8000 samples a second to 5 numbers)
    """

    parts: tuple[SignalPart, ...]
    spec: SignalSpec
    windows: int = 1

    @classmethod
    def of(cls, parts: Iterable[tuple[nn.Module, ViewOfSignal]], spec: SignalSpec, windows: int = 1) -> SignalEmbedder:
        """The embedder of encoders and their views, such as a run's ``parts``, which are put in evaluation mode."""
        return cls(tuple(SignalPart(encoder.eval(), view) for encoder, view in parts), spec, windows)

    def __repr__(self) -> str:
        channels = "1 channel" if self.channels == 1 else f"{self.channels} channels"
        rate = "" if self.rate is None else f" at {self.rate:g} samples a second"
        kinds = " and ".join(part.eats for part in self.parts)
        what = "sounds" if self.spec.sound else "signals"
        return f"SignalEmbedder({kinds}, {what} of {channels}{rate} to {self.width} numbers)"

    @property
    def rate(self) -> float | None:
        """Samples a second that signals are embedded at; None where nobody knew."""
        return self.spec.rate

    @property
    def channels(self) -> int:
        """Channels of each signal."""
        return self.spec.channels

    @property
    def length(self) -> int:
        """Samples of a crop."""
        return self.parts[0].view.length

    @property
    def encoder(self) -> nn.Module:
        """From crops, as :meth:`crops` cuts them, to representations."""
        return SideBySide(self.parts)

    @property
    def width(self) -> int:
        """Numbers per signal of the embedding."""
        return int(self.encode(torch.zeros(1, self.windows, self.spec.channels, self.length)).shape[1])

    @property
    def device(self) -> torch.device:
        """Where the encoders are."""
        return next((one.device for part in self.parts for one in part.encoder.parameters()), torch.device("cpu"))

    def to(self, device: torch.device | str) -> SignalEmbedder:
        """The same embedder, its encoders moved to a device."""
        for part in self.parts:
            part.encoder.to(device)
        return self

    def part(self, eats: str) -> SignalEmbedder:
        """The embedder of one encoder alone.

        Args:
            eats: "wave" or "mel".

        Raises:
            ValueError: The run has no such encoder.
        """
        known = [part.eats for part in self.parts]
        require(eats in known, "a part", f"be one of {listed(known)}", shown(eats))
        return SignalEmbedder((self.parts[known.index(eats)],), self.spec, self.windows)

    def crops(self, opened: OpenedSignal) -> Tensor:
        """A signal's crops, (windows, channels, length) float32 on the CPU: for workers.

        Raises:
            CorruptSignal: It cannot be read.
        """
        view, time = self.parts[0].view, opened.length
        starts = window_starts(time, self.length, self.windows)
        begin, count = starts[0], starts[-1] + self.length - starts[0]
        if count > 2 * self.windows * self.length:  # far apart
            return torch.stack([view.crop_one(opened.part(start, self.length), start) for start in starts])
        # Together, since decoding may begin at the beginning each time.
        whole = opened.part(begin, count)
        first = max(begin, 0)
        parts = [whole[:, max(start - first, 0) : max(start + self.length - first, 0)] for start in starts]
        return torch.stack([view.crop_one(part, start) for part, start in zip(parts, starts, strict=True)])

    def transform(self, X: Any) -> NDArray[np.float32]:
        """The embedding of every signal, (n, width).

        Args:
            X: Signals as :class:`vicreg.data.GivenSignals` takes them (an array (n, time) or (n, channels, time), or a
                list of arrays), at the rate of the fit; paths of recordings, which are resampled to it; one path, as
                :func:`vicreg.data.read_signals` takes it; or a source of signals.

        Raises:
            CorruptSignal: One cannot be read.
            TypeError: An item is no signal.
            ValueError: They have other channels than those of the fit, or another rate.
        """
        parts = [h for _, h in self.stream(self.source_of(X))]
        return np.concatenate(parts) if parts else np.empty((0, self.width), np.float32)

    def source_of(self, X: Any) -> SignalSource:
        """Signals as :meth:`transform` takes them, as a source."""
        if isinstance(X, SignalSource):
            return X
        if isinstance(X, str | os.PathLike):
            return read_signals(Path(X), **self.spec.how_to_read(Path(X)))
        if not isinstance(X, np.ndarray) and all(isinstance(item, str | os.PathLike) for item in X):
            return SoundFiles(X, None if self.spec.rate is None else round(self.spec.rate), self.spec.channels)
        mixed = isinstance(X, list | tuple) and any(isinstance(item, str | os.PathLike) for item in X)
        require(not mixed, "signals", "be all paths or all arrays", "both in one list", error=TypeError)
        return GivenSignals(X, rate=self.spec.rate, sound=self.spec.sound)

    def stream(
        self,
        source: SignalSource,
        rows: NDArray[np.int64] | None = None,
        ledger: Corrupt | None = None,
        workers: int = 2,
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """The embeddings of signals, some at a time: memory does not grow with their number.

        Args:
            source: The signals.
            rows: Which of them; all by default.
            ledger: Counts those that cannot be read, which are left out; without it one is an error.
            workers: Threads that open signals.

        Yields:
            Rows (b,) and their embeddings (b, width).

        Raises:
            CorruptSignal: One cannot be read, and there is no ledger.
            ValueError: Too many are corrupt for the ledger, or the signals are unlike those of the fit.
        """
        for found, crops in self.crops_of_all(source, rows, ledger, workers):
            yield found, self.encode(crops)

    def crops_of_all(
        self,
        source: SignalSource,
        rows: NDArray[np.int64] | None = None,
        ledger: Corrupt | None = None,
        workers: int = 2,
    ) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        """Crops of signals, opened by threads some chunks ahead.

        Args:
            source: As for :meth:`stream`.
            rows: As there.
            ledger: As there.
            workers: As there.

        Yields:
            Rows (b,) and their crops (b, windows, channels, length) float32 on the CPU.
        """
        self.spec.check(source)
        rows = np.arange(len(source)) if rows is None else rows
        signals = ((row, partial(source.opened, row)) for row in rows.tolist())
        for found, crops in crops_of_each(signals, self.crops, ledger, workers, "vicreg-signals"):
            yield np.asarray(found), crops

    def encode(self, crops: Tensor) -> NDArray[np.float32]:
        """The embeddings of crops, (b, windows, channels, length) or (b, channels, length), as (b, width)."""
        encoder = self.encoder
        at_once = max(1, AT_ONCE // (crops.shape[1] if crops.ndim == 4 else 1))
        with torch.inference_mode():
            h = [encoder(some.to(self.device)).cpu() for some in torch.split(crops, at_once)]
        embedding: NDArray[np.float32] = torch.cat(h).numpy()
        return embedding

    def save(self, folder: str | Path) -> None:
        """Write it for :func:`vicreg.load`, as :func:`vicreg.inference.files.write_encoders` does.

        Raises:
            OSError: The folder cannot be written to.
        """
        views = [asdict(part.view) for part in self.parts]
        plain = {"signals": self.spec.to_json(), "views": views, "windows": self.windows}
        if len(self.parts) == 1:
            write_encoder(folder, self.parts[0].encoder, plain)
        else:
            write_encoders(folder, {part.eats: part.encoder for part in self.parts}, plain)


def window_starts(time: int, length: int, windows: int) -> list[int]:
    """First samples of crops that are spread evenly over a signal; its middle if there is one, or it is no longer.

    Args:
        time: Samples of the signal.
        length: Samples of a crop.
        windows: How many crops.

    Example:
        >>> window_starts(100, 40, 3), window_starts(100, 40, 1), window_starts(30, 40, 2)
        ([0, 30, 60], [30], [-5, -5])
    """
    room = time - length
    if room <= 0 or windows == 1:
        return [room // 2 if room > 0 else -(-room // 2)] * windows
    return [round(room * k / (windows - 1)) for k in range(windows)]


def embedder_from(encoders: Sequence[nn.Module], plain: dict[str, Any]) -> SignalEmbedder:
    """What :meth:`SignalEmbedder.save` described.

    Raises:
        KeyError: Something is missing.
        TypeError: Something is of another type.
        ValueError: Something is out of its range.
    """
    views = [_view_from(one) for one in plain["views"]]
    parts = tuple(SignalPart(*part) for part in zip(encoders, views, strict=True))
    if not parts or not isinstance(plain["windows"], int) or plain["windows"] < 1:
        raise TypeError("windows")
    return SignalEmbedder(parts, SignalSpec.from_json(plain["signals"]), plain["windows"])


def _view_from(plain: Any) -> ViewOfSignal:
    if isinstance(plain, dict) and "mel" in plain:
        inner = {"wave": _made(SignalView, plain["wave"]), "mel": _made(Mel, plain["mel"])}
        return _made(SpectrogramView, plain | inner)
    return _made(SignalView, plain)


T = TypeVar("T")


def _made(kind: type[T], plain: Any) -> T:
    if not isinstance(plain, dict) or set(plain) != {field.name for field in fields(cast(Any, kind))}:
        raise TypeError(kind.__name__)
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()})
