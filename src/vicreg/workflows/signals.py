"""Runs on sounds and other signals: what is their own, beside what they share with all collections."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor, nn

from vicreg._checks import message, require, shown
from vicreg.data import (
    Corrupt,
    OpenedSignal,
    SignalSource,
    SignalSpec,
    SignalSubset,
    are_recordings,
    fingerprint_signals,
    kind_of,
    read_signals,
)
from vicreg.inference import SignalEmbedder
from vicreg.inference.crops import crops_of_each
from vicreg.networks import Branch
from vicreg.networks.export import Exported
from vicreg.portrait.media import SECONDS, WAV, sound_clip
from vicreg.training.engine import Machine
from vicreg.training.settings import SAME_FOLDER
from vicreg.training.signal import SignalRun, joint_embedding, signal_run
from vicreg.training.signal_config import SignalConfig
from vicreg.views import MEL, WAVE, Mel, SpectrogramView, log_mel
from vicreg.workflows.kinds import check_there
from vicreg.workflows.medium import Looked, Medium, RandomCrops, Reading, millions

LONGEST = 2**22
"""Raw statistics are of so many samples at most, from the middle of a signal."""
SLOWEST_MEL = 1000
"""Sounds of fewer samples a second are described like other series."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def _opened(where: str, reading: Reading) -> SignalSource:
    return read_signals(
        where,
        reading.labels,
        rate=reading.rate,
        channels=reading.channels,
        id=reading.id,
        time=reading.time,
        values=reading.values,
        sound=reading.sound,
    )


def _streams(where: str) -> bool:
    check_there(where)
    return False


def _like(where: str, given: Reading, own: Reading, embedder: SignalEmbedder) -> Reading:
    """Recordings come as those of the fit did, arrays and lists at their rate, long tables with their columns.

    What a run learnt from a long table is at home with arrays, too, whose channels are its columns in their order.
    """
    spec, sounds = embedder.spec, are_recordings(where)
    arrays = given.id is None and given.time is None and (where.endswith(".npy") or kind_of(where) == "signal")
    if not sounds and not arrays and (given.id or own.id):
        return replace(given, id=given.id or own.id, time=given.time or own.time, values=given.values or spec.columns)
    how = spec.how_to_read(where)
    rate = how["rate"]
    if sounds and rate is not None and given.rate not in (None, rate):
        raise ValueError(message("--rate", f"be left out, since the run's is {rate:g}", f"{given.rate:g}"))
    return replace(given, **how | {"rate": rate if sounds else given.rate or rate})


def _run(
    config: SignalConfig,
    source: SignalSource,
    place: Machine,
    codes: NDArray[np.int64] | None,
    encoders: Sequence[nn.Module],
) -> SignalRun:
    return signal_run(config, source, place, codes, encoders)


def _words(run: SignalRun, config: SignalConfig, encoders: Sequence[nn.Module]) -> str:
    names = [form.encoder for form in config.forms(sound=run.spec.sound)]
    if encoders:
        names = [type(encoders[k % len(encoders)]).__name__ for k in range(len(names))]
    kept = [names[k] for k in run.kept]
    others = "".join(f"; {name} is the other branch" for k, name in enumerate(names) if k not in run.kept)
    rate = run.spec.rate
    seconds = f" ({run.length / rate:.3g} seconds)" if rate else ""
    size = millions([encoder for encoder, _ in run.parts])
    return f"{' and '.join(kept)} of {size} on views of {run.length:,} samples{seconds}{others}."


def _trained(run: SignalRun) -> SignalEmbedder:
    return SignalEmbedder.of(run.parts, run.spec, run.windows)


def _seen(run: SignalRun, h: Sequence[Tensor]) -> Tensor:
    return torch.cat([h[k] for k in run.kept], 1)


def _untrained(embedder: SignalEmbedder, config: SignalConfig) -> SignalEmbedder | None:
    """The same networks as they were drawn, before any training; None for the user's own."""
    forms = config.forms(sound=embedder.spec.sound)
    views = [part.view for part in embedder.parts]
    views = views if len(views) == len(forms) else views * len(forms)
    model = joint_embedding(config, forms, views, embedder.spec.channels)
    drawn = [cast(Branch, branch).encoder for branch in model.branches][: len(embedder.parts)]
    if any(type(encoder) is not type(part.encoder) for encoder, part in zip(drawn, embedder.parts, strict=True)):
        return None
    parts = [(encoder, part.view) for encoder, part in zip(drawn, embedder.parts, strict=True)]
    return SignalEmbedder.of(parts, embedder.spec, embedder.windows).to(embedder.device)


def _looked(
    embedder: SignalEmbedder, source: SignalSource, rows: NDArray[np.int64], ledger: Corrupt, workers: int
) -> Looked:
    embedder.spec.check(source)
    raw: dict[int, NDArray[np.float32]] = {}

    def crops_of(found: tuple[int, OpenedSignal]) -> Tensor:
        row, opened = found
        raw[row] = described(opened.part((opened.length - LONGEST) // 2, LONGEST), embedder.spec)
        return embedder.crops(opened)

    every = ((row, partial(_row_and_signal, source, row)) for row in rows.tolist())
    for found, crops in crops_of_each(every, crops_of, ledger, workers, "vicreg-signals"):
        yield np.asarray(found), np.stack([raw.pop(row) for row in found]), crops


def _row_and_signal(source: SignalSource, row: int) -> tuple[int, OpenedSignal]:
    return row, source.opened(row)


def described(samples: NDArray[np.float32], spec: SignalSpec) -> NDArray[np.float32]:
    """What a signal is like without an encoder: raw data to judge beside.

    Args:
        samples: (channels, time).
        spec: Of the signals.

    Returns:
        Of sounds mean and deviation over time of the log-mel spectrogram's bands; of other signals each channel's mean,
        deviation and five quantiles, and the deviation of its steps.

    Example:
        >>> spec = SignalSpec(1, None, False, (0.0,), (1.0,))
        >>> described(np.array([[1.0, 3.0]], np.float32), spec).astype(float).round(2).tolist()
        [2.0, 1.0, 1.1, 1.5, 2.0, 2.5, 2.9, 0.0]
    """
    if spec.sound and (spec.rate or 0) >= SLOWEST_MEL:
        bands = log_mel(torch.from_numpy(samples)[None], Mel.at(round(spec.rate or 0)))[0]
        return torch.cat([bands.mean(-1), bands.std(-1, correction=0)]).flatten().numpy()
    quantiles = np.quantile(samples, QUANTILES, axis=1)
    found = np.vstack([samples.mean(1), samples.std(1), quantiles, np.diff(samples).std(1)])
    return found.T.ravel().astype(np.float32)


def _plain(embedder: SignalEmbedder, raw: NDArray[np.float32], crops: Tensor) -> NDArray[np.float32]:
    """Sounds as they are described; of other signals each channel on its own scale."""
    if embedder.spec.sound:
        return raw
    scale = np.array(embedder.spec.std, np.float32)[:, None]
    found: NDArray[np.float32] = (raw.reshape(len(raw), len(scale), -1) / scale).reshape(len(raw), -1)
    return found


def _what_plain(embedder: SignalEmbedder) -> str:
    spec = embedder.spec
    mel = spec.sound and (spec.rate or 0) >= SLOWEST_MEL
    return "mean and deviation of the log-mel bands" if mel else "mean, deviation and quantiles of each channel"


def _shown(source: SignalSource, row: int) -> tuple[str, bytes] | None:
    """The beginning of a sound; other signals are not to be heard."""
    if not source.sound or (source.rate or 0) < SLOWEST_MEL:
        return None
    rate = float(source.rate or 0)
    return WAV, sound_clip(source.read_crop(row, 0, int(SECONDS * rate)), rate)


def _random_crops(embedder: SignalEmbedder) -> RandomCrops:
    still = embedder.parts[0].view
    view = replace(still.wave if isinstance(still, SpectrogramView) else still, centre=False)

    def crop(source: SignalSource, row: int, numbers: Sequence[float]) -> Tensor:
        opened = source.opened(row)
        start, length = view.span(opened.length, numbers)
        return view.crop_one(opened.part(start, length), start)

    return RandomCrops(view.draw, crop)


def _exported(embedder: SignalEmbedder, format: str) -> Exported:
    """Every weight by its name; of two encoders with the name of what it eats before it."""
    fix = "It holds the weights by name; vicreg.load(RUN) embeds signals in Python."
    require(format == "safetensors", "--format", "be safetensors for a run on signals", shown(format), fix)
    several = len(embedder.parts) > 1
    tensors: dict[str, Tensor] = {}
    described: dict[str, Any] = {}
    for encoder, view in embedder.parts:
        name = MEL if isinstance(view, SpectrogramView) else WAVE
        described[name] = {"architecture": getattr(encoder, "settings", None), "view": asdict(view)}
        before = f"{name}." if several else ""
        tensors |= {f"{before}{key}": value.detach().cpu().contiguous() for key, value in encoder.state_dict().items()}
    plain = {"format": "pt", "branches": json.dumps(described), "signals": json.dumps(embedder.spec.to_json())}
    return Exported(tensors_to_bytes(tensors, plain), ())


SIGNALS = Medium(
    kind="signal",
    noun="signal",
    nouns="signals",
    config=SignalConfig,
    embedder=SignalEmbedder,
    opened=_opened,
    subset=SignalSubset,
    fingerprint=fingerprint_signals,
    stream=None,
    streams=_streams,
    run=_run,
    words=_words,
    trained=_trained,
    seen=_seen,
    untrained=_untrained,
    like=_like,
    looked=_looked,
    plain=_plain,
    what_plain=_what_plain,
    shown=_shown,
    random_crops=_random_crops,
    network=lambda embedder: embedder.encoder,
    exported=_exported,
    paired_folders=lambda config: config.views == SAME_FOLDER,
)
