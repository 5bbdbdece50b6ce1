"""Pretraining an encoder of pictures or signals from Python: what `vicreg fit` does, in one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from vicreg import workflows
from vicreg._checks import message, require, shown
from vicreg.data import kind_of
from vicreg.distributed import by_first
from vicreg.inference import ImageEmbedder, SignalEmbedder, load
from vicreg.inference.files import foreign_among
from vicreg.training.config import ImageConfig
from vicreg.training.settings import from_mapping
from vicreg.training.signal_config import SignalConfig
from vicreg.workflows import Reading


def pretrain(
    source: str | Path,
    out: str | Path,
    *,
    labels: str | None = None,
    rate: float | None = None,
    channels: int | None = None,
    id: str | None = None,  # as the command line calls it
    time: str | None = None,
    values: Sequence[str] = (),
    encoder: str | nn.Module | Sequence[nn.Module] | None = None,
    resume: bool = False,
    say: Callable[[str], None] = print,
    **settings: Any,
) -> ImageEmbedder | SignalEmbedder:
    """Learn from pictures, sounds or other signals without labels, and leave a run: ``vicreg fit`` for Python.

    Args:
        source: A folder of pictures or recordings, a ``.parquet`` file with a column of them, an array in an ``.npz``
            or ``.npy`` file, ``.tar`` shards of pictures by path, URL or pattern, or a long table of signals.
        out: The run's folder, new or empty. What is in it, ``docs/images.md`` and ``docs/signals.md`` say.
        labels: What to judge by, never to learn from: ``folder`` for a folder's sub-folders, or the name of a column or
            array. A fifth of the labelled items is then held out, and ``out/scores.csv`` has what they show.
        rate: Samples a second of signals: recordings are resampled to it, of arrays it says what they have.
        channels: Of recordings; one if left out, the mean of theirs.
        id: The column of a long table that tells its signals apart.
        time: The column of a long table that orders them.
        values: The columns of a long table with the channels; all others with numbers if left out.
        encoder: A name such as ``resnet50`` or ``timm:NAME``; or any module from pictures (b, 3, s, s), float32 and
            normalised as ImageNet's usually are, or from signals (b, channels, time) to vectors (b, width). A copy of
            it is trained, from its own weights. Where two branches differ, such as waveform and spectrogram (b,
            channels, bands, frames), a module for each.
        resume: Go on with the interrupted run in ``out``; all else is given as it was.
        say: Told in words what is going on.
        **settings: By the names of :class:`vicreg.training.config.ImageConfig` or
            :class:`vicreg.training.signal_config.SignalConfig`: ``epochs``, ``batch_size``, ...

    Returns:
        The trained encoder with its preprocessing, on the CPU. Of a module of your own the run's folder keeps the
        weights alone: ``vicreg.load(out, encoder=module)`` puts them into it.

    Raises:
        ValueError: Source or settings that cannot be worked with, or a folder that is not empty.
        TypeError: ``encoder`` is neither a name nor a module.
        OSError: The source is not there, or the folder cannot be written to.
        vicreg.workflows.Interrupted: SIGINT or SIGTERM came; a checkpoint was written, and ``resume=True`` goes on.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from PIL import Image
        >>> draw = np.random.default_rng(0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for index in range(8):
        ...         picture = Image.fromarray(draw.integers(256, size=(12, 9 + index, 3), dtype=np.uint8))
        ...         picture.save(Path(folder, f"{index}.png"))
        ...     own = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        ...     run = Path(folder, "run")
        ...     settings = {"image_size": 8, "expander": (32,), "epochs": 2, "batch_size": 4, "device": "cpu"}
        ...     embedder = pretrain(folder, run, encoder=own, say=lambda text: None, **settings)
        ...     h = embedder.transform([Path(folder, "0.png"), picture, np.zeros((20, 30, 3), np.uint8)])
        >>> h.shape
        (3, 16)
    """
    reading = Reading(labels, rate, channels, id, time, tuple(values))
    modules = _modules(encoder)
    named = settings | {"encoder": encoder} if isinstance(encoder, str) else settings
    config: ImageConfig | SignalConfig
    if _holds_signals(source, reading):
        config = from_mapping(named, SignalConfig)
    else:  # whose settings call a module by its class
        names = {"encoder": type(modules[0]).__qualname__} if modules else {}
        config = from_mapping(named | names, ImageConfig)
    begin = workflows.resume_collection if resume else workflows.fit_collection
    judged = begin(str(source), Path(out), reading, config, encoders=modules, say=say)
    for text in (judged.comparison.summary() if judged.comparison else "", *judged.notes):
        if text:
            say(text)
    by_first(lambda: None)  # until the first process has written the encoder
    found = load(out, foreign_among(out, modules) or None)
    if not isinstance(found, ImageEmbedder | SignalEmbedder):
        raise TypeError(message("the run", "be on pictures or signals", type(found).__name__))
    return found


def _holds_signals(source: str | Path, reading: Reading) -> bool:
    """Whether a source is signals; what could be a table is where something is said of how to read it."""
    workflows.check_there(str(source))
    kind = kind_of(source)
    return kind == "signal" or (kind == "table" and bool(reading.plain()))


def _modules(encoder: str | nn.Module | Sequence[nn.Module] | None) -> tuple[nn.Module, ...]:
    if encoder is None or isinstance(encoder, str):
        return ()
    found = (encoder,) if isinstance(encoder, nn.Module) else encoder
    fix = "Pass resnet18, say, or a module."
    known = isinstance(found, list | tuple) and bool(found) and all(isinstance(one, nn.Module) for one in found)
    require(known, "encoder", "be a name or a module", shown(encoder), fix, error=TypeError)
    return tuple(found)
