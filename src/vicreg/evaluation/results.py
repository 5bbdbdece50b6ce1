"""What judging found, to be asked for intervals, differences, tables and a verdict, however it was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vicreg._checks import listed, require, shown
from vicreg.evaluation import words
from vicreg.evaluation.inputs import FloatArray, Task
from vicreg.evaluation.resampling import (
    Interval,
    accuracy_difference,
    accuracy_interval,
    mean_interval,
    r2_difference,
    r2_interval,
)
from vicreg.evaluation.scores import Score


@dataclass(frozen=True, eq=False)
class Measured:
    """One representation, judged.

    Attributes:
        width: Numbers per row.
        by_row: By metric, one number for each judged row: all that intervals and differences need.
        whole: By metric, scores that are no mean over rows and so come without an interval.
    """

    width: int
    by_row: Mapping[str, FloatArray]
    whole: Mapping[str, float]


class Comparison:
    """Several representations judged on the same rows. `EmbeddingComparison` and `ProbeComparison` make one.

    Args:
        measured: By name of the representation, in the order in which they are shown.
        targets: (m,) class or number of each judged row.
        task: What the labels were taken for.
        probes: The metrics that a verdict speaks of.
        notes: What a reader should know about the rows, one sentence each.
        seed: Of all resampling.

    Attributes:
        task: What the labels were taken for.
        widths: Numbers per row of each representation, by name.
        scores: All scores, representation by representation.
        notes: What a reader should know about the rows, one sentence each.
    """

    def __init__(
        self,
        measured: Mapping[str, Measured],
        targets: Any,
        task: Task,
        probes: Sequence[str],
        notes: tuple[str, ...],
        seed: int,
    ) -> None:
        self.task: Task = task
        self.notes = notes
        self.widths = {name: found.width for name, found in measured.items()}
        self._by_row = {name: found.by_row for name, found in measured.items()}
        self._targets, self._probes, self._seed = targets, tuple(probes), seed
        scores: list[Score] = []
        for name, found in measured.items():
            for metric, values in found.by_row.items():
                interval = self._interval(metric, values)
                scores.append(Score(name, metric, interval.value, interval.low, interval.high))
            scores += [Score(name, metric, value, None, None) for metric, value in found.whole.items()]
        self.scores = tuple(scores)

    def _interval(self, metric: str, values: FloatArray) -> Interval:
        if metric == "silhouette":
            return mean_interval(values, self._seed)
        if self.task == "regression":
            return r2_interval(self._targets, values, self._seed)
        return accuracy_interval(values, self._seed)

    def differences(self, name: str, other: str) -> dict[str, Interval]:
        """How much higher the one scores than the other on the same rows, with the interval of that difference.

        Args:
            name: A representation.
            other: Another.

        Returns:
            By metric (for rows: ``"knn"``, ``"linear"``, ...; see `Score`), the first's score minus the other's.

        Raises:
            ValueError: A name that is not in the comparison.
        """
        first, second = self._by_row[self._known(name)], self._by_row[self._known(other)]
        return {metric: self._difference(metric, first[metric], second[metric]) for metric in first}

    def _difference(self, metric: str, values: FloatArray, other: FloatArray) -> Interval:
        if metric == "silhouette":
            return mean_interval(values - other, self._seed)
        if self.task == "regression":
            return r2_difference(self._targets, values, other, self._seed)
        return accuracy_difference(values, other, self._seed)

    def rows(self) -> list[dict[str, Any]]:
        """The scores as plain rows, for a CSV file or a data frame.

        Returns:
            One dict per score: representation, width, task, metric, value, low, high, rows (judged).
        """
        return [
            {
                "representation": score.representation,
                "width": self.widths[score.representation],
                "task": self.task,
                "metric": score.metric,
                "value": score.value,
                "low": score.low,
                "high": score.high,
                "rows": len(self._targets),
            }
            for score in self.scores
        ]

    def summary(self) -> str:
        """The scores as a table of plain text: a row per representation, a column per metric, and the notes."""
        table = words.score_table(self.scores, self.widths, self.task)
        return "\n".join([table, "", *self.notes])

    def verdict(self, name: str, against: Sequence[str] | None = None) -> str:
        """What the numbers mean for one representation, in one sentence.

        A difference counts if its interval leaves out 0, to the three decimals shown; losses are named like wins.
        Where no representation clearly beats guessing the commonest class, or the mean, there is no winner. Each
        interval is one of 95 % by itself: of many comparisons of equals, one in twenty shows a difference.

        Args:
            name: The representation the sentence is about.
            against: The others to compare it with; by default all.

        Returns:
            The sentence.

        Raises:
            ValueError: An unknown name, or nothing to compare with.
        """
        self._known(name)
        others = [other for other in self.widths if other != name] if against is None else list(against)
        require(len(others) > 0, "against", "name another representation", "none")
        require(name not in others, "against", "name other representations", shown(name))
        by_probe = {
            other: {
                metric: interval for metric, interval in self.differences(name, other).items() if metric in self._probes
            }
            for other in others
        }
        guess = "" if self._beats_guessing([name, *others]) else self._guess
        return words.verdict(name, by_probe, self.widths, self.task, len(self._targets), guess)

    @property
    def _guess(self) -> str:
        """The best answer that looks at no representation, in words."""
        return "guessing the commonest class" if self.task == "classification" else "guessing the mean"

    def _beats_guessing(self, names: Sequence[str]) -> bool:
        """Whether a probe on one of the representations clearly does better than the best guess."""
        if self.task == "regression":
            return any(score.representation in names and (score.low or 0) > 0 for score in self.scores)
        guessed = (self._targets == np.bincount(self._targets).argmax()).astype(np.float64)
        rows = (self._by_row[name][probe] for name in names for probe in self._probes)
        return any(accuracy_difference(values, guessed, self._seed).sign > 0 for values in rows)

    def _known(self, name: str) -> str:
        require(name in self.widths, "name", f"be one of {listed(self.widths, 20)}", shown(name))
        return name

    def __repr__(self) -> str:
        return self.summary()
