"""Six views of the same handwritten digits, in pairs: PairedVICReg beside the cross decompositions of scikit-learn."""

import json
import warnings
from collections.abc import Callable
from functools import cache
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
from branches_store import Key, Row
from sklearn.cross_decomposition import CCA, PLSCanonical
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler

from vicreg import PairedVICReg
from vicreg.evaluation import linear_probe, retrieval
from vicreg.functional import canonical_axes

VIEWS = ("fourier", "karhunen", "factors", "zernike", "pixel", "morphological")
PAIRS = tuple(combinations(VIEWS, 2))
WIDTH = 16
FITTED = 1400
RIDGE = 0.1
CLASSICAL = ("CCA", "PLS", "CCA with a ridge")
OURS = ("aligned", "unaligned")

Both = tuple[np.ndarray, np.ndarray]


def keys(seeds: int, steps: int | None) -> list[Key]:
    """The study's runs: what draws nothing once, then ours seed by seed."""
    once = [(pair, method, 0) for pair, method in product(PAIRS, CLASSICAL)]
    ours = [(pair, method, seed) for seed, method, pair in product(range(seeds), OURS, PAIRS)]
    return [
        {"part": "pairs", "pair": " - ".join(pair), "method": method, "seed": seed, "settings": settings(method, steps)}
        for pair, method, seed in [*once, *ours]
    ]


def settings(method: str, steps: int | None) -> dict[str, Any]:
    """Of PairedVICReg, its defaults: what was learnt with others is no finished run of the study."""
    if method not in OURS:
        return {}
    given = {"n_components": WIDTH, "aligned": method == "aligned", "device": "cpu"}
    model = PairedVICReg(**given) if steps is None else PairedVICReg(**given, steps=steps)
    idle = {"random_state", "verbose"} | ({"expander", "decoder", "reconstruction"} if method == "aligned" else set())
    every: dict[str, Any] = json.loads(json.dumps(model.get_params()))
    return {name: every[name] for name in sorted(every.keys() - idle)}


@cache
def rows_of(folder: Path | None) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """The views and the labels, in an order of chance: the first 1,400 rows are to fit and the rest to judge."""
    if folder is None:
        raise SystemExit("name the folder of mfeat_six_views.npz by --data or VICREG_DATA")
    with np.load(folder / "mfeat_six_views.npz") as file:
        order = np.random.default_rng(0).permutation(len(file["y"]))
        return {name: file[name][order] for name in VIEWS}, file["y"][order], order


def run(key: Key, folder: Path | None) -> Row:
    """Recall of the held-out rows' partners by either metric, and accuracy from each side's columns."""
    views, y, _ = rows_of(folder)
    a, b = (views[name] for name in key["pair"].split(" - "))
    k = min(WIDTH, a.shape[1], b.shape[1])
    transform = fitted(key, (a[:FITTED], b[:FITTED]), k)
    fit, held = transform(a[:FITTED], b[:FITTED]), transform(a[FITTED:], b[FITTED:])
    found: Row = {f"recall_{m}": retrieval(*held, depths=(1,), metric=m).recall[1] for m in ("euclidean", "cosine")}
    for side, z, z_held in zip("ab", fit, held, strict=True):
        right = linear_probe(z, y[:FITTED], z_held, y[FITTED:], task="classification")
        found[f"linear_{side}"] = float(right.mean())
    right = linear_probe(np.hstack(fit), y[:FITTED], np.hstack(held), y[FITTED:], task="classification")
    return {**found, "linear_both": float(right.mean()), "k": k}


def fitted(key: Key, both: Both, k: int) -> Callable[[np.ndarray, np.ndarray], Both]:
    """What maps rows of both sides to k columns each."""
    method = key["method"]
    if method in OURS:
        return PairedVICReg(**key["settings"], random_state=key["seed"]).fit(*both).transform
    scalers = [StandardScaler().fit(side) for side in both]
    scaled = [scaler.transform(side) for scaler, side in zip(scalers, both, strict=True)]
    if method == "CCA with a ridge":
        axes = canonical_axes(*scaled, k, ridge=RIDGE)
        return lambda a, b: tuple(
            scaler.transform(side) @ projection.T + offset
            for scaler, side, (projection, offset) in zip(scalers, (a, b), (axes.left, axes.right), strict=True)
        )
    model = {"CCA": CCA, "PLS": PLSCanonical}[method](n_components=k, max_iter=2000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(*scaled)
    return lambda a, b: model.transform(scalers[0].transform(a), scalers[1].transform(b))
