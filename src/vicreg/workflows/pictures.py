"""Runs on pictures: what is their own, beside what they share with all collections."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate

from vicreg.data import (
    FOLDER,
    Corrupt,
    CorruptImage,
    ImageSource,
    Sample,
    Subset,
    every_sample,
    fingerprint_images,
    fingerprint_shards,
    read_images,
    shard_urls,
)
from vicreg.inference import ImageEmbedder, crops_of_all, crops_of_each
from vicreg.networks import IMAGE_ENCODERS
from vicreg.networks.export import Exported, exported
from vicreg.portrait.media import JPEG, SIDE, thumbnail
from vicreg.training.config import ImageConfig
from vicreg.training.engine import Machine
from vicreg.training.image import ImageRun, image_run, joint_embedding, shard_run
from vicreg.training.settings import SAME_FOLDER
from vicreg.views import evaluation_view, image_views
from vicreg.workflows.kinds import kind_of_pictures
from vicreg.workflows.medium import Looked, Medium, RandomCrops, Reading, Stream, check_left_out, millions

PIXELS = 32
"""Raw pixels are judged at this side at most: more of them only blur what a linear probe or neighbours see."""
GREY = 16
"""A map of them is of grey ones at this side."""


def _opened(where: str, reading: Reading) -> ImageSource:
    check_left_out("pictures", reading)
    return read_images(where, None if reading.labels == FOLDER and Path(where).is_dir() else reading.labels)


def _run(
    config: ImageConfig,
    source: ImageSource,
    place: Machine,
    codes: NDArray[np.int64] | None,
    encoders: Sequence[nn.Module],
) -> ImageRun:
    return image_run(config, source, place, codes, encoders)


def _words(run: ImageRun, config: ImageConfig, encoders: Sequence[nn.Module]) -> str:
    names = [type(one).__name__ for one in encoders] or [form.encoder for form in config.forms()]
    other = f"; {names[1]} is the other branch" if len(names) > 1 else ""
    return f"{names[0]} of {millions([run.state.model.encoder])} on views of {run.size} x {run.size} pixels{other}."


def _trained(run: ImageRun) -> ImageEmbedder:
    return ImageEmbedder(run.state.model.encoder, evaluation_view(run.size))


def _untrained(embedder: ImageEmbedder, config: ImageConfig) -> ImageEmbedder | None:
    """The same network as it was drawn, before any training; None for one of the user's own."""
    known = config.encoder in IMAGE_ENCODERS or config.encoder.startswith("timm:")
    model, _ = joint_embedding(replace(config, weights=None), embedder.view.size) if known else (None, None)
    if model is None or type(model.encoder) is not type(embedder.encoder):
        return None
    return ImageEmbedder(model.encoder.eval(), embedder.view).to(embedder.device)


def _looked(
    embedder: ImageEmbedder, source: ImageSource, rows: NDArray[np.int64], ledger: Corrupt, workers: int
) -> Looked:
    for some, crops in crops_of_all(source, embedder.view.crop_one, rows, ledger, workers):
        yield some, _pixels(crops), crops


def _pixels(crops: Tensor) -> NDArray[np.uint8]:
    """Raw pixels (b, p), made smaller where they are many; of grey pictures one channel."""
    side = min(PIXELS, crops.shape[-1])
    if side < crops.shape[-1]:
        crops = interpolate(crops, (side, side), mode="bilinear", antialias=True)
    found: NDArray[np.uint8] = crops.flatten(1).numpy()
    return found


def _plain(embedder: ImageEmbedder, raw: NDArray[Any], crops: Tensor) -> NDArray[np.float32]:
    grey = crops.float().mean(1, keepdim=True)
    side = min(GREY, grey.shape[-1])
    found: NDArray[np.float32] = interpolate(grey, (side, side), mode="area").flatten(1).numpy()
    return found


def _shown(source: ImageSource, row: int) -> tuple[str, bytes]:
    return JPEG, thumbnail(source.opened(row).at_least(2 * SIDE))


def _random_crops(embedder: ImageEmbedder) -> RandomCrops:
    view = image_views("crop", embedder.view.size)[0]

    def crop(source: ImageSource, row: int, numbers: Sequence[float]) -> Tensor:
        return view.crop_one(source.picture(row), numbers)

    return RandomCrops(view.draw, crop)


class _Finished(nn.Module):
    """From crops to representations."""

    def __init__(self, embedder: ImageEmbedder) -> None:
        super().__init__()
        self.encoder = embedder.encoder
        self.view = embedder.view

    def forward(self, crops: Tensor) -> Any:
        return self.encoder(self.view.finish(crops))


def _of_shards(
    embedder: ImageEmbedder, where: str, rank: int, count: int, ledger: Corrupt, workers: int
) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
    """Names and embeddings of the pictures in shards, one shard after the other."""

    def pictures() -> Iterator[tuple[str, Callable[[], NDArray[np.uint8]]]]:
        for url in shard_urls(where)[rank::count]:
            try:
                for sample in every_sample(url):
                    yield sample.name, partial(_picture, sample)
            except CorruptImage as damaged:
                ledger.add(damaged)

    for names, crops in crops_of_each(pictures(), embedder.view.crop_one, ledger, workers):
        yield names, embedder.encode(crops)


def _picture(sample: Sample) -> NDArray[np.uint8]:
    return sample.opened().pixels()


def _exported(embedder: ImageEmbedder, format: str) -> Exported:
    view = embedder.view
    return exported(embedder.encoder, format, mean=view.mean, std=view.std, size=view.size)


PICTURES = Medium(
    kind="image",
    noun="picture",
    nouns="pictures",
    config=ImageConfig,
    embedder=ImageEmbedder,
    opened=_opened,
    subset=Subset,
    fingerprint=fingerprint_images,
    stream=Stream("shards", lambda where: fingerprint_shards(shard_urls(where)), shard_run, _of_shards),
    streams=lambda where: kind_of_pictures(where) == "shards",
    run=_run,
    words=_words,
    trained=_trained,
    seen=lambda run, h: h[0],
    untrained=_untrained,
    like=lambda where, given, own, embedder: given,
    looked=_looked,
    plain=_plain,
    what_plain=lambda embedder: f"{GREY} x {GREY} grey pixels",
    shown=_shown,
    random_crops=_random_crops,
    network=_Finished,
    exported=_exported,
    paired_folders=lambda config: config.views == SAME_FOLDER,
)
