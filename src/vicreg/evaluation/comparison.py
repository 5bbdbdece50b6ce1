"""Several representations of the same rows, judged alike and side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from vicreg._checks import check_choice, check_integer, listed, require, shown
from vicreg.evaluation import words
from vicreg.evaluation.inputs import (
    FloatArray,
    IntArray,
    Task,
    check_labels,
    check_representation,
    class_codes,
    conditioned,
    infer_task,
)
from vicreg.evaluation.resampling import (
    Interval,
    accuracy_difference,
    accuracy_interval,
    mean_interval,
    r2_difference,
    r2_interval,
)
from vicreg.evaluation.scores import Score, cluster_agreement, knn, linear_probe, silhouette_by_label
from vicreg.evaluation.splits import FEWEST_TO_FIT, Split, check_test, cross_validation, one_split

PROBES: dict[str, Callable[..., FloatArray]] = {"knn": knn, "linear": linear_probe}


class EmbeddingComparison:
    """Judge representations of the same rows by their labels, on rows that no probe was fitted on.

    Each is asked by 5 nearest neighbours and by a linear probe for the labels of held-out rows (accuracy, or R2 for
    numbers), and, where labels are classes, how well it separates them (silhouette) and whether k-means finds them
    (ARI, NMI). All take the same rows, so differences are paired. Intervals are 95 %, over held-out rows
    (`vicreg.evaluation.resampling`).

    Distances are taken in the representations as they are: bring raw columns of different units to a common scale
    first, or the comparison flatters whatever stands beside them. If the representations were themselves fitted on
    the rows judged here, give the rows that were held out of that fit as ``test``.

    A row that is alone in its class trains the probes and is not judged in cross-validation. With very many rows,
    20,000 to fit on and 10,000 to judge on (10,000 in all in cross-validation) are drawn at random; the summary says
    so.

    Args:
        representations: Name to (n, k) array; shown in this order.
        labels: (n,) classes (texts, booleans, whole numbers) or numbers to predict.
        test: Held-out rows, as a mask (n,) or as row numbers: probes are fitted on the others and every score is
            taken on these. None: 5-fold cross-validation, stratified by class, over all rows.
        task: ``"classification"``, ``"regression"``, or ``"auto"`` (see `infer_task`).
        random_state: Seed of folds, k-means, resampling and of all drawing of rows.

    Attributes:
        task: What the labels were taken for.
        widths: Numbers per row of each representation, by name.
        judged: (m,) numbers of the judged rows, ascending.
        scores: All scores, representation by representation.
        notes: What a reader should know about the rows, one sentence each.

    Raises:
        TypeError: Names that are no texts, or values that are no numbers.
        ValueError: Representations and labels that do not fit, labels without two classes, too few rows.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> rows, species = load_iris(return_X_y=True)
        >>> comparison = EmbeddingComparison({"all": rows, "sepal width": rows[:, 1:2]}, species)
        >>> print(comparison.verdict("sepal width"))
        all does better: with 1 number per row, sepal width predicts the labels of 150 held-out rows worse than
        all (4) by 5-NN (-.480 [...]) and by the linear probe (-.4...).
    """

    def __init__(
        self,
        representations: Mapping[str, Any],
        labels: Any,
        *,
        test: Any = None,
        task: Literal["auto", "classification", "regression"] = "auto",
        random_state: int = 0,
    ) -> None:
        check_choice("task", task, ("auto", "classification", "regression"))
        self._seed = check_integer("random_state", random_state, 0, 2**32 - 1)
        matrices = _check_representations(representations)
        rows = len(next(iter(matrices.values())))
        labels = check_labels(labels, rows)
        self.task: Task = infer_task(labels) if task == "auto" else task
        self.widths = {name: matrix.shape[1] for name, matrix in matrices.items()}

        targets = _targets(labels, self.task)
        groups = targets if self.task == "classification" else np.zeros(rows, dtype=np.intp)
        rng = np.random.default_rng(self._seed)
        splits = cross_validation(groups, rng) if test is None else one_split(check_test(test, rows), groups, rng)
        require(len(splits) > 0, "rows", "be enough to hold some out", rows)
        self.judged: IntArray = np.sort(np.concatenate([split.test for split in splits]))
        self._targets = targets[self.judged]
        _check_splits(splits, groups, self._targets, self.task)
        self.notes = _notes(rows, groups, splits, self.judged, self.task)

        # Per representation and metric, one number for each judged row: all that intervals and differences need.
        self._by_row: dict[str, dict[str, FloatArray]] = {}
        scores: list[Score] = []
        for name, matrix in matrices.items():
            self._by_row[name] = {metric: self._held_out(metric, matrix, targets, splits) for metric in PROBES}
            if self.task == "classification":
                judged = matrix[self.judged]
                self._by_row[name]["silhouette"] = silhouette_by_label(judged, self._targets, self._seed)
            for metric, values in self._by_row[name].items():
                interval = self._interval(metric, values)
                scores.append(Score(name, metric, interval.value, interval.low, interval.high))
            if self.task == "classification":
                ari, nmi = cluster_agreement(judged, self._targets, self._seed)
                scores += [Score(name, "ari", ari, None, None), Score(name, "nmi", nmi, None, None)]
        self.scores = tuple(scores)

    def _held_out(self, metric: str, matrix: FloatArray, targets: Any, splits: tuple[Split, ...]) -> FloatArray:
        results = np.empty(len(self.judged))
        for train, test in ((split.train, split.test) for split in splits):
            # Conditioned together, or training and held-out rows would be moved apart.
            z = conditioned(matrix[np.append(train, test)])
            found = PROBES[metric](z[: len(train)], targets[train], z[len(train) :], targets[test], task=self.task)
            results[np.searchsorted(self.judged, test)] = found
        return results

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
            By metric (``"knn"``, ``"linear"``, and for classes ``"silhouette"``), the first's score minus the other's.

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
                "rows": len(self.judged),
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
            other: {metric: interval for metric, interval in self.differences(name, other).items() if metric in PROBES}
            for other in others
        }
        guess = "" if self._beats_guessing([name, *others]) else self._guess
        return words.verdict(name, by_probe, self.widths, self.task, len(self.judged), guess)

    @property
    def _guess(self) -> str:
        """The best answer that looks at no representation, in words."""
        return "guessing the commonest class" if self.task == "classification" else "guessing the mean"

    def _beats_guessing(self, names: Sequence[str]) -> bool:
        """Whether a probe on one of the representations clearly does better than the best guess."""
        if self.task == "regression":
            return any(score.representation in names and (score.low or 0) > 0 for score in self.scores)
        guessed = (self._targets == np.bincount(self._targets).argmax()).astype(np.float64)
        rows = (self._by_row[name][probe] for name in names for probe in PROBES)
        return any(accuracy_difference(values, guessed, self._seed).sign > 0 for values in rows)

    def _known(self, name: str) -> str:
        require(name in self.widths, "name", f"be one of {listed(self.widths, 20)}", shown(name))
        return name

    def __repr__(self) -> str:
        return self.summary()


def _check_representations(representations: Mapping[str, Any]) -> dict[str, FloatArray]:
    mapping = isinstance(representations, Mapping)
    got = f"a {type(representations).__name__}"
    require(mapping, "representations", "be a mapping of names to arrays", got, error=TypeError)
    require(len(representations) > 0, "representations", "hold at least one", "none")
    matrices: dict[str, FloatArray] = {}
    for name, values in representations.items():
        require(isinstance(name, str), "names of representations", "be texts", shown(name), error=TypeError)
        matrices[name] = check_representation(f"representation {shown(name)}", values)
    counts = {len(matrix) for matrix in matrices.values()}
    got = ", ".join(f"{shown(name)}: {len(matrix)}" for name, matrix in list(matrices.items())[:5])
    require(len(counts) == 1, "representations", "have the same rows", got)
    return matrices


def _targets(labels: Any, task: Task) -> Any:
    """Class codes, or numbers centred and scaled, which no R2 sees and squares of huge numbers need."""
    if task == "classification":
        codes = class_codes(labels)
        fix = "There is nothing to tell apart; if these are numbers to predict, say task='regression'."
        shared = int((np.bincount(codes) > 1).sum())
        require(shared > 1, "labels", "have two classes with at least two rows each", f"{shared} such", fix)
        return codes
    numeric = labels.dtype.kind in "biuf"
    require(numeric, "labels of a regression", "be numbers", f"{shown(labels[0])} among them", error=TypeError)
    return conditioned(labels.astype(np.float64)[:, None])[:, 0]


def _check_splits(splits: tuple[Split, ...], groups: IntArray, targets: Any, task: Task) -> None:
    fewest = min(len(split.train) for split in splits)
    rule = f"be at least the {FEWEST_TO_FIT} neighbours asked"
    require(fewest >= FEWEST_TO_FIT, "rows to fit the probes on", rule, fewest, "Add rows.")
    distinct = len(np.unique(targets))
    what = "classes" if task == "classification" else "values"
    require(distinct > 1, "labels of the held-out rows", f"have at least two {what}", distinct, "Hold other rows out.")
    if task == "classification":
        known = min(len(np.unique(groups[split.train])) for split in splits)
        fix = "Hold fewer rows out."
        require(known > 1, "labels of the rows to fit the probes on", "have at least two classes", known, fix)


def _notes(rows: int, groups: IntArray, splits: tuple[Split, ...], judged: IntArray, task: Task) -> tuple[str, ...]:
    """What was judged on what, and whatever about that may surprise."""
    kinds = f"{groups.max() + 1} classes" if task == "classification" else "a number to predict"
    if len(splits) > 1:
        how = f"by {len(splits)}-fold cross-validation over {words.count(len(judged), 'row')}"
    else:
        fitted = words.count(len(splits[0].train), "other row")
        how = f"on {words.count(len(judged), 'held-out row')}, probes fitted on {fitted}"
    notes = [f"Judged {how}; {kinds}. In brackets: 95 % bootstrap interval over the judged rows."]
    taken = len(np.unique(np.concatenate([part for split in splits for part in (split.train, split.test)])))
    if taken < rows:
        notes.append(f"{taken:,} of the {rows:,} rows were drawn at random for it.")
    if task == "regression":
        return tuple(notes)
    commonest = np.bincount(groups[judged]).max() / len(judged)
    notes.append(f"Always guessing the commonest class: {words.number(commonest)}.")
    if len(splits) > 1:
        alone = taken - len(judged)
        if alone:
            verb = "is alone in its class: it was" if alone == 1 else "are alone in their classes: they were"
            notes.append(f"{words.count(alone, 'row')} {verb} fitted on, not judged.")
    else:
        strangers = int((~np.isin(groups[judged], groups[splits[0].train])).sum())
        if strangers:
            many = words.count(strangers, "held-out row")
            notes.append(f"{many} of classes that no other row has: no probe can get them right.")
    return tuple(notes)
