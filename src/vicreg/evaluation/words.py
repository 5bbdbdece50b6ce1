"""Numbers as text: the table of scores, the verdict, the readings without labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from vicreg.evaluation.inputs import Task, name_of
from vicreg.evaluation.resampling import Interval
from vicreg.evaluation.scores import Score

HEADINGS = {
    "knn": "5-NN",
    "knn20": "20-NN",
    "knn200": "200-NN",
    "linear": "linear",
    "top5": "linear top-5",
    "silhouette": "silhouette",
    "ari": "k-means ARI",
    "nmi": "k-means NMI",
}
PROBE_NAMES = {"knn": "5-NN", "knn20": "weighted 20-NN", "knn200": "weighted 200-NN", "linear": "the linear probe"}
UNITS: dict[Task, str] = {"classification": "accuracy", "regression": "R2"}
OBJECTS: dict[Task, str] = {"classification": "labels", "regression": "values"}


def number(value: float, sign: bool = False) -> str:
    """Three decimals, no zero before the point.

    Example:
        >>> number(0.5), number(-0.0312, sign=True), number(12.0), number(-0.0001, sign=True)
        ('.500', '-.031', '12.000', '+.000')
    """
    rounded = round(value, 3) + 0.0  # no -0
    text = format(rounded, "+.3f" if sign else ".3f")
    return text.replace("0.", ".", 1) if abs(rounded) < 1 else text


def count(how_many: int, noun: str) -> str:
    """A count and its noun.

    Example:
        >>> count(1, "row"), count(20000, "row")
        ('1 row', '20,000 rows')
    """
    return f"{how_many:,} {noun}{'' if how_many == 1 else 's'}"


def joined(parts: Sequence[str]) -> str:
    """Parts of a sentence, the last two with "and".

    Example:
        >>> joined(["a"]), joined(["a", "b", "c"])
        ('a', 'a, b and c')
    """
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))


def score_table(scores: Iterable[Score], widths: Mapping[str, int], task: Task) -> str:
    """A row per representation, a column per metric, each ``value [low, high]``.

    Args:
        scores: Of every representation in ``widths``.
        widths: Numbers per row, by representation, in the order of the rows.
        task: Names the unit.

    Returns:
        Lines of equal columns, without a newline at the end.

    Example:
        >>> print(score_table([Score("pca", "knn", 0.9, 0.85, 0.94)], {"pca": 8}, "classification"))
             width  5-NN accuracy
        pca      8  .900 [.850, .940]
    """
    by_metric: dict[str, dict[str, str]] = {}
    for score in scores:
        around = "" if score.low is None or score.high is None else f" [{number(score.low)}, {number(score.high)}]"
        by_metric.setdefault(score.metric, {})[score.representation] = number(score.value) + around
    columns = [["", *map(name_of, widths)], ["width", *map(str, widths.values())]]
    for metric, cells in by_metric.items():
        unit = f" {UNITS[task]}" if metric in PROBE_NAMES else ""
        columns.append([HEADINGS[metric] + unit, *(cells[name] for name in widths)])
    wide = [max(map(len, column)) for column in columns]
    aligned = [
        [cell.rjust(width) if place == 1 else cell.ljust(width) for cell in column]
        for place, (column, width) in enumerate(zip(columns, wide, strict=True))
    ]
    return "\n".join("  ".join(line).rstrip() for line in zip(*aligned, strict=True))


def verdict(
    name: str,
    differences: Mapping[str, Mapping[str, Interval]],
    widths: Mapping[str, int],
    task: Task,
    judged: int,
    guess: str = "",
) -> str:
    """One sentence on how a representation compares with others, from the intervals of the differences.

    Args:
        name: The representation the sentence is about.
        differences: By other representation and probe, ``name``'s score minus the other's.
        widths: Numbers per row, by representation.
        task: Accuracy or R2.
        judged: How many rows were judged.
        guess: The guess that no representation clearly beats, in words; empty where one does.

    Returns:
        The sentence. It claims only differences whose interval leaves out 0, and no winner where nothing is won.

    Example:
        >>> print(verdict("h", {"pca": {"knn": Interval(0.03, 0.01, 0.05)}}, {"h": 8, "pca": 8}, "classification", 360))
        The winner is h: with 8 numbers per row, h predicts the labels of 360 held-out rows better than pca (8) by
        5-NN (+.030 [.010, .050]).
    """
    claims = [
        _claim("better", "than", _cases(differences, widths, 1)),
        _claim("worse", "than", _cases(differences, widths, -1)),
        _claim("with no clear difference", "from", _cases(differences, widths, 0)),
    ]
    said = _said(claims)
    unit = "" if task == "classification" else ", in R2"
    who = f"with {count(widths[name], 'number')} per row, {name_of(name)} predicts"
    what = f"the {OBJECTS[task]} of {count(judged, 'held-out row')}"
    opening = f"No representation clearly beats {guess}" if guess else _opening(name, differences)
    return f"{opening}: {who} {what} {said}{unit}."


def _claim(how: str, preposition: str, cases: Sequence[str]) -> str:
    return f"{how} {', '.join(f'{preposition} {case}' for case in cases)}" if cases else ""


def _cases(differences: Mapping[str, Mapping[str, Interval]], widths: Mapping[str, int], sign: int) -> list[str]:
    """``other (width) by probe (+.031 [.012, .049])`` for all differences of one sign."""
    cases = []
    for other, by_probe in differences.items():
        shown = [f"by {PROBE_NAMES[probe]} {_around(d)}" for probe, d in by_probe.items() if d.sign == sign]
        if shown:
            cases.append(f"{name_of(other)} ({widths[other]}) {joined(shown)}")
    return cases


def _opening(name: str, differences: Mapping[str, Mapping[str, Interval]]) -> str:
    """Who wins: ``name`` if it beats each other somewhere and loses nowhere, those that beat it if it beats none."""
    signs = {other: {d.sign for d in by_probe.values()} for other, by_probe in differences.items()}
    lost_to = [name_of(other) for other, found in signs.items() if -1 in found]
    beaten = [other for other, found in signs.items() if 1 in found]
    if lost_to and beaten:
        return "There is no single winner"
    if lost_to:
        return f"{joined(lost_to)} {'does' if len(lost_to) == 1 else 'do'} better"
    if not beaten:
        return "There is no clear difference"
    return f"{'The winner is' if len(beaten) == len(signs) else 'Nothing does better than'} {name_of(name)}"


def retrieval_verdict(name: str, differences: Mapping[str, Interval], judged: int) -> str:
    """One sentence on how often a row's partner is found first, from the intervals of the differences.

    Args:
        name: The representation the sentence is about.
        differences: By other representation, or chance, the share that ``name`` finds first minus that of the other.
        judged: How many pairs were judged.

    Example:
        >>> print(retrieval_verdict("h", {"cca": Interval(0.03, -0.01, 0.07), "chance": Interval(0.5, 0.4, 0.6)}, 360))
        Nothing does better than h: of 360 pairs, h finds a row's partner first more often than chance
        (+.500 [.400, .600]), and with no clear difference from cca (+.030 [-.010, .070]).
    """

    def cases(sign: int) -> list[str]:
        return [f"{name_of(other)} {_around(d)}" for other, d in differences.items() if d.sign == sign]

    claims = [
        _claim("more often", "than", cases(1)),
        _claim("more seldom", "than", cases(-1)),
        _claim("with no clear difference", "from", cases(0)),
    ]
    opening = _opening(name, {other: {"first": found} for other, found in differences.items()})
    who = f"of {count(judged, 'pair')}, {name_of(name)} finds a row's partner first"
    return f"{opening}: {who} {_said(claims)}."


def _said(claims: Sequence[str]) -> str:
    *first, last = filter(None, claims)
    return ", ".join([*first, f"and {last}"]) if first else last


def _around(difference: Interval) -> str:
    return f"({number(difference.value, sign=True)} [{number(difference.low)}, {number(difference.high)}])"
