"""Files of scores as tables and dot plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

HEADINGS = {
    "knn": "5-NN",
    "knn20": "20-NN",
    "knn200": "200-NN",
    "linear": "Linear probe",
    "top5": "Linear, top 5",
    "silhouette": "Silhouette",
    "ari": "k-means ARI",
    "nmi": "k-means NMI",
}
UNITS = {"classification": "accuracy", "regression": "R²"}
PROBES = ("knn", "knn20", "knn200", "linear")
UNKNOWN, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
NAMES = {"vicreg": "VICReg", "pca": "PCA", "cca": "CCA", "raw": "raw data", "random": "untrained"}


@dataclass(frozen=True)
class Dot:
    """One score in a dot plot; places are percent of the plot's width."""

    name: str
    own: bool
    text: str
    around: str
    at: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Plot:
    """A metric's dots, on one scale."""

    title: str
    unit: str
    dots: Sequence[Dot]
    least: str
    most: str


@dataclass(frozen=True)
class Table:
    """A file of scores.

    Attributes:
        key: The file's name without its ending.
        title: What it is of.
        about: How many rows were judged, and by what.
        header: Of the columns.
        lines: Cells; the first is the representation's name.
        plots: Of those metrics that have intervals, or of retrieval.
    """

    key: str
    title: str
    about: str
    header: Sequence[str]
    lines: Sequence[Sequence[tuple[str, str]]]
    plots: Sequence[Plot]


def number(text: str | float | None) -> float | None:
    """A cell as a number; None where it is none."""
    try:
        value = float(text) if text not in (None, "") else None
    except (TypeError, ValueError):
        return None
    return value if value is not None and abs(value) < float("inf") else None


def shown(value: float | None, metric: str = "") -> str:
    """Three decimals, no zero before the point, a real minus; counts above 10 with one.

    Example:
        >>> shown(0.5), shown(-0.03125), shown(1.0), shown(12.5), shown(None)
        ('.500', '−.031', '1.000', '12.5', '–')
    """
    if value is None:
        return UNKNOWN
    if "rank" in metric:
        return f"{value:g}"
    text = f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"
    text = text.replace("0.", ".", 1) if abs(round(value, 3)) < 1 else text
    return text.replace("-", MINUS)


def named(representation: str) -> str:
    """A representation as people call it."""
    return NAMES.get(representation, representation)


def table_of(key: str, rows: Sequence[Mapping[str, str]], title: str = "") -> Table:
    """A file of scores as a table: a line for each representation (and direction), a column for each metric."""
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    directions = len({row.get("direction", "") for row in rows}) > 1
    found: dict[tuple[str, str], dict[str, Mapping[str, str]]] = {}
    for row in rows:
        found.setdefault((row["representation"], row.get("direction", "")), {})[row["metric"]] = row
    widths = any(row.get("width") for row in rows)
    header = ["", *(["direction"] if directions else []), *(["width"] if widths else [])]
    header += [HEADINGS.get(metric, metric) for metric in metrics]
    lines = []
    for (name, direction), by_metric in found.items():
        line = [(named(name), "")]
        line += [(direction, "")] if directions else []
        line += [(next(iter(by_metric.values())).get("width", ""), "")] if widths else []
        line += [_cell(by_metric.get(metric)) for metric in metrics]
        lines.append(line)
    task = next((row["task"] for row in rows if row.get("task")), "")
    judged = {row["rows"] for row in rows if row.get("rows", "").isdigit()}
    about = f"Judged on {int(min(judged)):,} rows that no fit saw." if len(judged) == 1 else ""
    return Table(key, title or _title(key), about, header, lines, plots_of(rows, UNITS.get(task, "")))


def _title(key: str) -> str:
    rest = key.removeprefix("scores").lstrip("-")
    return {"": "Scores", "retrieval": "Retrieval", "a": "Side a by itself", "b": "Side b by itself"}.get(rest, rest)


def _cell(row: Mapping[str, str] | None) -> tuple[str, str]:
    if row is None:
        return UNKNOWN, ""
    low, high = number(row.get("low")), number(row.get("high"))
    around = "" if low is None or high is None else f"[{shown(low)}, {shown(high)}]"
    return shown(number(row["value"]), row["metric"]), around


def plots_of(rows: Sequence[Mapping[str, str]], unit: str = "") -> list[Plot]:
    """A dot plot for each metric with intervals, and for each direction-free share that was retrieved."""
    plots = []
    for metric in dict.fromkeys(row["metric"] for row in rows):
        of = [row for row in rows if row["metric"] == metric and row.get("direction", "both") == "both"]
        known = [row for row in of if number(row["value"]) is not None]
        wide = metric.startswith("recall") or any(number(row.get("low")) is not None for row in known)
        if known and wide:
            title = HEADINGS.get(metric, metric)
            plots.append(_plot(title, unit if metric in PROBES else "", known))
    return plots


def _plot(title: str, unit: str, rows: Sequence[Mapping[str, str]]) -> Plot:
    ends: list[float] = []
    for row in rows:
        found = (number(row["value"]), number(row.get("low")), number(row.get("high")))
        ends += [end for end in found if end is not None]
    low, high = min(ends), max(ends)
    room = 0.06 * (high - low) or 0.01
    low, high = low - room, high + room

    def place(value: float | None) -> float | None:
        return None if value is None else round(100 * (value - low) / (high - low), 2)

    dots = []
    for row in rows:
        text, around = _cell(row)
        name = row["representation"]
        at = place(number(row["value"])) or 0.0
        low_at, high_at = (place(number(row.get(end))) for end in ("low", "high"))
        dots.append(Dot(named(name), row.get("own", name) == "vicreg", text, around, at, low_at, high_at))
    return Plot(title, unit, dots, shown(low), shown(high))


def compared(names: Sequence[str], tables: Sequence[Mapping[str, Sequence[Mapping[str, str]]]]) -> list[Table]:
    """The scores of several runs: in each table the runs' own representation beside one another, and what each beat.

    Args:
        names: Of the runs.
        tables: Of each run its files of scores.
    """
    keys = list(dict.fromkeys(key for found in tables for key in found))
    merged = []
    for key in keys:
        rows: list[dict[str, Any]] = []
        for name, found in zip(names, tables, strict=True):
            rows += [
                {**row, "representation": f"{name} · {named(row['representation'])}", "own": row["representation"]}
                for row in found.get(key, [])
            ]
        table = table_of(key, rows)
        merged.append(table)
    return merged
