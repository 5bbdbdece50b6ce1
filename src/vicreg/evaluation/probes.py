"""Representations of large labelled sets, judged as papers on images judge them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vicreg._checks import check_integer, require, shown
from vicreg.evaluation import words
from vicreg.evaluation.inputs import FloatArray, IntArray, as_features, check_labels, class_codes
from vicreg.evaluation.linear import EPOCHS, LinearProbe, among_first, probe_features
from vicreg.evaluation.results import Comparison, Measured
from vicreg.evaluation.weighted import NEIGHBORS, weighted_knn

TOP = 5


class ProbeComparison(Comparison):
    """Judge representations of a training and a test set by their classes, with the probes of papers on images.

    Each is asked by weighted nearest neighbours, k = 20 and, of 400 training rows and more, 200
    (`vicreg.evaluation.weighted`), and by a linear probe under stochastic gradient descent (`vicreg.evaluation.linear`;
    top-1, and top-5 where there are more than five classes). Both see all training rows, choose whatever they choose on
    these, and are judged on all test rows, once. Intervals and differences are those of `EmbeddingComparison`, which is
    for tables: cross-validation, numbers to predict, clusters, Euclidean neighbours, and 20,000 rows to fit on at most.

    Features stay in the type and on the device they come in (float16, and uint8 for raw pixels); beyond them memory is
    that of a few blocks. 60,000 rows of 512 numbers in 10 classes take some 35 seconds per representation on one thread
    of a CPU.

    Args:
        representations: Name to the pair (training features (n, k), test features (m, k)); tensors or arrays.
        train_labels: (n,) classes: texts, booleans or whole numbers, however many.
        test_labels: (m,) classes of the same kind.
        epochs: Of the linear probe; more where rows are few.
        random_state: Seed of the probe and of resampling.

    Attributes:
        classes: How many there are.

    Raises:
        TypeError: Names that are no texts, values that are no numbers, labels of another kind in the test set.
        ValueError: Shapes that do not fit, labels that are no classes, fewer than 20 training rows.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> x, y = load_digits(return_X_y=True)
        >>> sets = {"pixels": (x[:200], x[200:400]), "one pixel": (x[:200, 20:21], x[200:400, 20:21])}
        >>> comparison = ProbeComparison(sets, y[:200], y[200:400])
        >>> print(comparison.verdict("pixels"))
        The winner is pixels: with 64 numbers per row, pixels predicts the labels of 200 held-out rows better than
        one pixel (1) by weighted 20-NN (+...) and by the linear probe (+...).
    """

    def __init__(
        self,
        representations: Mapping[str, tuple[Any, Any]],
        train_labels: Any,
        test_labels: Any,
        *,
        epochs: int = EPOCHS,
        random_state: int = 0,
    ) -> None:
        seed = check_integer("random_state", random_state, 0, 2**32 - 1)
        check_integer("epochs", epochs, 1)
        pairs = _check_pairs(representations)
        rows, judged = (len(part) for part in next(iter(pairs.values())))
        train, test = both_codes(train_labels, test_labels, rows, judged)
        self.classes = int(max(train.max(), test.max())) + 1
        _check_enough(train, test)
        measured = {
            name: self._measured(features, train, held_out, test, epochs, seed)
            for name, (features, held_out) in pairs.items()
        }
        probes = [f"knn{NEIGHBORS[0]}", "linear"]
        super().__init__(measured, test, "classification", probes, _notes(train, test, self.classes), seed)

    def _measured(
        self, features: Tensor, train: IntArray, held_out: Tensor, test: IntArray, epochs: int, seed: int
    ) -> Measured:
        neighbors = [k for k in NEIGHBORS if k == NEIGHBORS[0] or 2 * k <= len(train)]  # most of all are no neighbours
        said = weighted_knn(features, train, held_out, self.classes, neighbors)
        by_row = {f"knn{k}": (found.cpu().numpy() == test).astype(np.float64) for k, found in said.items()}
        probe = probe_features(features, train, self.classes, epochs=epochs, seed=seed)
        return Measured(features.shape[1], by_row | linear_by_row(probe, held_out, test), {})


def linear_by_row(probe: LinearProbe, features: Any, codes: IntArray) -> dict[str, FloatArray]:
    """Row by row, whether a trained probe is right: its first answer, and its first five if there are more classes.

    Args:
        probe: Trained on other rows.
        features: (m, k).
        codes: (m,) classes numbered from 0.

    Returns:
        ``"linear"`` and, with more than five classes, ``"top5"``: (m,) of 1 where right and 0 where wrong.
    """
    logits = probe.logits(features)
    tops = {"linear": 1} | ({"top5": TOP} if logits.shape[1] > TOP else {})
    return {name: among_first(logits, codes, top).cpu().numpy().astype(np.float64) for name, top in tops.items()}


def both_codes(train_labels: Any, test_labels: Any, rows: int, judged: int) -> tuple[IntArray, IntArray]:
    """Classes of a training and a test set, numbered alike from 0.

    Args:
        train_labels: (rows,) texts, booleans or whole numbers.
        test_labels: (judged,) of the same kind.
        rows: Of the training set.
        judged: Of the test set.

    Raises:
        TypeError: The labels of one are texts and those of the other are numbers.
        ValueError: Numbers with fractions, which are amounts and no classes; or shapes that do not fit.

    Example:
        >>> both_codes(["cat", "dog"], ["dog", "cow"], 2, 2)
        (array([0, 2]), array([2, 1]))
    """
    train, test = _check_classes("train", train_labels, rows), _check_classes("test", test_labels, judged)
    kinds = [("numbers" if part.dtype.kind in "biuf" else "texts") for part in (train, test)]
    fix = "Name the classes of both sets alike."
    require(kinds[0] == kinds[1], "test labels", f"be {kinds[0]}, as train labels are", kinds[1], fix, TypeError)
    codes = class_codes(np.concatenate([train, test]))
    return codes[:rows], codes[rows:]


def _check_classes(name: str, labels: Any, rows: int) -> NDArray[Any]:
    """Labels of one set. Whole numbers are classes, however many: CIFAR-100's and ImageNet's are."""
    array = check_labels(labels, rows)
    if array.dtype.kind == "f":
        amounts = array[array != np.floor(array)]
        fix = "Numbers to predict are judged by EmbeddingComparison."
        got = f"{amounts[0]:g} among them" if amounts.size else ""
        require(amounts.size == 0, f"{name} labels", "be classes: texts or whole numbers", got, fix)
    return array


def _check_pairs(representations: Mapping[str, tuple[Any, Any]]) -> dict[str, tuple[Tensor, Tensor]]:
    mapping = isinstance(representations, Mapping)
    got = f"a {type(representations).__name__}"
    require(mapping, "representations", "be a mapping of names to pairs", got, error=TypeError)
    require(len(representations) > 0, "representations", "hold at least one", "none")
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    for name, pair in representations.items():
        require(isinstance(name, str), "names of representations", "be texts", shown(name), error=TypeError)
        what = f"representation {shown(name)}"
        two = isinstance(pair, (tuple, list)) and len(pair) == 2
        got = f"a {type(pair).__name__}"
        require(two, what, "be a pair (training features, test features)", got, error=TypeError)
        train, test = (
            as_features(f"{part} rows of {what}", rows) for part, rows in zip(("train", "test"), pair, strict=True)
        )
        require(train.shape[1] == test.shape[1], what, "have one width", f"{train.shape[1]} and {test.shape[1]}")
        pairs[name] = train, test
    counts = {(len(train), len(test)) for train, test in pairs.values()}
    got = ", ".join(f"{shown(name)}: {len(train)} and {len(test)}" for name, (train, test) in list(pairs.items())[:5])
    require(len(counts) == 1, "representations", "have the same rows", got)
    return pairs


def _check_enough(train: IntArray, test: IntArray) -> None:
    fewest = NEIGHBORS[0]
    rule = f"be at least the {fewest} neighbours asked"
    require(len(train) >= fewest, "training rows", rule, len(train), "Label more rows.")
    for name, codes in (("train", train), ("test", test)):
        distinct = len(np.unique(codes))
        require(distinct > 1, f"{name} labels", "have at least two classes", distinct)


def _notes(train: IntArray, test: IntArray, classes: int) -> tuple[str, ...]:
    held, fitted = words.count(len(test), "held-out row"), words.count(len(train), "other row")
    notes = [
        f"Judged on {held}, probes fitted on {fitted}; {classes} classes. In brackets: 95 % bootstrap interval over "
        "the judged rows.",
        f"Always guessing the commonest class: {words.number(np.bincount(test).max() / len(test))}.",
    ]
    strangers = int((~np.isin(test, train)).sum())
    if strangers:
        many = words.count(strangers, "held-out row")
        notes.append(f"{many} of classes that no other row has: no probe can get them right.")
    return tuple(notes)
