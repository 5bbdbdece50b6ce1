"""Several representations of the same rows, judged alike and side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from vicreg._checks import check_choice, check_integer, require, shown
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
from vicreg.evaluation.results import Comparison, Measured
from vicreg.evaluation.scores import cluster_agreement, knn, linear_probe, silhouette_by_label
from vicreg.evaluation.splits import FEWEST_TO_FIT, Split, check_test, cross_validation, one_split

PROBES: dict[str, Callable[..., FloatArray]] = {"knn": knn, "linear": linear_probe}


class EmbeddingComparison(Comparison):
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
        seed = check_integer("random_state", random_state, 0, 2**32 - 1)
        matrices = _check_representations(representations)
        rows = len(next(iter(matrices.values())))
        labels = check_labels(labels, rows)
        kind: Task = infer_task(labels) if task == "auto" else task

        targets = _targets(labels, kind)
        groups = targets if kind == "classification" else np.zeros(rows, dtype=np.intp)
        rng = np.random.default_rng(seed)
        splits = cross_validation(groups, rng) if test is None else one_split(check_test(test, rows), groups, rng)
        require(len(splits) > 0, "rows", "be enough to hold some out", rows)
        self.judged: IntArray = np.sort(np.concatenate([split.test for split in splits]))
        judged = targets[self.judged]
        _check_splits(splits, groups, judged, kind)
        notes = _notes(rows, groups, splits, self.judged, kind)

        measured = {}
        for name, matrix in matrices.items():
            by_row = {metric: self._held_out(metric, matrix, targets, splits, kind) for metric in PROBES}
            whole = {}
            if kind == "classification":
                by_row["silhouette"] = silhouette_by_label(matrix[self.judged], judged, seed)
                whole = dict(zip(("ari", "nmi"), cluster_agreement(matrix[self.judged], judged, seed), strict=True))
            measured[name] = Measured(matrix.shape[1], by_row, whole)
        super().__init__(measured, judged, kind, list(PROBES), notes, seed)

    def _held_out(
        self, metric: str, matrix: FloatArray, targets: Any, splits: tuple[Split, ...], task: Task
    ) -> FloatArray:
        results = np.empty(len(self.judged))
        for train, test in ((split.train, split.test) for split in splits):
            # Conditioned together, or training and held-out rows would be moved apart.
            z = conditioned(matrix[np.append(train, test)])
            found = PROBES[metric](z[: len(train)], targets[train], z[len(train) :], targets[test], task=task)
            results[np.searchsorted(self.judged, test)] = found
        return results


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
