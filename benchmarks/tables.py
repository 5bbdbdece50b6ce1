"""Held-out scores of table embeddings at the defaults, against raw columns, PCA, UMAP, an autoencoder, SCARF's views.

    python benchmarks/tables.py --data FOLDER [--seeds 3] [--tables NAME ...] [--methods NAME ...] [--page FILE.md]

``--data`` (or VICREG_DATA) names a folder with ``tables/*.parquet`` and ``pmlb_*.parquet``, each with a ``target``
column, and ``adult_raw_strings.parquet``; digits, wine and breast cancer come with scikit-learn. Of each table a
quarter of the rows, stratified by class and always the same, is held out from every fit and was held out when the
defaults were chosen; a seed is a seed of the fit. k is min(8, half the columns) unless a width stands beside the
table's name. Raw columns and PCA are standardised; "PCA, levels" is PCA of the very features that the networks get.
Scores on held-out rows: 5-NN and linear probe, accuracy or R2. Every finished fit is written at once to
benchmarks/out/tables.jsonl and skipped when the command is run again with the same settings; several may run side by
side. UMAP is left out where it is not installed.
"""

import argparse
import fcntl
import json
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
import torch
from sklearn import datasets
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from vicreg.data import Frame, TableSpec, as_frame, fit_spec, read_table
from vicreg.evaluation import knn, linear_probe, pca
from vicreg.inference import Embedder
from vicreg.training.config import TableConfig
from vicreg.training.table import table_run
from vicreg.views import table_views

OUT = Path(__file__).parent / "out" / "tables.jsonl"
REGRESSION = {"pol", "puma8NH", "cpu_small", "wind", "house_16H"}
BUNDLED = {"digits": datasets.load_digits, "wine": datasets.load_wine, "breast_cancer": datasets.load_breast_cancer}
OTHERS = ["digits:8", "digits:32", "wine", "breast_cancer", "satimage", "spambase", "shuttle", "adult:16"]
DEFAULT = TableConfig(device="cpu")

Encode = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Method:
    """How training rows become a map of rows: on plain standardised columns, or on the networks' features."""

    fit: Callable[[np.ndarray, TableSpec, int, int], Encode]
    plain: bool = False
    settings: str = ""
    seeded: bool = True


def network(config: TableConfig) -> Method:
    def fit(train: np.ndarray, spec: TableSpec, k: int, seed: int) -> Encode:
        chosen = replace(config, n_components=k, seed=seed)
        views = table_views(chosen.views, chosen.view_rate)
        state = table_run(chosen, train, spec.sources, views).train()
        return Embedder(state.model.encoder, spec).encode

    return Method(fit, settings=repr(config))


def umap(train: np.ndarray, spec: TableSpec, k: int, seed: int) -> Encode:
    from umap import UMAP

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = UMAP(n_components=k, random_state=seed).fit(train)
    return model.transform


def components(train: np.ndarray, spec: TableSpec, k: int, seed: int) -> Encode:
    return pca(train, k).transform


METHODS: dict[str, Method] = {
    "raw": Method(lambda train, spec, k, seed: lambda rows: rows, plain=True, seeded=False),
    "PCA": Method(components, plain=True, seeded=False),
    "PCA, levels": Method(components, seeded=False),
    "UMAP": Method(umap, plain=True),
    "autoencoder": network(
        replace(DEFAULT, views="identity", sim_coeff=0.0, std_coeff=0.0, cov_coeff=0.0, reconstruction=1.0, anchor=0.0)
    ),
    "SCARF views": network(replace(DEFAULT, views="marginal")),
    "VICReg": network(DEFAULT),
}


Read = Callable[[], tuple[Frame, np.ndarray]]


def sources(data: Path | None) -> dict[str, Read]:
    """From a table's name to its frame without the target, and the target."""

    def bundled(load: Callable) -> Read:
        return lambda: (as_frame(load().data), load().target)

    def file(path: Path, target: str) -> Read:
        def read() -> tuple[Frame, np.ndarray]:
            frame = read_table(path)
            return frame.drop([target]), frame.labels(target)[0]

        return read

    found = {name: bundled(load) for name, load in BUNDLED.items()}
    if data is not None:
        found |= {path.stem: file(path, "target") for path in sorted((data / "tables").glob("*.parquet"))}
        for name in ("satimage", "spambase", "shuttle"):
            found[name] = file(data / f"pmlb_{name}.parquet", "target")
        found["adult"] = file(data / "adult_raw_strings.parquet", "income")
    return found


def development(data: Path | None) -> list[str]:
    """The development tables."""
    return [] if data is None else sorted(path.stem for path in (data / "tables").glob("*.parquet"))


def split(y: np.ndarray, by_class: bool) -> tuple[np.ndarray, np.ndarray]:
    """Training and held-out row numbers; classes of one row go with the largest."""
    by = None
    if by_class:
        _, by, counts = np.unique(y, return_inverse=True, return_counts=True)
        by = np.where(counts[by] < 2, counts.argmax(), by)
    train, test = train_test_split(np.arange(len(y)), test_size=0.25, random_state=1000, stratify=by)
    return train, test


def plain_numbers(frame: Frame) -> np.ndarray | None:
    """The columns as they are; None if they are not all numbers."""
    columns = [np.asarray(frame.column(name)) for name in frame.names]
    if not all(column.dtype.kind in "biuf" for column in columns):
        return None
    return np.column_stack(columns).astype(np.float64)


def judged(name: str, frame: Frame, y: np.ndarray, k: int, method: str, seed: int) -> dict[str, object]:
    """One fit and its held-out scores."""
    task = "regression" if name in REGRESSION else "classification"
    train, test = split(y, task == "classification")
    spec = fit_spec(frame.take(train))
    how = METHODS[method]
    x = spec.apply(frame)
    numbers = plain_numbers(frame) if how.plain else None
    if numbers is not None:
        x = StandardScaler().fit(numbers[train]).transform(numbers).astype(np.float32)
    begun = time.perf_counter()
    encode = how.fit(x[train], spec, k, seed)
    seconds = time.perf_counter() - begun
    z = np.asarray(encode(x), dtype=np.float64)
    scores = {}
    for metric, probe in (("knn", knn), ("linear", linear_probe)):
        rows = probe(z[train], y[train], z[test], y[test], task=task)
        scores[metric] = float(1 - rows.mean() / y[test].var() if task == "regression" else rows.mean())
    key = {"table": name, "k": k, "method": method, "seed": seed, "settings": how.settings}
    return {**key, "seconds": seconds, **scores}


@contextmanager
def claimed(key: str) -> Iterator[bool]:
    """Whether no other process is at this fit; a process that dies gives its claim up."""
    path = OUT.parent / "claims" / key.replace(" ", "_")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def done() -> list[dict[str, object]]:
    """The finished fits of today's settings."""
    rows = [json.loads(line) for line in OUT.read_text().splitlines()] if OUT.exists() else []
    return [row for row in rows if row["method"] in METHODS and row["settings"] == METHODS[row["method"]].settings]


def fit_all(wanted: list[tuple[str, int | None]], methods: list[str], seeds: int, data: Path | None) -> None:
    """Every fit that is not finished yet; each is written as soon as it is."""
    readers = sources(data)
    for name, given in wanted:
        frame, y = readers[name]()
        k = given or max(2, min(8, len(frame.names) // 2))
        for seed, method in product(range(seeds), methods):
            with claimed(f"{name}-{k}-{method}-{seed}") as mine:
                finished = {(row["table"], row["k"], row["method"], row["seed"]) for row in done()}
                if mine and (name, k, method, seed) not in finished and (METHODS[method].seeded or seed == 0):
                    row = judged(name, frame, y, k, method, seed)
                    with OUT.open("a") as file:
                        file.write(json.dumps(row) + "\n")
                    said = f"5-NN {row['knn']:.3f}  linear {row['linear']:.3f}  {row['seconds']:.1f} s"
                    print(f"{name:20} k={k:<3} {method:12} seed {seed}  {said}", flush=True)


def text(value: float) -> str:
    """A score without its leading zero."""
    return f"{value:.3f}".replace("0.", ".", 1)


def page(names: list[tuple[str, int | None]], methods: list[str]) -> Iterator[str]:
    """The tables of the page, line by line: mean over seeds, and in brackets the standard deviation between them."""
    rows = done()
    cells: dict[tuple[str, int, str], list[dict[str, object]]] = {}
    for row in rows:
        cells.setdefault((row["table"], row["k"], row["method"]), []).append(row)
    methods = [one for one in methods if any(row["method"] == one for row in rows)]
    for metric, title in (("knn", "5-NN"), ("linear", "linear probe"), ("seconds", "seconds of a fit")):
        yield f"\n{title}\n\n| table | k | {' | '.join(methods)} |\n|---|---|{'---|' * len(methods)}"
        for name, given in names:
            for k in sorted({key[1] for key in cells if key[0] == name and given in (None, key[1])}):
                found = [[one[metric] for one in cells.get((name, k, method), [])] for method in methods]
                yield f"| {name} | {k} | {' | '.join(shown(one, metric) for one in found)} |"


def shown(values: list[float], metric: str) -> str:
    """Mean and standard deviation."""
    if not values:
        return ""
    if metric == "seconds":
        return f"{statistics.mean(values):.1f}"
    spread = f" ({text(statistics.stdev(values))})" if len(values) > 1 else ""
    return f"{text(statistics.mean(values))}{spread}"


def summary(names: list[str], methods: list[str]) -> Iterator[str]:
    """Over the development tables: means, mean ranks, and the worst that each method loses to PCA."""
    scores: dict[str, dict[str, dict[str, float]]] = {"knn": {}, "linear": {}}
    for metric in scores:
        for method in methods:
            for name in names:
                values = [row[metric] for row in done() if row["table"] == name and row["method"] == method]
                if values:
                    scores[metric].setdefault(method, {})[name] = statistics.mean(values)
    yield "\n| method | 5-NN | linear | rank, 5-NN | rank, linear | worst against PCA, 5-NN | linear | tables |"
    yield f"|{'---|' * 8}"
    narrow = [one for one in methods if one != "raw" and len(scores["knn"].get(one, {})) == len(names)]
    for method in methods:
        mine = {metric: scores[metric].get(method, {}) for metric in scores}
        if not mine["knn"]:
            continue
        means = [text(statistics.mean(mine[metric].values())) for metric in scores]
        ranks = [f"{mean_rank(method, narrow, scores[m]):.2f}" if method in narrow else "" for m in scores]
        worst = [worst_against_pca(mine[metric], scores[metric].get("PCA", {})) for metric in scores]
        yield f"| {' | '.join([method, *means, *ranks, *worst, str(len(mine['knn']))])} |"


def mean_rank(method: str, among: list[str], scores: dict[str, dict[str, float]]) -> float:
    """The method's mean rank over the tables, 1 the best; raw columns are wider and have no rank."""
    return statistics.mean(
        1 + sum(scores[other][name] > scores[method][name] for other in among) for name in scores[method]
    )


def worst_against_pca(mine: dict[str, float], theirs: dict[str, float]) -> str:
    """The lowest difference, and where."""
    differences = {name: mine[name] - theirs[name] for name in mine if name in theirs}
    if not differences:
        return ""
    where = min(differences, key=differences.get)
    return f"{differences[where]:+.3f} ({where})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("VICREG_DATA"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tables", nargs="*", help="name or name:k; by default all there are")
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--page", type=Path, help="write the tables there as Markdown too")
    parser.add_argument("--only-print", action="store_true", help="print what is finished")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = None if options.data is None else Path(options.data)
    names = options.tables or [*development(data), *OTHERS]
    wanted = [(one.split(":")[0], int(one.split(":")[1]) if ":" in one else None) for one in names]
    wanted = [one for one in wanted if one[0] in sources(data)]
    methods = [one for one in options.methods if one != "UMAP" or find_spec("umap")]
    if not options.only_print:
        fit_all(wanted, methods, options.seeds, data)
    lines = [f"torch {torch.__version__}, one thread; standard deviation between seeds in brackets."]
    lines += [*summary(development(data), methods), *page(wanted, methods)] if data else [*page(wanted, methods)]
    print("\n".join(lines))
    if options.page:
        options.page.parent.mkdir(parents=True, exist_ok=True)
        options.page.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
