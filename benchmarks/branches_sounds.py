"""Spoken digits, each speaker held out in turn: waveform beside spectrogram, two spectrograms, labels, statistics."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from itertools import pairwise, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from branches_store import Key, Row
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._testing import ignore_warnings
from torch import Generator, nn

from vicreg.data import GivenSignals, SignalSource, SignalSubset
from vicreg.evaluation import knn
from vicreg.inference import SignalEmbedder
from vicreg.training.engine import machine
from vicreg.training.optim import adamw, one_cycle, parameter_groups
from vicreg.training.settings import from_mapping
from vicreg.training.signal import SignalRun, signal_run
from vicreg.training.signal_config import SignalConfig
from vicreg.views import Mel, SpectrogramView, log_mel

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
RATE = 8000
FULL_SCALE = 2**15
LEVEL = 0.06

# Chosen on theo and lucas after learning from the other four, by the siamese form alone (docs/experiments.md).
COMMON: dict[str, Any] = {
    "width": 16,
    "seconds": 0.5,
    "batch_size": 64,
    "steps": 600,
    "learning_rate": 3.2e-2,
    "warmup_epochs": 2.0,
    "expander": [256, 256],
    "device": "cpu",
}
# Views of spectrograms are the recipe's without the mix, resized further, and of noisier sounds.
MEL = {"mix": 0.0, "resize": [0.6, 1.5]}
NOISE = {"noise": 0.5, "snr": [10.0, 40.0]}
NETWORKS: dict[str, dict[str, Any]] = {
    "siamese mel, VICReg": {"branches": ["mel", "mel"], "sim_coeff": 10.0},
    "wave + mel, VICReg": {"branches": ["wave", "mel"], "steps": 200, "sim_coeff": 10.0},
    "wave + mel, Barlow Twins": {"branches": ["wave", "mel"], "steps": 200, "objective": "barlow_twins"},
    "supervised mel": {"branches": ["mel", "mel"]},
}
CLASSICAL = ("log-mel statistics", "log-mel spectrogram")
RECORDED = ", as recorded"
BASELINES = (*CLASSICAL, *(f"{name}{RECORDED}" for name in CLASSICAL))
JUDGED_ALONE = ("george", "jackson", "nicolas", "yweweler")
"""Speakers on whom no setting was chosen."""

SUPERVISED_RATE = 2e-3
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)
FRAMES = 16


def keys(seeds: int, steps: int | None) -> list[Key]:
    """The study's runs: what draws nothing once, then the networks seed by seed, for every speaker."""
    once = [(method, 0, speaker) for method, speaker in product(BASELINES, SPEAKERS)]
    drawn = [(method, seed, speaker) for seed, method, speaker in product(range(seeds), NETWORKS, SPEAKERS)]
    return [
        {"part": "sounds", "method": method, "speaker": speaker, "seed": seed, "settings": settings(method, steps)}
        for method, seed, speaker in [*once, *drawn]
    ]


def settings(method: str, steps: int | None) -> dict[str, Any]:
    """Of the network; none of what is computed."""
    if method in BASELINES:
        return {}
    config = COMMON | NETWORKS[method] | ({} if steps is None else {"steps": steps})
    return {"config": config, "mel": MEL, "noise": NOISE}


class Clips(NamedTuple):
    """The recordings, whose they are and what they say."""

    source: SignalSource
    speaker: np.ndarray
    digit: np.ndarray


@cache
def clips(folder: Path | None, levelled: bool = True) -> Clips:
    """The recordings; levelled, each is brought to one power, since speakers were recorded 20 dB apart."""
    if folder is None:
        raise SystemExit("name the folder of fsdd_8k.npz by --data or VICREG_DATA")
    with np.load(folder / "fsdd_8k.npz") as file:
        wave, offset = file["wave"].astype(np.float32) / FULL_SCALE, file["offset"]
        speaker, digit = file["speakers"][file["speaker"]].astype(str), file["digit"]
    each = [wave[begin:end] for begin, end in pairwise(offset)]
    return Clips(GivenSignals([level(one) for one in each] if levelled else each, rate=RATE), speaker, digit)


def level(wave: np.ndarray) -> np.ndarray:
    """The same sound at a root mean square of .06, 24 dB below full scale."""
    return wave * (LEVEL / np.sqrt(np.mean(wave**2)))


def run(key: Key, folder: Path | None) -> Row:
    """Learn without the speaker, then let a linear probe and 5-NN of the other speakers' labels judge on them."""
    found = clips(folder, levelled=not key["method"].endswith(RECORDED))
    held = found.speaker == key["speaker"]
    if key["method"] == "supervised mel":
        said = supervised(key, found, held)
        return scored("network", said == found.digit[held])
    scores: Row = {}
    for name, h in representations(key, found, held).items():
        scores |= judged(f"{name} " if name else "", h, found, held)
    return scores


def representations(key: Key, found: Clips, held: np.ndarray) -> dict[str, np.ndarray]:
    """By name what is judged, of all clips: for two kinds of branches both side by side, and each of them."""
    if key["method"] in BASELINES:
        return {"": classical(found.source)[key["method"].removesuffix(RECORDED)]}
    prepared = run_of(key, found, held)
    prepared.train()
    embedder = SignalEmbedder.of(prepared.parts, prepared.spec, prepared.windows)
    h = np.asarray(embedder.transform(found.source))
    if len(embedder.parts) == 1:
        return {"": h}
    wide = np.cumsum([part.encoder.width for part in embedder.parts])[:-1]
    return {"": h} | dict(zip((part.eats for part in embedder.parts), np.split(h, wide, axis=1), strict=True))


def run_of(key: Key, found: Clips, held: np.ndarray) -> SignalRun:
    """The run at its start, on the clips of the other speakers."""
    settings = key["settings"]
    config = from_mapping(settings["config"] | {"seed": key["seed"]}, SignalConfig)
    prepared = signal_run(config, SignalSubset(found.source, np.flatnonzero(~held)), machine("cpu"))
    mel, noise = ({name: plain(value) for name, value in settings[one].items()} for one in ("mel", "noise"))
    prepared.feed.views = tuple(
        replace(view, wave=replace(view.wave, **noise), **mel) if isinstance(view, SpectrogramView) else view
        for view in prepared.views
    )
    return prepared


def plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def judged(prefix: str, h: np.ndarray, found: Clips, held: np.ndarray) -> Row:
    """Linear probe and 5-NN, in standardised columns."""
    h = StandardScaler().fit(h[~held]).transform(h)
    linear, strength = linear_said(h, found, held)
    near = knn(h[~held], found.digit[~held], h[held], found.digit[held], task="classification")
    rows = {**scored(f"{prefix}linear", linear == found.digit[held]), **scored(f"{prefix}knn", near == 1)}
    return {**rows, f"{prefix}strength": str(strength)}


def scored(name: str, right: np.ndarray) -> Row:
    """The share that is right, and clip by clip whether it is."""
    return {name: float(right.mean()), f"{name} right": "".join(map(str, right.astype(int)))}


def linear_said(h: np.ndarray, found: Clips, held: np.ndarray) -> tuple[np.ndarray, float]:
    """What logistic regression says of the held-out clips, and the C that was best for training speakers."""
    chosen = max(STRENGTHS, key=lambda strength: left_out(h[~held], found.digit[~held], found.speaker[~held], strength))
    return logistic(h[~held], found.digit[~held], chosen).predict(h[held]), chosen


def left_out(h: np.ndarray, y: np.ndarray, speaker: np.ndarray, strength: float) -> float:
    """Mean accuracy on each speaker of a probe of the others."""
    scores = []
    for one in np.unique(speaker):
        out = speaker == one
        scores.append(logistic(h[~out], y[~out], strength).score(h[out], y[out]))
    return float(np.mean(scores))


@ignore_warnings(category=ConvergenceWarning)
def logistic(h: np.ndarray, y: np.ndarray, strength: float) -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=200)).fit(h, y)


@cache
def classical(source: SignalSource) -> Mapping[str, np.ndarray]:
    """Of each clip as a whole: mean and deviation over time of its log-mel bands; and the spectrogram at 16 frames."""
    statistics, pictures = [], []
    for row in range(len(source)):
        bands = log_mel(torch.from_numpy(source.read(row))[None], Mel.at(RATE))[0, 0]
        statistics.append(torch.cat((bands.mean(1), bands.std(1, correction=0))))
        pictures.append(nn.functional.interpolate(bands[None], FRAMES, mode="linear", align_corners=False).flatten())
    return {name: torch.stack(one).numpy() for name, one in zip(CLASSICAL, (statistics, pictures), strict=True)}


def supervised(key: Key, found: Clips, held: np.ndarray) -> np.ndarray:
    """What the same encoder says of the held-out clips after learning from the labels, through the same view."""
    prepared = run_of(key, found, held)
    (encoder, still), view, feed = prepared.parts[0], prepared.feed.views[0], prepared.feed
    torch.manual_seed(key["seed"])
    network = nn.Sequential(encoder, nn.Linear(encoder.width, 10))
    generator = Generator().manual_seed(key["seed"])
    labels = torch.from_numpy(found.digit[~held]).long()
    steps = key["settings"]["config"]["steps"]
    optimizer = adamw(parameter_groups(network, SignalConfig.weight_decay), SUPERVISED_RATE)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = SUPERVISED_RATE * one_cycle(step, steps)
        rows = torch.randperm(len(labels), generator=generator)[: key["settings"]["config"]["batch_size"]]
        loss = nn.functional.cross_entropy(network(view(feed.array[rows], generator, feed.lengths[rows])), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    embedder = SignalEmbedder.of([(encoder.eval(), still)], prepared.spec, prepared.windows)
    h = embedder.transform(SignalSubset(found.source, np.flatnonzero(held)))
    with torch.no_grad():
        return network[1](torch.from_numpy(np.asarray(h))).argmax(1).numpy()
