"""The commands as people type them, and a table for them: shared by the tests of the command line."""

from pathlib import Path

import numpy as np
import pandas as pd

from vicreg import cli

QUICK = ["--steps", "4", "--n-components", "2", "--encoder", "8", "--expander", "8", "8", "--decoder", "8"]
ROWS = 120


def people(rows, seed=0):
    """A mixed table of two classes."""
    draw = np.random.default_rng(seed)
    kind = draw.integers(0, 2, rows)
    return pd.DataFrame(
        {
            "number": np.arange(rows) + 1000 * seed,
            "height": draw.normal(size=rows) + 2 * kind,
            "city": np.array(["Bonn", "Lyon", "Oslo"])[draw.integers(0, 3, rows)],
            "secret": draw.normal(size=rows),
            "weight": np.where(draw.random(rows) < 0.1, np.nan, draw.normal(size=rows) - kind),
            "kind": np.array(["round", "square"])[kind],
        }
    )


def run(*words):
    """The exit status of a command."""
    try:
        cli.main([str(word) for word in words])
    except SystemExit as stop:
        return stop.code or 0
    return 0


def fitted(*more):
    """A run in runs/people of the table people.csv."""
    assert run("fit", "people.csv", "--labels", "kind", "--id", "number", "--exclude", "secret", *QUICK, *more) == 0


TIMED = {"config.yaml", "epochs.csv", "report.html", "looks.csv", "facts.json"}
"""Files of a run that say when or where it was, and how long it took."""


def files_of(folder):
    """The files in a run's folder, by their paths in it."""
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()}


def assert_same_files(one, other):
    """Two runs hold the same files, and but for time and place the same bytes."""
    assert files_of(one) == files_of(other)
    for name in files_of(other):
        if Path(name).name not in TIMED:
            assert Path(one, name).read_bytes() == Path(other, name).read_bytes(), name
