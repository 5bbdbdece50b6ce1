"""What the study of scores says: how each score ranks configurations, and what the one that it picks is worth."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from branches_store import Row
from scipy.stats import spearmanr

from vicreg.tuning.scores import MIXTURE

PROBES = ("linear", "knn")
LABELLED = ("linear", "knn", "both", "silhouette")
"""What one chooses by with labels, on the rows that are chosen on; both is the mean of the two probes."""
BY_WIDTH = ("rankme", "lidar")
"""Scores between 1 and the width of the representation."""
RESAMPLES = 10_000


@dataclass(frozen=True, eq=False)
class Problem:
    """A data set's finished configurations, the default first.

    Attributes:
        name: The data set's.
        scores: By name, (configurations,); those with labels are named "labels: ...".
        tests: (configurations, 2) accuracy of both probes on rows that nothing is chosen on.
        collapsed: (configurations,) whether the monitor named a collapse.
    """

    name: str
    scores: dict[str, np.ndarray]
    tests: np.ndarray
    collapsed: np.ndarray

    @property
    def judged(self) -> np.ndarray:
        """(configurations,) the mean of both probes."""
        return self.tests.mean(1)


def problems(rows: Iterable[Row], sets: Sequence[str], collapses: Sequence[str]) -> list[Problem]:
    """The data sets of which there is the default and something to compare it with."""
    found = []
    for name in sets:
        mine = [row for row in rows if row["key"]["set"] == name and "scores" in row]
        mine.sort(key=lambda row: row["key"]["configuration"])
        if len(mine) < 3 or mine[0]["key"]["configuration"] != 0:
            continue
        scores = {one: column(mine, lambda row, one=one: row["scores"][one]) for one in mine[0]["scores"]}
        scores["mixture"] = smallest_gain(scores, MIXTURE)
        scores["the loss"] = -column(mine, lambda row: row["loss"])
        for one in ("linear", "knn", "silhouette"):
            scores[f"labels: {one}"] = column(mine, lambda row, one=one: row["labelled"][one])
        scores["labels: both"] = (scores["labels: linear"] + scores["labels: knn"]) / 2
        tests = np.array([[row["test"][probe] for probe in PROBES] for row in mine])
        collapsed = np.array([bool(set(row["findings"]) & set(collapses)) for row in mine])
        found.append(Problem(name, scores, tests, collapsed))
    return found


def smallest_gain(scores: Mapping[str, np.ndarray], by: Mapping[str, float]) -> np.ndarray:
    """The smallest of some scores' gains over the default, each in units of its spread."""
    return np.min([(scores[name] - scores[name][0]) / (by[name] or 1) for name in by], axis=0)


def column(rows: Sequence[Row], get: Callable[[Row], float]) -> np.ndarray:
    """What cannot be told is the worst."""
    values = np.array([get(row) for row in rows], float)
    return np.where(np.isfinite(values), values, -np.inf)


def correlations(problem: Problem, score: str) -> np.ndarray:
    """Spearman's, with both probes; 0 where a score does not tell configurations apart."""
    values = problem.scores[score]
    if len(set(values.tolist())) < 2:
        return np.zeros(2)
    return np.array([spearmanr(values, problem.tests[:, k]).statistic for k in range(2)])


def picked(problem: Problem, score: str) -> int:
    """The configuration with the best score; of equals the first. The monitor's collapses are left out."""
    values = np.where(problem.collapsed, -np.inf, problem.scores[score])
    return int(np.argmax(values))


def gain(problem: Problem, score: str) -> float:
    """What picking by a score adds to the default's accuracy, mean of both probes."""
    return float(problem.judged[picked(problem, score)] - problem.judged[0])


def share(every: Sequence[Problem], score: str, against: str = "labels: both") -> float:
    """The mean gain of a score over that of labels."""
    labels = np.mean([gain(one, against) for one in every])
    return float(np.mean([gain(one, score) for one in every]) / labels) if labels > 0 else float("nan")


def share_interval(every: Sequence[Problem], score: str, level: float = 0.95) -> tuple[float, float]:
    """Bootstrap interval of the share over data sets; draws in which labels gain nothing are left out."""
    mine = np.array([gain(one, score) for one in every])
    labels = np.array([gain(one, "labels: both") for one in every])
    draws = np.random.default_rng(0).integers(len(every), size=(RESAMPLES, len(every)))
    below = labels[draws].mean(1)
    shares = mine[draws].mean(1)[below > 0] / below[below > 0]
    return tuple(np.quantile(shares, [(1 - level) / 2, (1 + level) / 2]).tolist())


def scales(every: Sequence[Problem], names: Iterable[str]) -> dict[str, float]:
    """Median over data sets of a score's standard deviation over configurations."""
    return {name: float(np.median([finite(one.scores[name]).std() for one in every])) for name in names}


def finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


def with_mixtures(every: Sequence[Problem], names: Sequence[str], by: Mapping[str, float]) -> list[str]:
    """Add the mean and the smallest gain of every two scores, and of all, to the data sets' scores; their names."""
    several = {" and ".join(pair): pair for pair in combinations(names, 2)} | {"all": tuple(names)}
    for problem in every:
        for name, parts in several.items():
            gains = [(problem.scores[one] - problem.scores[one][0]) / (by[one] or 1) for one in parts]
            problem.scores[f"mean of {name}"] = np.mean(gains, axis=0)
            problem.scores[f"smallest of {name}"] = np.min(gains, axis=0)
    return [f"{how} of {name}" for how in ("mean", "smallest") for name in several]


def drawn_after(problem: Problem, first: int) -> Problem:
    """The default, and the configurations from a number on."""
    kept = np.array([0, *range(first, len(problem.tests))])
    scores = {name: values[kept] for name, values in problem.scores.items()}
    return Problem(problem.name, scores, problem.tests[kept], problem.collapsed[kept])


def halves(every: Sequence[Problem]) -> tuple[list[Problem], list[Problem]]:
    """The data sets by turns."""
    return list(every[::2]), list(every[1::2])


def best_on(every: Sequence[Problem], names: Iterable[str]) -> str:
    """The score whose picks gain most."""
    return max(names, key=lambda name: np.mean([gain(one, name) for one in every]))
