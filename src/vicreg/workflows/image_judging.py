"""Judging an encoder of pictures: raw pixels, PCA, the encoder before training and after it, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from vicreg import runs
from vicreg._checks import check_number, message, require, shown
from vicreg.data import FOLDER, Corrupt, fingerprint_images, read_images
from vicreg.evaluation import (
    Comparison,
    ProbeComparison,
    hold_out,
    pca,
)
from vicreg.inference import ImageEmbedder, crops_of_all, load_as
from vicreg.networks import IMAGE_ENCODERS
from vicreg.runs import Run
from vicreg.training.config import ImageConfig
from vicreg.training.engine import device_of
from vicreg.training.image import joint_embedding
from vicreg.training.pictures import threads
from vicreg.workflows.image_about import Pictures, classes_of, read_about_images, same_pictures
from vicreg.workflows.image_probing import augmented_probe, tuned
from vicreg.workflows.judging import Judged, written
from vicreg.workflows.kinds import kind_of_pictures
from vicreg.workflows.labelled import Labelled

PIXELS = 32
"""Raw pixels are judged at this side at most: more of them only blur what a linear probe or neighbours see."""
MOST_FOR_PCA = 10_000
BATCH = 256

Pair = tuple[Any, Any]


def judge_held_out(run: Run, pictures: Pictures, embedder: ImageEmbedder, config: ImageConfig) -> Judged:
    """Judge a run on the pictures that its fit held out, and write the scores; or say why it cannot be judged."""
    train, test = _parts(pictures)
    try:
        judged = _judged(embedder, train, test, config)
    except ValueError as failure:
        return Judged(None, None, (f"The run cannot be judged because {failure}",))
    return written(judged, run.scores)


def judge_without_labels(run: Run, line: Mapping[str, float], width: int) -> Judged:
    """Write the readings of a run without labels."""
    found = {name: value for name, value in line.items() if name in ("rankme", "alpha_req", "dead_dimensions")}
    if not found:
        return Judged(None, None, ("The run was too short for readings.",))
    runs.write_json(run.readings, {"readings": {**found, "width": float(width)}})
    return Judged(None, None, (readings_of_pictures(found, width),))


def readings_of_pictures(found: Mapping[str, float], width: int) -> str:
    """Readings without labels in words that claim no usefulness.

    Example:
        >>> print(readings_of_pictures({"rankme": 120.4, "dead_dimensions": 3.0}, 512))
        Without labels there is no telling how useful the representation is. Its effective rank (RankMe) is 120 of 512;
        3 of its numbers hardly vary. Judge it on labelled pictures: vicreg evaluate RUN FOLDER.
    """
    dead = int(found.get("dead_dimensions", 0))
    rank = f"Its effective rank (RankMe) is {found['rankme']:.3g} of {width}"
    still = f"; {dead} of its numbers hardly vary" if dead else ""
    begin = "Without labels there is no telling how useful the representation is."
    return f"{begin} {rank}{still}. Judge it on labelled pictures: vicreg evaluate RUN FOLDER."


def evaluate_images(
    folder: Path,
    where: str | None = None,
    labels: str | None = None,
    test: str | None = None,
    *,
    augmented: bool = False,
    shares: Sequence[float] = (),
    device: str = "auto",
    say: Callable[[str], None] = print,
) -> Judged:
    """Judge a finished run by labelled pictures: those it held out, others, or a training and a test set.

    Args:
        folder: The run.
        where: Labelled pictures. A fifth of them is held out to judge on, unless ``test`` is given. None is the run's
            own.
        labels: What they are judged by; a folder's sub-folders by default.
        test: Labelled pictures to judge on.
        augmented: Whether also a linear probe is trained on pictures cropped and flipped anew at every epoch, as in the
            paper's protocol.
        shares: Shares of the labels with which the whole encoder is fine-tuned, such as .01 and .1.
        device: auto, cpu, cuda, cuda:N or mps.
        say: Told in words what is going on.

    Raises:
        ValueError: Pictures without labels, or a run on something else.
    """
    run = Run(folder)
    about, config = read_about_images(run)
    embedder = load_as(ImageEmbedder, folder).to(device_of(device))
    for share in shares:
        check_number("each of --shares", share, 0, 1, open_low=True)
    if where is None:
        require(test is None, "--test", "come with labelled pictures to train on", shown(test), "Name both sources.")
        if about["labels"] is None:
            found = runs.read_json(run.readings).get("readings") if run.readings.exists() else None
            require(isinstance(found, dict), repr(str(folder)), "hold readings to show without labels", "none")
            return Judged(None, None, (readings_of_pictures(dict(found or {}), embedder.width),))
        learnt, judged_on = _parts(same_pictures(run, about, None))
        path = run.scores
    else:
        name = labels or about["labels"] or FOLDER
        learnt = _labelled(where, name)
        judged_on = _labelled(test, name) if test is not None else learnt
        if test is None:
            held = hold_out(learnt.labels.astype(str))
            judged_on = replace(learnt, rows=learnt.rows[held], labels=learnt.labels[held])
            learnt = replace(learnt, rows=learnt.rows[~held], labels=learnt.labels[~held])
        path = run.scores_on(Path(where).name)
    judged = _judged(embedder, learnt, judged_on, config)
    notes = list(judged.notes)
    if where is not None and fingerprint_images(learnt.source) == about["fingerprint"]:
        notes.append("The encoder has learnt from these pictures, or most of them, without their labels.")
    if augmented:
        say("Training a linear probe on pictures cropped and flipped anew at every epoch.")
        notes.append(augmented_probe(embedder, learnt, judged_on, config))
    for share in shares:
        say(f"Fine-tuning on {share:.3g} of the labels.")
        notes.append(tuned(embedder, learnt, judged_on, share, config))
    return written(replace(judged, notes=tuple(notes)), path)


def _parts(pictures: Pictures) -> tuple[Labelled, Labelled]:
    source, codes = pictures.source, pictures.codes
    if source is None or codes is None:
        raise ValueError(message("the run", "have labels to be judged by", "none"))
    learnt, held = (np.flatnonzero(which & (codes >= 0)) for which in (~pictures.held, pictures.held))
    return (
        Labelled(source, learnt, pictures.classes[codes[learnt]]),
        Labelled(source, held, pictures.classes[codes[held]]),
    )


def _labelled(where: str, labels: str) -> Labelled:
    kind = kind_of_pictures(where)
    fix = "Judge on a folder, a .parquet or an .npz."
    require(kind == "image", shown(where), "be pictures that can be judged on one by one", kind, fix)
    source = read_images(where, None if Path(where).is_dir() and labels == FOLDER else labels)
    classes, codes = classes_of(source, labels)
    rows = np.flatnonzero(codes >= 0)
    return Labelled(source, rows, classes[codes[rows]])


def _judged(embedder: ImageEmbedder, train: Labelled, test: Labelled, config: ImageConfig) -> Judged:
    untrained = _untrained(embedder, config)
    ledger = Corrupt(config.max_corrupt, of=len(train.rows) + len(test.rows))
    parts = [_represented(part, embedder, untrained, ledger, config) for part in (train, test)]
    learnt, judged = parts
    baseline = pca(
        learnt.pixels[:: -(-len(learnt.pixels) // MOST_FOR_PCA)], min(embedder.width, learnt.pixels.shape[1])
    )
    sets: dict[str, Pair] = {
        "raw": (learnt.pixels, judged.pixels),
        "pca": (_float32(baseline.transform(learnt.pixels)), _float32(baseline.transform(judged.pixels))),
    }
    if untrained is not None:
        sets["random"] = (learnt.untrained, judged.untrained)
    sets["vicreg"] = (learnt.trained, judged.trained)
    notes = [f"{len(ledger.names)} pictures could not be read and are left out."] if ledger.names else []
    comparison: Comparison = ProbeComparison(sets, learnt.labels, judged.labels, random_state=config.seed % 2**32)
    return Judged(comparison, None, tuple(notes))


def _float32(x: NDArray[Any]) -> NDArray[np.float32]:
    return x.astype(np.float32)


def _untrained(embedder: ImageEmbedder, config: ImageConfig) -> ImageEmbedder | None:
    """The same network as it was drawn, before any training; None for one of the user's own."""
    known = config.encoder in IMAGE_ENCODERS or config.encoder.startswith("timm:")
    model, _ = joint_embedding(replace(config, weights=None), embedder.view.size) if known else (None, None)
    if model is None or type(model.encoder) is not type(embedder.encoder):
        return None
    return ImageEmbedder(model.encoder.eval(), embedder.view).to(embedder.device)


@dataclass(frozen=True, eq=False)
class _Represented:
    pixels: NDArray[np.uint8]
    trained: NDArray[np.float32]
    untrained: NDArray[np.float32] | None
    labels: NDArray[Any]


def _represented(
    part: Labelled, embedder: ImageEmbedder, untrained: ImageEmbedder | None, ledger: Corrupt, config: ImageConfig
) -> _Represented:
    """Each picture is opened once."""
    rows, pixels, trained, drawn = [], [], [], []
    for some, crops in crops_of_all(part.source, embedder.view.crop_one, part.rows, ledger, threads(config.workers)):
        rows.append(some)
        pixels.append(_pixels(crops))
        trained.append(embedder.encode(crops))
        if untrained is not None:
            drawn.append(untrained.encode(crops))
    require(bool(rows), "the pictures", "be readable", "none that is")
    before = np.concatenate(drawn) if drawn else None
    return _Represented(np.concatenate(pixels), np.concatenate(trained), before, part.kept(np.concatenate(rows)))


def _pixels(crops: Tensor) -> NDArray[np.uint8]:
    """Raw pixels (b, p), made smaller where they are many; of grey pictures one channel."""
    side = min(PIXELS, crops.shape[-1])
    if side < crops.shape[-1]:
        crops = interpolate(crops, (side, side), mode="bilinear", antialias=True)
    found: NDArray[np.uint8] = crops.flatten(1).numpy()
    return found
