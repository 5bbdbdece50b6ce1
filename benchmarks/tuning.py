"""Which label-free score chooses settings as labels would: many configurations, each judged by every score.

    python benchmarks/tuning.py --data FOLDER [--sets NAME ...] [--configurations 41] [--minutes M]
    python benchmarks/tuning.py --docs docs/results
    python benchmarks/tuning.py --part workers [--trials 40]

FOLDER (or VICREG_DATA) holds ``tables/*.parquet``, ``pmlb_satimage.parquet``, ``pmlb_spambase.parquet`` and
``fashion_mnist.npz``; digits come with scikit-learn. Of every data set up to 3,000 rows are taken and cut in three:
three fifths are learnt from (without labels), one fifth is what scores choose on, one fifth is never chosen on. Of
Fashion-MNIST it is a table of 14 x 14 pixels. Configuration 0 is the default, cut short as all are; the others are
drawn from the default space around it. All data sets go forward together, so that an unfinished study shows something
of each. Every finished configuration is written at once to benchmarks/out/tuning.jsonl, with all scores, and skipped
when the command is run again; --docs writes tuning.md there from what is finished, and runs nothing. --part workers
times ``vicreg tune`` on digits, at its defaults, by one process of one thread, then by two that share the study.
"""

import argparse
import os
import platform
from pathlib import Path

import numpy
import optuna
import sklearn
import torch
from branches_store import of_keys, run_all
from tuning_page import page
from tuning_trials import SETS, keys, outcome
from tuning_workers import measured

import vicreg

OUT = Path(__file__).parent / "out"


def made_by() -> str:
    """Versions and machine."""
    versions = f"vicreg {vicreg.__version__}, torch {torch.__version__}, scikit-learn {sklearn.__version__}"
    return f"{versions}, numpy {numpy.__version__}, optuna {optuna.__version__}; {platform.machine()}, one thread."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("VICREG_DATA"))
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("--configurations", type=int, default=41)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--part", default="scores", choices=("scores", "workers"))
    parser.add_argument("--trials", type=int, default=40, help="of each study of --part workers")
    parser.add_argument("--docs", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    every = keys(options.sets, options.configurations)
    if options.docs:
        text = page(of_keys(options.out / "tuning.jsonl", keys(SETS, options.configurations)), made_by())
        (options.docs / "tuning.md").write_text(text)
        return
    if options.part == "workers":
        print(measured(options.trials))
        return
    if options.data is None:
        parser.error("name the folder of the data by --data or VICREG_DATA")
    run_all(options.out / "tuning.jsonl", every, lambda key: outcome(key, Path(options.data)), options.minutes)


if __name__ == "__main__":
    main()
