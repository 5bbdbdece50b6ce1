"""Tables by step as charts: which series stand together, and how long ones are thinned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicreg.report.reading import Columns, Record

MOST_POINTS = 1200
"""Of a series; of a longer one each point stands for several steps."""

Chart = dict[str, Any]
Series = dict[str, Any]

TERM_NOTES = {
    "total": "What training minimises: the weighted sum of all terms.",
    "invariance": "How far apart two views of the same thing are.",
    "variance": "How far the deviations fall short of their target; at 0 none does.",
    "covariance": "How much dimensions say the same, noise included.",
    "reconstruction": "How far the input is from what can be read off the representation.",
}
LOOKS = {
    "covariance": ("Covariance and its noise floor", "The dashed floor is what independent dimensions would show."),
    "deviation": ("Deviation", "Mean standard deviation of the dimensions that vary, over its target or scale."),
    "rankme": ("Effective rank", "RankMe: how many directions are in use."),
}
PACE = {
    "learning_rate": ("Learning rate", ""),
    "rows_per_second": ("Throughput", "Rows a second."),
}
EPOCH_NAMES = {
    "online_linear": "linear probe, trained along",
    "knn": "nearest neighbours",
    "rankme": "Effective rank by epoch",
    "alpha_req": "Decay of the spectrum (alpha)",
    "participation_ratio": "Participation ratio",
    "dead_dimensions": "Dimensions that hardly vary",
    "deviation": "Deviation by epoch",
}


def thinned(x: NDArray[np.float64], y: NDArray[np.float64], most: int = MOST_POINTS) -> dict[str, Any]:
    """A series in at most so many points: each is the mean over a stretch of steps, beside its least and greatest.

    Args:
        x: (n,) steps.
        y: (n,) values; what is not finite is left out of its stretch.
        most: Points.

    Returns:
        x and y; low, high and each (steps to a point) where points stand for several.

    Example:
        >>> thinned(np.arange(4.0), np.array([1.0, 3.0, np.nan, 5.0]), most=2)["y"].tolist()
        [2.0, 5.0]
    """
    if len(x) <= most:
        return {"x": x, "y": y}
    each = -(-len(x) // most)
    starts = np.arange(0, len(x), each)
    finite = np.isfinite(y)
    counts = np.add.reduceat(finite.astype(np.int64), starts)
    known = counts > 0

    def gathered(found: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(known, found, np.nan)

    mean = np.add.reduceat(np.where(finite, y, 0.0), starts) / np.maximum(counts, 1)
    low = np.minimum.reduceat(np.where(finite, y, np.inf), starts)
    high = np.maximum.reduceat(np.where(finite, y, -np.inf), starts)
    middle = np.add.reduceat(x, starts) / np.diff([*starts, len(x)])
    return {"x": middle, "y": gathered(mean), "low": gathered(low), "high": gathered(high), "each": each}


def charts_of(record: Record) -> list[dict[str, Any]]:
    """Groups of charts of how training went, each with a title; empty groups are left out."""
    groups = [
        ("terms", "Terms of the loss", "Unweighted, by step.", _terms(record.metrics)),
        ("state", "State and pace", "What the monitor saw, now and then.", _state(record.looks, record.epochs)),
        ("epochs", "By epoch", "", _epochs(record.epochs)),
    ]
    return [
        {"id": key, "title": title, "note": note, "charts": charts} for key, title, note, charts in groups if charts
    ]


def side_by_side(groups: Sequence[Sequence[Mapping[str, Any]]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Charts of several runs, one upon the other: those of one name share a chart, and each run has its colour."""
    merged: dict[str, dict[str, Any]] = {}
    charts: dict[str, Chart] = {}
    for run, found in enumerate(groups):
        for group in found:
            kept = merged.setdefault(group["id"], {**group, "charts": []})
            for chart in group["charts"]:
                if chart.get("stacked"):
                    key = f"{chart['id']}-{run}"
                    kept["charts"].append({**chart, "id": key, "title": f"{chart['title']}: {names[run]}"})
                    continue
                if chart["id"] not in charts:
                    charts[chart["id"]] = {**chart, "series": []}
                    kept["charts"].append(charts[chart["id"]])
                several = len(chart["series"]) > 1
                charts[chart["id"]]["series"] += [
                    {**one, "name": f"{names[run]}: {one['name']}" if several else names[run], "colour": run}
                    for one in chart["series"]
                ]
    return list(merged.values())


def _series(name: str, columns: Columns, column: str, colour: int, **plain: Any) -> Series | None:
    x, y = columns.get("step"), columns.get(column)
    if x is None or y is None or not np.isfinite(y).any():
        return None
    known = np.isfinite(x) & (np.isfinite(y) | (len(x) == int(np.isfinite(x).sum())))
    sparse = np.isfinite(y[known]).mean() < 1
    if sparse and columns.get("seconds") is not None:  # looks at some steps only: no gaps between them
        known &= np.isfinite(y)
    return {"name": name, "colour": colour, **thinned(x[known], y[known]), **plain}


def _chart(key: str, title: str, note: str, series: Iterable[Series | None], **plain: Any) -> Chart | None:
    found = [one for one in series if one is not None]
    return {"id": key, "title": title, "note": note, "series": found, **plain} if found else None


def _kept(charts: Iterable[Chart | None]) -> list[Chart]:
    return [chart for chart in charts if chart is not None]


def _terms(metrics: Columns) -> list[Chart]:
    """A chart for each term; those of two branches share one."""
    stems: dict[str, list[str]] = {}
    for name in metrics:
        if name != "step":
            stem, _, side = name.rpartition("_")
            stems.setdefault(stem if stem and side in ("a", "b") else name, []).append(name)
    first = ["total"] if "total" in stems else []
    order = [*first, *(stem for stem in stems if stem != "total")]
    return _kept(
        _chart(
            f"term {stem}",
            stem.replace("_", " ").capitalize(),
            TERM_NOTES.get(stem, ""),
            [
                _series(_side(name, stem), metrics, name, colour, dash=colour == 1)
                for colour, name in enumerate(stems[stem])
            ],
            log=True,
        )
        for stem in order
    )


def _side(name: str, stem: str) -> str:
    return stem.replace("_", " ") if name == stem else f"branch {name.removeprefix(stem + '_')}"


def _state(looks: Columns, epochs: Columns) -> list[Chart]:
    return [*_shares(looks), *_looks(looks), *_pace(looks, epochs)]


def _shares(looks: Columns) -> list[Chart]:
    names = [name for name in looks if name.startswith("share ")]
    series = [_series(name.removeprefix("share "), looks, name, colour) for colour, name in enumerate(names)]
    note = "Share of each weighted term in the gradient at the embedding."
    return _kept([_chart("share", "Share of the gradient", note, series, stacked=True)])


def _looks(looks: Columns) -> list[Chart]:
    found = []
    for what, (title, note) in LOOKS.items():
        parts = [name.removeprefix(f"{what} ") for name in looks if name.startswith(f"{what} ")]
        series = []
        for colour, part in enumerate(parts):
            series.append(_series(part, looks, f"{what} {part}", colour))
            if what == "covariance":
                series.append(_series(f"floor, {part}", looks, f"floor {part}", colour, dash=True, floor=True))
        found.append(_chart(what, title, note, series, log=True))
    return _kept(found)


def _pace(looks: Columns, epochs: Columns) -> list[Chart]:
    found = []
    for name, (title, note) in PACE.items():
        columns, column = looks, name
        if name not in looks:
            columns = epochs
            column = next((one for one in epochs if one == name or one.endswith(name.partition("_")[2])), name)
        found.append(_chart(name, title, note, [_series(title.lower(), columns, column, 0)], log=True))
    return _kept(found)


def _epochs(epochs: Columns) -> list[Chart]:
    scores = [
        _series(EPOCH_NAMES[name], epochs, name, colour)
        for colour, name in enumerate(("online_linear", "knn"))
        if name in epochs
    ]
    note = "Accuracy: the probe's on augmented items, neighbours' on held-out ones."
    found = [_chart("online", "Probes along the way", note, scores)]
    for name, title in EPOCH_NAMES.items():
        if name not in ("online_linear", "knn"):
            found.append(_chart(f"epoch {name}", title, "", [_series(title.lower(), epochs, name, 0)], log=True))
    return _kept(found)
