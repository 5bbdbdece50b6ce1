"""Numbers as the page of the comparison of objectives writes them."""

import statistics
from collections.abc import Callable

TITLES = {"digits": "digits", "satimage": "satimage", "fashion": "Fashion-MNIST", "cifar10": "CIFAR-10"}


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows])


def text(value: float) -> str:
    """A score without its leading zero."""
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.3f}"


def spread(values: list[float], form: Callable[[float], str] = text) -> str:
    """Mean and standard deviation."""
    if not values:
        return ""
    return form(statistics.mean(values)) + (f" ± {form(statistics.stdev(values))}" if len(values) > 1 else "")


def points(differences: list[float]) -> str:
    """Mean difference in points, and every seed's range."""
    if not differences:
        return ""
    low, high = (f"{100 * end:+.1f}" for end in (min(differences), max(differences)))
    return f"{100 * statistics.mean(differences):+.1f} [{low}, {high}]"


def ratio(one: dict[str, float] | None) -> str:
    return "" if one is None else f"{one['median']:.2f} [{one['low']:.2f}, {one['high']:.2f}]"
