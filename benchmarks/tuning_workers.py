"""How long a study on digits takes one worker, and two that share it; each is a process of one thread."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

COMMAND = "from vicreg.cli.entry import main; main()"


def measured(trials: int) -> str:
    """Seconds of both, and their ratio, in words. Every trial runs to its end, or the two would not do the same."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "digits.csv"
        x, _ = load_digits(return_X_y=True)
        np.savetxt(source, x, delimiter=",", header=",".join(f"p{k}" for k in range(64)), comments="")
        alone, cpu = study(source, Path(folder) / "alone", trials, workers=1)
        shared, _ = study(source, Path(folder) / "shared", trials, workers=2)
        halved, less = study(source, Path(folder) / "halved", trials, workers=2, halving=True)
    return (
        f"{trials} trials on digits, from the first trial to the last: one worker {alone:.0f} s ({cpu:.0f} s of CPU "
        f"with start and refit), two workers {shared:.0f} s, {alone / shared:.2f} times as fast; two with halving "
        f"{halved:.0f} s ({less:.0f} s of CPU)."
    )


def study(source: Path, folder: Path, trials: int, workers: int, *, halving: bool = False) -> tuple[float, float]:
    """Seconds between the first trial's beginning and the last one's end, and of CPU altogether."""
    words = ["tune", str(source), "--out", str(folder), "--trials", str(trials), "--device", "cpu"]
    words += [] if halving else ["--no-halving"]
    before = os.times()
    code = "import torch; torch.set_num_threads(1); " + COMMAND
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, *words],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(workers)
    ]
    while not (folder / "journal.log").exists():
        time.sleep(0.02)
    for one in started:
        if one.wait():
            raise RuntimeError("a worker failed")
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return spread(folder), spent


def spread(folder: Path) -> float:
    """From the first trial's beginning to the last one's end, by the journal."""
    from optuna.storages.journal import JournalFileBackend, JournalStorage

    storage = JournalStorage(JournalFileBackend(str(folder / "journal.log")))
    rows = storage.get_all_trials(storage.get_study_id_from_name(folder.name))
    first = min(row.datetime_start for row in rows)
    return (max(row.datetime_complete for row in rows) - first).total_seconds()
