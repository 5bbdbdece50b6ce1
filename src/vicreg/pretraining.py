"""Pretraining an encoder of pictures from Python: what `vicreg fit` does, in one call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from vicreg import workflows
from vicreg._checks import require, shown
from vicreg.distributed import by_first
from vicreg.inference import ImageEmbedder, load_as
from vicreg.networks import ENCODERS
from vicreg.training.config import ImageConfig
from vicreg.training.settings import from_mapping


def pretrain(
    source: str | Path,
    out: str | Path,
    *,
    labels: str | None = None,
    encoder: str | nn.Module | None = None,
    resume: bool = False,
    say: Callable[[str], None] = print,
    **settings: Any,
) -> ImageEmbedder:
    """Learn from pictures without labels, and leave a run: ``vicreg fit`` for Python.

    Args:
        source: A folder of pictures, a ``.parquet`` file with a column of them, an ``.npz`` with an array of them, or
            ``.tar`` shards by path, URL or pattern.
        out: The run's folder, new or empty. What is in it, ``docs/images.md`` says.
        labels: What to judge by, never to learn from: ``folder`` for a folder's sub-folders, or the name of a column or
            array. A fifth of the labelled pictures is then held out, and ``out/scores.csv`` has what they show.
        encoder: A name such as ``resnet50`` or ``timm:NAME``; or any module from pictures (b, 3, s, s), float32 and
            normalised as ImageNet's usually are, to vectors (b, width). A copy of it is trained, from its own weights.
        resume: Go on with the interrupted run in ``out``; all else is given as it was.
        say: Told in words what is going on.
        **settings: By the names of :class:`vicreg.training.config.ImageConfig`: ``epochs``, ``batch_size``, ...

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
    fix = "Pass resnet18, say, or a module."
    known = encoder is None or isinstance(encoder, str | nn.Module)
    require(known, "encoder", "be a name or a module", shown(encoder), fix, error=TypeError)
    config = from_mapping(settings if encoder is None else settings | {"encoder": _name(encoder)}, ImageConfig)
    modules = (encoder,) if isinstance(encoder, nn.Module) else ()
    begin = workflows.resume_images if resume else workflows.fit_images
    judged = begin(str(source), Path(out), labels, config, encoders=modules, say=say)
    for text in (judged.comparison.summary() if judged.comparison else "", *judged.notes):
        if text:
            say(text)
    by_first(lambda: None)  # until the first process has written the encoder
    foreign = isinstance(encoder, nn.Module) and type(encoder) not in ENCODERS.values()
    return load_as(ImageEmbedder, out, encoder if foreign else None)  # type: ignore[arg-type]  # then it is a module


def _name(encoder: str | nn.Module) -> str:
    """What the run's settings call an encoder."""
    return encoder if isinstance(encoder, str) else type(encoder).__qualname__
