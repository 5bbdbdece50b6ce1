"""Readings of anybody's embeddings, from a file, in words: nothing is trained, and no labels are needed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from vicreg._checks import listed, require
from vicreg.data import Frame, read_table
from vicreg.diagnostics import DEAD, MOST_DEAD, fewest_directions
from vicreg.functional import spectrum
from vicreg.functional.sphere import uniformity
from vicreg.workflows.about import EMBEDDING_COLUMN

MOST_ROWS = 2000
"""Rows that are read of a longer file, or twice its dimensions: drawn at random, but always the same."""
COMMON = 0.99
"""Share of the rows' squared length from which on they are called the same: cosine similarities are above it, too."""


@dataclass(frozen=True)
class Diagnosis:
    """What a file of embeddings shows.

    Attributes:
        rows: In the file.
        left_out: Rows that hold gaps or infinities.
        columns: Those that were read.
        others: Those that were not.
        read: Rows that were read.
        readings: Name to value.
    """

    rows: int
    left_out: int
    columns: tuple[str, ...]
    others: tuple[str, ...]
    read: int
    readings: dict[str, float]


def diagnose(source: Path, say: Callable[[str], None] = print) -> Diagnosis:
    """Read embeddings from a file and say what state they are in.

    Args:
        source: A .npy file, (n, d), or any table; of a table the columns vicreg0, vicreg1, ... where there are some,
            else all that are numbers.
        say: Told in words.

    Raises:
        ValueError: The file cannot be read, has no numeric column, or fewer than two whole rows.
        FileNotFoundError: There is none.
    """
    found = diagnosis(read_table(source))
    for line in in_words(found):
        say(line)
    return found


def diagnosis(frame: Frame) -> Diagnosis:
    """Readings of a table's embedding.

    Example:
        >>> from vicreg.data import as_frame
        >>> corners = [[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]
        >>> round(diagnosis(as_frame(corners)).readings["effective rank"], 2)
        2.0
    """
    columns = _columns(frame)
    x = np.column_stack([_numbers(frame, name) for name in columns])
    whole = np.isfinite(x).all(axis=1)
    require(int(whole.sum()) >= 2, "the file", "hold at least 2 rows without gaps", int(whole.sum()))
    kept = np.flatnonzero(whole)
    drawn = np.sort(np.random.default_rng(0).permutation(kept)[: max(MOST_ROWS, 2 * len(columns))])
    others = tuple(name for name in frame.names if name not in columns)
    return Diagnosis(len(x), int((~whole).sum()), columns, others, len(drawn), _readings(torch.from_numpy(x[drawn])))


def _columns(frame: Frame) -> tuple[str, ...]:
    numeric = tuple(name for name in frame.names if _is_numeric(frame, name))
    require(len(numeric) > 0, "the file", "have a column of numbers", listed(frame.names))
    ours = tuple(name for name in numeric if EMBEDDING_COLUMN.fullmatch(name))
    return ours or numeric


def _is_numeric(frame: Frame, name: str) -> bool:
    cells = frame.column(name)
    if isinstance(cells, np.ndarray):
        return bool(np.issubdtype(cells.dtype, np.integer) or np.issubdtype(cells.dtype, np.floating))
    return bool(pa.types.is_integer(cells.type) or pa.types.is_floating(cells.type))


def _numbers(frame: Frame, name: str) -> NDArray[np.float64]:
    cells = frame.column(name)
    if not isinstance(cells, np.ndarray):
        cells = cells.cast(pa.float64(), safe=False).to_numpy()
    return np.asarray(cells, dtype=np.float64)


def _readings(z: Tensor) -> dict[str, float]:
    """By name; those of size in the file's own units."""
    scale = z.abs().amax()
    x = z / torch.where(scale > 0, scale, 1)  # squares of large numbers overflow
    deviation = spectrum.standard_deviation(x)
    typical = deviation.square().mean().sqrt()
    dead = deviation <= DEAD * typical
    columns = (x - x.mean(dim=0))[:, ~dead] / deviation[~dead]
    length = x.square().sum(dim=1).mean()
    floor = spectrum.noise_floor(deviation.square(), len(x))
    found = {
        "deviation": deviation.mean() * scale,
        "dead dimensions": dead.sum(),
        "effective rank": spectrum.rankme(x),
        "participation ratio": spectrum.participation_ratio(x),
        "directions": spectrum.participation_ratio(columns) if columns.shape[1] else torch.zeros(()),
        "alpha": spectrum.alpha_req(x),
        "correlation": spectrum.mean_correlation(x),
        "covariance above noise": _fourth(spectrum.off_diagonal(x) - floor, scale),
        "noise floor": _fourth(floor, scale),
        "in common": x.mean(dim=0).square().sum() / torch.where(length > 0, length, 1),
        "uniformity": uniformity(x),
    }
    return {name: float(value) for name, value in found.items()}


def _fourth(value: Tensor, scale: Tensor) -> Tensor:
    """A sum of squared covariances in the file's own units; factor by factor, so that 0 stays 0."""
    return value * scale * scale * scale * scale


def in_words(found: Diagnosis) -> list[str]:
    """The readings as a table, and what is wrong, if anything is."""
    n, d, r = found.read, len(found.columns), found.readings
    drawn = f"; {n:,} of them read, drawn at random" if n < found.rows - found.left_out else ""
    lines = [f"{found.rows:,} rows of {d:,} dimensions{drawn}."]
    if found.left_out:
        lines.append(f"{found.left_out:,} rows with gaps or infinities are left out.")
    if found.others:
        lines.append(f"Columns that are not read: {listed(found.others)}.")
    most = min(n - 1, d)
    rows = [
        ("deviation", f"{r['deviation']:.3g}", "mean standard deviation of the dimensions"),
        ("dead dimensions", f"{r['dead dimensions']:.0f}", f"of {d}: below a hundredth of the usual deviation"),
        ("effective rank", f"{r['effective rank']:.1f}", f"of at most {most}: RankMe, of the centred rows"),
        ("participation ratio", f"{r['participation ratio']:.1f}", "the same with more weight on large directions"),
        (
            "alpha",
            "-" if math.isnan(r["alpha"]) else f"{r['alpha']:.2f}",
            "decay of the spectrum: j^-alpha; near 1 is usual",
        ),
        (
            "correlation",
            f"{r['correlation']:.3f}",
            f"mean |r| of two dimensions; {math.sqrt(2 / math.pi / n):.3f} by chance",
        ),
        (
            "covariance",
            f"{r['covariance above noise']:.3g}",
            f"VICReg's term, less its noise floor of {r['noise floor']:.3g}",
        ),
        ("in common", f"{r['in common']:.3f}", "share of the squared length that all rows share: an offset"),
        ("uniformity", f"{r['uniformity']:.2f}", "0 if all rows point the same way, about -4 if evenly all ways"),
    ]
    wide = [max(len(row[i]) for row in rows) for i in (0, 1)]
    lines += [f"  {name.ljust(wide[0])}  {value.rjust(wide[1])}  {meaning}" for name, value, meaning in rows]
    return [*lines, *verdicts(found)]


def verdicts(found: Diagnosis) -> list[str]:
    """What is wrong, by the limits of the monitor; or that nothing is seen."""
    n, d, r = found.read, len(found.columns), found.readings
    said = []
    if r["effective rank"] == 0:
        return ["Collapsed: all rows are the same."]
    if r["in common"] > COMMON:
        said.append(
            f"Norm collapse, or a large offset: {r['in common']:.2%} of the squared length is the same in all rows. "
            "Cosine similarities say little here: centre the rows first."
        )
    if r["dead dimensions"] > MOST_DEAD * d:
        said.append(f"Dead dimensions: {r['dead dimensions']:.0f} of {d} are constant, and can be left out.")
    alive = round(d - r["dead dimensions"])
    if alive > 1 and r["directions"] < fewest_directions(min(n - 1, alive)):
        said.append(
            f"Informational collapse: {alive} dimensions vary along {r['directions']:.1f} directions only. They hold "
            "the same thing many times."
        )
    if n <= d:
        said.append(f"With {n} rows of {d} dimensions no rank can be above {n - 1}: more rows would tell more.")
    return said or ["No sign of a collapse. How useful the embedding is for a task only labels can tell."]
