"""A tour on data that are at hand: handwritten digits, fitted and judged as any table is."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.datasets import load_digits

from vicreg import runs
from vicreg.training.config import TableConfig
from vicreg.training.engine import Callback
from vicreg.workflows.about import Columns
from vicreg.workflows.embedding import Say
from vicreg.workflows.fitting import fit
from vicreg.workflows.judging import Judged

LABEL = "digit"


def demo(
    folder: Path, callbacks: Sequence[Callback] = (), steps: int = TableConfig().steps, *, say: Say = print
) -> Judged:
    """Fit the digits that scikit-learn bundles, without their labels, and judge on a fifth held out.

    Args:
        folder: The run's folder, new or empty. The digits go beside it, as ``digits.parquet``.
        callbacks: Called after every step.
        steps: Length of the run.
        say: Told in words what is going on.

    Returns:
        The comparison on held-out rows.

    Raises:
        ValueError: The folder is not empty.
        OSError: It cannot be written to.
    """
    source = folder.parent / "digits.parquet"
    digits = load_digits()
    columns = dict(zip(digits.feature_names, digits.data.T, strict=True))
    table = pa.table({name: pa.array(column) for name, column in columns.items()} | {LABEL: pa.array(digits.target)})
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer)
    runs.write_atomically(source, buffer.getvalue().to_pybytes())
    config = TableConfig(n_components=8, steps=steps)
    return fit(source, folder, Columns(LABEL), config, callbacks=callbacks, say=say)


def free_folder(wanted: Path) -> Path:
    """The folder, or where something is in it already, the first of its name with a number that is new or empty.

    Example:
        >>> free_folder(Path("no-such-place/digits"))
        PosixPath('no-such-place/digits')
    """
    names = chain([wanted], (wanted.with_name(f"{wanted.name}-{number}") for number in count(2)))
    return next(path for path in names if not path.exists() or (path.is_dir() and not any(path.iterdir())))
