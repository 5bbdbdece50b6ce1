"""Scores of a frozen representation: pure functions of arrays, none of which knows where the numbers came from.

Distances are Euclidean in the representation as given. Columns of different units (raw tables) should be brought to a
common scale first, or distances say more about the units than about the rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.manifold import trustworthiness as sklearn_trustworthiness
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_samples
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, NearestNeighbors
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from vicreg._checks import check_integer, require
from vicreg.evaluation.inputs import (
    FloatArray,
    IntArray,
    Task,
    check_labels,
    check_representation,
    class_codes,
    conditioned,
)
from vicreg.evaluation.splits import cross_validation, some_of

MOST_SILHOUETTE_ROWS = 10_000
MOST_RANKED_ROWS = 3_000
INVERSE_PENALTIES = (1.0, 0.1, 10.0, 0.01)  # of equals, the first is taken
RIDGE_PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # per row
PROBE_STEPS = 300
CHUNK_MIB = 128


@dataclass(frozen=True)
class Score:
    """One number of the comparison.

    Attributes:
        representation: Its name.
        metric: ``"knn"``, ``"linear"`` (accuracy, or R2 of a regression), ``"silhouette"``, ``"ari"`` or ``"nmi"``;
            of a `ProbeComparison` ``"knn20"``, ``"knn200"``, ``"linear"`` or ``"top5"`` (accuracy).
        value: On the judged rows.
        low: Lower end of the 95 % interval; None for ARI and NMI, whose chance is in k-means as much as in rows.
        high: Upper end.
    """

    representation: str
    metric: str
    value: float
    low: float | None
    high: float | None


def silhouette_by_label(z: Any, labels: Any, random_state: int = 0) -> FloatArray:
    """Silhouette of each row with the labels as clusters (Rousseeuw 1987).

    ``(b - a) / max(a, b)`` with a the mean distance to the rows of the own class and b that to the rows of the
    nearest other class: 1 is far from all others, 0 on the border, below 0 among strangers. A row alone in its
    class counts 0. Above 10,000 rows a random 10,000 are taken, as the cost is quadratic; the same rows for the
    same ``random_state``, so values of two representations stay paired.

    Args:
        z: (n, k) representation.
        labels: (n,) classes, at least two.
        random_state: Seed of that draw.

    Returns:
        (min(n, 10000),), each within [-1, 1]; their mean is the usual score.

    Raises:
        ValueError: A single class, or shapes that do not fit.

    Example:
        >>> silhouette_by_label([[0.0], [1.0], [10.0], [11.0]], ["a", "a", "b", "b"]).round(2).tolist()
        [0.9, 0.89, 0.89, 0.9]
    """
    z, codes = _classes(z, labels)
    rows = some_of(np.arange(len(z)), MOST_SILHOUETTE_ROWS, np.random.default_rng(random_state))
    z, codes = z[rows], codes[rows]
    distinct = len(np.unique(codes))
    require(distinct > 1, "labels", "name at least two classes", distinct)
    if distinct == len(codes):
        return np.zeros(len(codes))
    with config_context(working_memory=CHUNK_MIB):
        values: FloatArray = silhouette_samples(z, codes)
    return values


def cluster_agreement(z: Any, labels: Any, random_state: int = 0) -> tuple[float, float]:
    """How well k-means, told only the number of classes, finds them again.

    Args:
        z: (n, k) representation.
        labels: (n,) classes.
        random_state: Seed of k-means (the best of ten starts).

    Returns:
        Adjusted Rand index (Hubert and Arabie 1985; 0 is chance, 1 the same partition) and normalised mutual
        information (arithmetic mean; 0 to 1, and above 0 by chance where classes are many).

    Example:
        >>> cluster_agreement([[0.0], [1.0], [10.0], [11.0]], ["a", "a", "b", "b"])
        (1.0, 1.0)
    """
    z, codes = _classes(z, labels)
    with _undisturbed(), threadpool_limits(1):
        found = KMeans(len(np.unique(codes)), n_init=10, random_state=random_state).fit_predict(z)
        return float(adjusted_rand_score(codes, found)), float(normalized_mutual_info_score(codes, found))


def knn(train: Any, train_labels: Any, test: Any, test_labels: Any, *, task: Task, n_neighbors: int = 5) -> FloatArray:
    """Row by row, what the nearest training rows say of held-out rows.

    Args:
        train: (n, k) representation of the training rows.
        train_labels: (n,).
        test: (m, k) representation of the held-out rows.
        test_labels: (m,).
        task: ``"classification"`` takes the majority of the neighbours, ``"regression"`` their mean.
        n_neighbors: How many are asked.

    Returns:
        (m,): 1.0 where right and 0.0 where wrong, or the squared error.

    Raises:
        ValueError: Fewer training rows than neighbours, or shapes that do not fit.

    Example:
        >>> rows = [[0.0], [1.0], [10.0], [11.0]]
        >>> knn(rows, [0, 0, 1, 1], [[0.4], [9.0]], [0, 0], task="classification", n_neighbors=2).tolist()
        [1.0, 0.0]
    """
    train, train_labels, test, test_labels = _probe_inputs(train, train_labels, test, test_labels)
    check_integer("n_neighbors", n_neighbors, 1)
    enough = len(train) >= n_neighbors
    require(enough, "the training rows", f"be at least the {n_neighbors} neighbours asked", len(train))
    if task == "classification":
        with _undisturbed():
            said = KNeighborsClassifier(n_neighbors).fit(train, train_labels).predict(test)
        return _right(said, test_labels)
    said = KNeighborsRegressor(n_neighbors).fit(train, train_labels).predict(test)
    return _squared(said - test_labels)


def linear_probe(
    train: Any, train_labels: Any, test: Any, test_labels: Any, *, task: Task, random_state: int = 0
) -> FloatArray:
    """Row by row, what a linear model on the frozen, standardised representation says of held-out rows.

    Classes: multinomial logistic regression, its inverse penalty C picked from .01, .1, 1, 10 on a quarter of the
    training rows. Numbers: ridge regression, its penalty picked by leave-one-out; its answers are kept within the range
    of the training labels (5-NN's never leave it), lest one row far out decides the score. Both penalties are picked
    on training rows alone: a fixed one would favour narrow representations over wide ones. Each logistic fit ends after
    300 steps at most; where it has not converged by then, that is a little more regularisation and no error.

    Args:
        train: (n, k) representation of the training rows.
        train_labels: (n,); at least two classes.
        test: (m, k) representation of the held-out rows.
        test_labels: (m,).
        task: ``"classification"`` or ``"regression"``.
        random_state: Seed of that quarter.

    Returns:
        (m,): 1.0 where right and 0.0 where wrong, or the squared error.

    Raises:
        ValueError: Training rows of one class only, or shapes that do not fit.

    Example:
        >>> rows = [[0.0], [1.0], [2.0], [3.0]]
        >>> linear_probe(rows, [0, 0, 1, 1], [[-1.0], [5.0]], [0, 0], task="classification").tolist()
        [1.0, 0.0]
    """
    train, train_labels, test, test_labels = _probe_inputs(train, train_labels, test, test_labels)
    scaler = StandardScaler().fit(train)
    train, test = scaler.transform(train), scaler.transform(test)
    if task == "regression":
        penalties = len(train) * np.array(RIDGE_PENALTIES)
        said = RidgeCV(penalties).fit(train, train_labels).predict(test)
        said = np.clip(said, train_labels.min(), train_labels.max())
        return _squared(said - test_labels)
    several = len(np.unique(train_labels)) > 1
    require(several, "the training rows", "have at least two classes", 1, "Hold other rows out.")
    c = _pick_inverse_penalty(train, train_labels, random_state)
    return _right(_logistic(train, train_labels, c).predict(test), test_labels)


def trustworthiness(x: Any, z: Any, n_neighbors: int = 10, random_state: int = 0) -> float:
    """Whether neighbours in the representation are neighbours in the data (Venna and Kaski 2001).

    Above 3,000 rows a random 3,000 are taken, as the cost is quadratic.

    Args:
        x: (n, p) data, on a common scale.
        z: (n, k) representation of the same rows.
        n_neighbors: Size of a neighbourhood, less than n / 2.
        random_state: Seed of that draw.

    Returns:
        Within [0, 1]; 1 if each row's neighbours in z are its neighbours in x, about .5 by chance.

    Raises:
        ValueError: Different numbers of rows, or too few for the neighbours.

    Example:
        >>> trustworthiness([[0.0], [1.0], [3.0], [7.0]], [[0.0], [2.0], [6.0], [14.0]], n_neighbors=1)
        1.0
    """
    x, z = _ranked({"x": x, "z": z}, n_neighbors, random_state)
    return float(sklearn_trustworthiness(x, z, n_neighbors=n_neighbors))


def stability(z: Any, other: Any, n_neighbors: int = 10, random_state: int = 0) -> float:
    """How far two representations of the same rows, of two seeds say, agree on who is near whom.

    The mean share of the nearest neighbours in the one that are so in the other as well, corrected for chance:
    (share - c) / (1 - c) with c = n_neighbors / (n - 1). Blind to rotations, shifts and scale, in which two seeds
    always differ. Above 3,000 rows a random 3,000 are taken and neighbours sought among these.

    Args:
        z: (n, k) representation.
        other: (n, k') representation of the same rows.
        n_neighbors: Size of a neighbourhood, less than n / 2.
        random_state: Seed of that draw.

    Returns:
        1 if all neighbourhoods are the same, about 0 by chance.

    Raises:
        ValueError: Different numbers of rows, or too few for the neighbours.

    Example:
        >>> stability([[0.0], [1.0], [3.0], [7.0]], [[0.0], [-2.0], [-6.0], [-14.0]], n_neighbors=1)
        1.0
    """
    z, other = _ranked({"z": z, "other": other}, n_neighbors, random_state)
    near, near_other = (
        NearestNeighbors(n_neighbors=n_neighbors).fit(points).kneighbors(return_distance=False) for points in (z, other)
    )
    share = float((near[:, :, None] == near_other[:, None, :]).any(2).mean())
    chance = n_neighbors / (len(z) - 1)
    return (share - chance) / (1 - chance)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Without scikit-learn's word on what is no fault here.

    A probe that stopped at its last step, k-means on fewer distinct rows than classes, and classes so many that
    they could be numbers: the task is settled by then.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "The number of unique classes is greater", UserWarning)
        yield


def _right(said: NDArray[Any], labels: NDArray[Any]) -> FloatArray:
    right: FloatArray = (said == labels).astype(np.float64)
    return right


def _squared(errors: FloatArray) -> FloatArray:
    squares: FloatArray = errors**2
    return squares


def _classes(z: Any, labels: Any) -> tuple[FloatArray, IntArray]:
    matrix = check_representation("z", z)
    return conditioned(matrix), class_codes(check_labels(labels, len(matrix)))


def _probe_inputs(train: Any, train_labels: Any, test: Any, test_labels: Any) -> tuple[Any, Any, Any, Any]:
    train, test = check_representation("train", train), check_representation("test", test)
    require(train.shape[1] == test.shape[1], "test", f"have {train.shape[1]} columns, as train has", test.shape[1])
    return train, check_labels(train_labels, len(train)), test, check_labels(test_labels, len(test))


def _ranked(points: Mapping[str, Any], n_neighbors: int, random_state: int) -> list[FloatArray]:
    """Representations of the same rows, checked, and the rows drawn where there are very many."""
    matrices = {name: check_representation(name, values) for name, values in points.items()}
    counts = {name: len(matrix) for name, matrix in matrices.items()}
    require(len(set(counts.values())) == 1, " and ".join(counts), "have the same rows", tuple(counts.values()))
    n = next(iter(counts.values()))
    check_integer("n_neighbors", n_neighbors, 1)
    fix = "Ask for fewer neighbours."
    require(n > 2 * n_neighbors, "rows", f"be more than twice the {n_neighbors} neighbours", n, fix)
    rows = some_of(np.arange(n), MOST_RANKED_ROWS, np.random.default_rng(random_state))
    return [conditioned(matrix[rows]) for matrix in matrices.values()]


def _pick_inverse_penalty(train: FloatArray, labels: Any, random_state: int) -> float:
    """The C that is right most often on a quarter of the rows."""
    quarters = cross_validation(class_codes(labels), np.random.default_rng(random_state), folds=4)
    if not quarters:  # each row is alone in its class
        return 1.0
    fit, judge = quarters[0].train, quarters[0].test
    right = [
        _right(_logistic(train[fit], labels[fit], c).predict(train[judge]), labels[judge]).mean()
        for c in INVERSE_PENALTIES
    ]
    return INVERSE_PENALTIES[int(np.argmax(right))]


def _logistic(rows: FloatArray, labels: Any, c: float) -> LogisticRegression:
    # Steps of less than a millisecond: more threads mostly wait for one another, which on a busy machine of two cores
    # made the whole comparison ten times slower.
    with _undisturbed(), threadpool_limits(1):
        return LogisticRegression(C=c, max_iter=PROBE_STEPS).fit(rows, labels)
