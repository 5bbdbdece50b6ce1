"""The configurations of the study of scores, and what comes of each: every score, and accuracy on two sets of rows."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from vicreg.data import as_frame, fit_spec, read_table
from vicreg.evaluation import knn, linear_probe, silhouette_by_label
from vicreg.objectives import Objective
from vicreg.training.config import TableConfig
from vicreg.training.engine import Callback, State
from vicreg.training.monitoring import monitor_of, monitored
from vicreg.tuning.scores import LABEL_FREE, RELATIVE
from vicreg.tuning.space import default_space, draw, with_values
from vicreg.tuning.tables import TableMaterial, TrainedOnTable
from vicreg.tuning.tried import Trained, Tried, Watch, unwatched

MOST_ROWS = 3000
STEPS, BATCH = 150, 128
MOST_COMPONENTS = 8

TABLES = ("vehicle", "vowel", "texture", "ring", "phoneme", "waveform_40", "splice", "krkopt")
SETS = ("digits", "satimage", "spambase", "fashion", *TABLES)
"""vehicle 4 classes, vowel 11, texture 11, ring 2, phoneme 2, waveform 3, splice 3, krkopt 18."""


@dataclass(frozen=True, eq=False)
class Problem:
    """A data set cut in three, and the settings that its space lies around."""

    choosing: TableMaterial
    test: np.ndarray
    test_labels: np.ndarray
    base: TableConfig


def keys(sets: Iterable[str], configurations: int) -> list[dict[str, Any]]:
    """Every configuration of every data set, all sets going forward together."""
    return [{"set": name, "configuration": number} for number in range(configurations) for name in sets]


@cache
def problem(name: str, data: Path) -> Problem:
    x, y = rows_of(name, data)
    if len(x) > MOST_ROWS:
        x, _, y, _ = train_test_split(x, y, train_size=MOST_ROWS, random_state=0, stratify=classes(y))
    learn, rest = train_test_split(np.arange(len(x)), test_size=0.4, random_state=1, stratify=classes(y))
    choose, test = train_test_split(rest, test_size=0.5, random_state=2, stratify=classes(y[rest]))
    spec = fit_spec(as_frame(x[learn]))
    features = spec.apply(as_frame(x))
    width = max(2, min(MOST_COMPONENTS, x.shape[1] // 2))
    base = TableConfig(n_components=width, steps=STEPS, batch_size=BATCH, device="cpu")
    material = TableMaterial(features[learn], features[choose], spec.sources, base, y[learn], y[choose])
    return Problem(material, features[test], y[test], base)


def classes(y: np.ndarray) -> np.ndarray:
    """To stratify by: classes of fewer than four rows go with the largest."""
    _, codes, counts = np.unique(y, return_inverse=True, return_counts=True)
    return np.where(counts[codes] < 4, counts.argmax(), codes)


def rows_of(name: str, data: Path) -> tuple[np.ndarray, np.ndarray]:
    if name == "digits":
        return load_digits(return_X_y=True)
    if name == "fashion":
        with np.load(data / "fashion_mnist.npz") as file:
            pictures, y = file["x_train"][:10000].astype(np.float64), file["y_train"][:10000]
        return pictures.reshape(-1, 14, 2, 14, 2).mean((2, 4)).reshape(-1, 196), y
    frame = read_table(data / (f"tables/{name}.parquet" if name in TABLES else f"pmlb_{name}.parquet"))
    inputs = frame.drop(["target"])
    return np.column_stack([np.asarray(inputs.column(one)) for one in inputs.names]).astype(float), frame.labels(
        "target"
    )[0]


def values_of(key: dict[str, Any], base: TableConfig) -> dict[str, Any]:
    """The drawn values; none of the default."""
    if key["configuration"] == 0:
        return {}
    seed = hashlib.sha256(f"{key['set']} {key['configuration']}".encode()).digest()[:4]
    return draw(default_space(base), np.random.default_rng(int.from_bytes(seed, "little")))


def outcome(key: dict[str, Any], data: Path) -> dict[str, Any]:
    """Fit and judge one configuration."""
    found = problem(key["set"], data)
    values = values_of(key, found.base)
    seen: dict[str, Any] = {"findings": [], "loss": float("nan")}
    tried = Tried(found.choosing, with_values(found.base, values), lambda which: watching(which, seen))
    try:
        scores = {name: score(tried) for name, score in LABEL_FREE.items() if name not in RELATIVE}
        return {"values": values, **seen, "scores": scores, **judged(tried, found)}
    except ValueError as failure:
        return {"values": values, **seen, "failed": str(failure)}


def watching(which: str, seen: dict[str, Any]) -> Watch:
    """Of the fit that is judged by labels: what the monitor finds, and the loss at the end."""

    def watch(objective: Objective, now: Callable[[], Trained]) -> list[Callback]:
        monitor = monitor_of(objective, lambda finding: seen["findings"].append(finding.failure))

        def last(state: State) -> None:
            if state.step == state.steps:
                seen["loss"] = float(state.terms[-max(1, state.steps // 10) :, -1].mean())

        return [monitored(monitor, objective), last]

    return watch if which == "main" else unwatched


def judged(tried: Tried, found: Problem) -> dict[str, Any]:
    """With labels: on the rows that are chosen on and on those that never are."""
    main, (known, asked) = tried.main, tried.labels
    elsewhere = TableMaterial(found.choosing.x, found.test, found.choosing.sources, found.base)
    test = TrainedOnTable(main.model, elsewhere, np.ones(len(elsewhere.sources), bool)).held
    both, answers = np.concatenate([main.held, test]), np.concatenate([asked, found.test_labels])
    labelled = {"silhouette": float(silhouette_by_label(main.held, asked).mean())}
    tests = {}
    for name, probe in (("linear", linear_probe), ("knn", knn)):
        right = probe(main.learnt, known, both, answers, task="classification")
        labelled[name], tests[name] = float(right[: len(asked)].mean()), float(right[len(asked) :].mean())
    return {"labelled": labelled, "test": tests}
