"""Two branches that differ: what methods lose by it, pairs of tables, sounds of speakers that nobody has heard.

    python benchmarks/branches.py --data FOLDER                     what is left of the study: hours of one core
    python benchmarks/branches.py --data FOLDER --part weights      one part of it: weights, pairs or sounds
    python benchmarks/branches.py --data FOLDER --part rates        how the learning rates of weights were chosen
    python benchmarks/branches.py --only-page --docs docs/results   the page, of what is finished

FOLDER (or VICREG_DATA) holds fashion_mnist.npz, mfeat_six_views.npz and fsdd_8k.npz. Each run is one process's, on one
thread; it is written as soon as it is finished and never repeated, so the command can be stopped at any time and run
again, and two of the same command at a time share the work.
"""

import argparse
import os
import platform
from collections.abc import Callable
from functools import partial
from pathlib import Path

import branches_pairs
import branches_sounds
import branches_weights
import numpy
import sklearn
import torch
from branches_page import page
from branches_store import Key, Row, of_keys, run_all

from vicreg import __version__

PARTS: dict[str, tuple[Callable[[int, int | None], list[Key]], Callable[..., Row]]] = {
    "rates": (branches_weights.rate_keys, branches_weights.run),
    "weights": (branches_weights.keys, branches_weights.run),
    "pairs": (branches_pairs.keys, branches_pairs.run),
    "sounds": (branches_sounds.keys, branches_sounds.run),
}
STUDY = ("weights", "pairs", "sounds")
OUT = Path(__file__).parent / "out" / "branches"


def made_by() -> str:
    """Versions and machine."""
    versions = f"vicreg {__version__}, torch {torch.__version__}, scikit-learn {sklearn.__version__}"
    return f"{versions}, numpy {numpy.__version__}; {platform.machine()}, one thread a run."


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("VICREG_DATA"))
    parser.add_argument("--part", action="append", choices=list(PARTS), help="by default all of the study")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="of every run, in place of the study's own")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no run after so many")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the finished runs")
    parser.add_argument("--docs", type=Path, help="folder for the page branches.md")
    parser.add_argument("--only-page", action="store_true", help="run nothing")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    folder = None if options.data is None else Path(options.data)
    wanted = {part: keys(options.seeds, options.steps) for part, (keys, _) in PARTS.items()}
    for part in () if options.only_page else options.part or STUDY:
        run_all(options.out / f"{part}.jsonl", wanted[part], partial(PARTS[part][1], folder=folder), options.minutes)
    if options.docs:
        options.docs.mkdir(parents=True, exist_ok=True)
        text = page(lambda part: of_keys(options.out / f"{part}.jsonl", wanted[part]), made_by())
        (options.docs / "branches.md").write_text(text)


if __name__ == "__main__":
    main()
