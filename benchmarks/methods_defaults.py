"""``vicreg fit`` on digits at the command line's defaults with each objective: does any collapse?"""

import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from methods_fit import METHODS, READINGS, collapsed
from sklearn.datasets import load_digits

import vicreg

RUN = "from vicreg.cli import main; main()"
NAMES = [name for name in METHODS if name != "vicregl"]


def fitted(name: str) -> dict:
    """Held-out scores and readings of one run, and what the command warned of."""
    digits = load_digits()
    with tempfile.TemporaryDirectory() as temporary:
        table, run = Path(temporary) / "digits.csv", Path(temporary) / "run"
        columns = [*digits.feature_names, "target"]
        rows = np.column_stack([digits.data, digits.target]).astype(int)
        np.savetxt(table, rows, fmt="%d", delimiter=",", header=",".join(columns), comments="")
        command = [sys.executable, "-c", RUN, "fit", str(table), "--labels", "target"]
        command += ["--objective", name, "--out", str(run)]
        subprocess.run(command, check=True, capture_output=True)
        with (run / "scores.csv").open() as file:
            mine = [row for row in csv.DictReader(file) if row["representation"] == "vicreg"]
        held_out = np.load(run / "split.npy")
        h = torch.from_numpy(vicreg.load(run).transform(digits.data[held_out])).double()
        warned = run / "warnings.json"
        findings = json.loads(warned.read_text())["warnings"] if warned.exists() else []
    scores = {row["metric"]: float(row["value"]) for row in mine if row["metric"] in ("linear", "knn")}
    result = scores | {key: read(h) for key, read in READINGS.items()}
    return {"method": name, **result, "findings": findings, "collapsed": collapsed(result)}
