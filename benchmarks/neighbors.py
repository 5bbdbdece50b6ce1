"""Neighbours among distinct rows: seconds, and the share of true neighbours found, of the ways there are.

    python benchmarks/neighbors.py --data FOLDER [--rows 20000 145583]

``--data`` (or VICREG_DATA) names a folder with pmlb_kddcup.parquet. Recall is over 2,000 random rows, against brute
force.
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
from sklearn.neighbors import NearestNeighbors

from vicreg.data import fit_spec, read_table
from vicreg.views.neighbors import _approximate, _exact, distinct_rows

K = 10


def hnsw(x: np.ndarray, k: int) -> np.ndarray:
    index = faiss.IndexHNSWFlat(x.shape[1], 16)
    index.hnsw.efSearch = 24
    index.add(x)
    return index.search(x, k + 1)[1][:, 1:]


def recall(found: np.ndarray, x: np.ndarray, rows: np.ndarray, true: np.ndarray) -> float:
    """Share of neighbours no farther than the true tenth."""
    near = np.linalg.norm(x[found[rows]] - x[rows, None], axis=2)
    return float((near <= true[:, -1:] * (1 + 1e-5)).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("VICREG_DATA"), required="VICREG_DATA" not in os.environ
    )
    parser.add_argument("--rows", type=int, nargs="*", default=[20_000, 145_583])
    options = parser.parse_args()
    frame = read_table(Path(options.data) / "pmlb_kddcup.parquet").drop(["target"])
    x = fit_spec(frame).apply(frame)
    x = x[distinct_rows(x)[0]]
    draw = np.random.default_rng(0)
    x = x[draw.permutation(len(x))]
    print(f"{len(x):,} distinct rows of {frame.n_rows:,}; {faiss.omp_get_max_threads()} threads")
    ways: dict[str, Callable] = {"brute force": _exact, "inverted file": _approximate, "HNSW": hnsw}
    for n in options.rows:
        part = np.ascontiguousarray(x[:n])
        rows = draw.integers(len(part), size=2000)
        true = NearestNeighbors(n_neighbors=K + 1, algorithm="brute").fit(part).kneighbors(part[rows])[0][:, 1:]
        for name, way in ways.items():
            if name == "brute force" and n > 50_000:
                continue
            begun = time.perf_counter()
            found = way(part, K)
            seconds = time.perf_counter() - begun
            print(
                f"{len(part):>8,} rows  {name:14} {seconds:6.2f} s  recall {recall(found, part, rows, true):.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
