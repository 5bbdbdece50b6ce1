"""What a trial is judged by: numbers of which more is better, and which do not know the weights that are searched.

Label-free scores look at the representation of rows that the fit did not see. Scores with labels ask probes on the rows
that it did see, and judge them on the others.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV
from sklearn.metrics import get_scorer, get_scorer_names
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from vicreg._checks import listed, message, require, shown
from vicreg.evaluation import knn, linear_probe, silhouette_by_label, stability, trustworthiness
from vicreg.evaluation.inputs import FloatArray
from vicreg.functional.spectrum import alpha_req, lidar, rankme
from vicreg.tuning.space import near
from vicreg.tuning.tried import AnotherFit, Tried

NEIGHBORS = 10
VIEWS = 10
"""Views of each row for LiDAR: those of the settings that the search starts from, the same for every trial."""
MOST_ROWS = 1000
"""Of which ranks are taken, lest they take longer than a fit."""
PROBED_BY = 5
PROBE_STEPS = 300
PENALTY = 1e-3
"""Per row, of the ridge regression that reads columns off."""


def rank_of_representation(tried: Tried) -> float:
    """RankMe of the held-out rows' representation."""
    return float(rankme(_scaled(tried.main.held[:MOST_ROWS])))


def rank_of_embedding(tried: Tried) -> float:
    """RankMe of the held-out rows' embedding, on which the loss acts."""
    return float(rankme(tried.main.embedding[:MOST_ROWS]))


def rank_among_views(tried: Tried) -> float:
    """LiDAR of the held-out rows' representation, under views that are the same for every trial."""
    every = [_scaled(view[:MOST_ROWS]) for view in tried.main.views(VIEWS)]
    return float(lidar(*every))


def decay_of_spectrum(tried: Tried) -> float:
    """How near the decay of the representation's spectrum is to the 1 of alpha-ReQ."""
    return -abs(float(alpha_req(_scaled(tried.main.held))) - 1)


def trusted_neighbors(tried: Tried) -> float:
    """Trustworthiness: whether a row's neighbours in the representation are near it in the data."""
    return trustworthiness(tried.main.raw, tried.main.held, _neighbors(tried))


def kept_neighbors(tried: Tried) -> float:
    """Which share of a row's neighbours in the data are so in the representation, corrected for chance."""
    return stability(tried.main.raw, tried.main.held, _neighbors(tried))


def agreement_of_seeds(tried: Tried) -> float:
    """Whether a fit from another seed has the same neighbours."""
    return stability(tried.main.held, tried.other_seed.held, _neighbors(tried))


def held_out_columns(tried: Tried) -> float:
    """How well columns that were kept out of the inputs can be told from the representation of the others."""
    return _read_off(tried.without_columns.learnt, tried.without_columns.held, *tried.columns)


def own_columns(tried: Tried) -> float:
    """How well the input's own columns can be told from the representation."""
    return _read_off(tried.main.learnt, tried.main.held, *tried.inputs)


def mixture(tried: Tried) -> float:
    """The smallest of the gains over the default that the mixture's scores show, each in units of its usual spread.

    The default has 0, and what has more is better by all of them: one score alone is easily misled. In the midst of a
    fit it is that of the scores which that fit serves.
    """
    parts = {}
    for name in MIXTURE:
        with suppress(AnotherFit):
            parts[name] = LABEL_FREE[name](tried)
    for name, value in parts.items() if not tried.under_way else ():
        tried.note(name, value)
    return min((value - tried.first.get(name, value)) / MIXTURE[name] for name, value in parts.items())


def silhouette(tried: Tried) -> float:
    """Mean silhouette of the held-out rows with their labels as clusters."""
    return float(silhouette_by_label(tried.main.held, tried.labels[1]).mean())


def knn_accuracy(tried: Tried) -> float:
    """Accuracy (of numbers R2) of the 5 nearest rows that were learnt from, on held-out ones."""
    return _explained(tried, knn(*_sides(tried), task=tried.task))


def linear_accuracy(tried: Tried) -> float:
    """Accuracy (of numbers R2) of a linear probe fitted on rows that were learnt from, on held-out ones."""
    return _explained(tried, linear_probe(*_sides(tried), task=tried.task))


Score = Callable[[Tried], float]

LABEL_FREE: dict[str, Score] = {
    "columns": held_out_columns,
    "own-columns": own_columns,
    "rankme": rank_of_representation,
    "rankme-embedding": rank_of_embedding,
    "lidar": rank_among_views,
    "alpha-req": decay_of_spectrum,
    "trustworthiness": trusted_neighbors,
    "neighbors": kept_neighbors,
    "stability": agreement_of_seeds,
    "mixture": mixture,
}
MIXTURE = {"columns": 0.01, "rankme-embedding": 30.0}
"""The scores of the mixture, with their usual spread over configurations (docs/results/tuning.md)."""
RELATIVE = ("mixture",)
"""Scores that look at what was noted of the default, which has to be tried first."""
WITH_LABELS: dict[str, Score] = {"linear": linear_accuracy, "knn": knn_accuracy, "silhouette": silhouette}


SCORES: dict[str, Score] = LABEL_FREE | WITH_LABELS
"""From a name to a score, for Python and the command line alike."""

Custom = Callable[[Any, FloatArray, Any], float]


def custom(function: Custom, *, labelled: bool) -> Score:
    """A score of a user's own: any function as scikit-learn's scorers are, of a model, rows and their labels.

    Args:
        function: Of a linear probe fitted on the representation of the rows that were learnt from (logistic or ridge
            regression after scaling), the representation (m, k) of held-out rows, and their labels (m,). Without labels
            the first and the last are None.
        labelled: Whether there are labels.
    """

    def score(tried: Tried) -> float:
        h = tried.main.held
        if not labelled:
            return function(None, h, None)
        learnt, known, _, asked = _sides(tried)
        classes = tried.task == "classification"
        last = LogisticRegression(max_iter=PROBE_STEPS) if classes else RidgeCV()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            probe = make_pipeline(StandardScaler(), last).fit(learnt, known)
        return function(probe, h, asked)

    return score


def score_of(score: str | Custom, *, labelled: bool) -> tuple[str, Score]:
    """A score by its name, by that of a scorer of scikit-learn's, or from a function; and what it is called.

    Args:
        score: The name or function.
        labelled: Whether there are labels.

    Raises:
        ValueError: There is no such score, or it needs labels.

    Example:
        >>> score_of("rankme", labelled=False)[0]
        'rankme'
    """
    if not isinstance(score, str):
        require(callable(score), "score", "be a name or a function", shown(score), error=TypeError)
        return getattr(score, "__qualname__", type(score).__name__), custom(score, labelled=labelled)
    fix = "Name the labels, or take one of " + listed(LABEL_FREE, 20) + "."
    require(labelled or score not in WITH_LABELS, "score", "need no labels where none are named", shown(score), fix)
    if score in SCORES:
        return score, SCORES[score]
    if score in get_scorer_names():
        require(labelled, "score", "need no labels where none are named", shown(score), fix)
        return score, custom(get_scorer(score), labelled=True)
    rule = f"be one of {listed(SCORES, 20)}, or a scorer of scikit-learn's"
    raise ValueError(message("score", rule, shown(score), near(score, SCORES)))


def _scaled(h: Any) -> Tensor:
    """At a mean variance of 1, since a representation has no scale of its own."""
    h = torch.as_tensor(np.asarray(h, np.float32))
    deviation = h.std(0).square().mean().sqrt()
    scaled: Tensor = h / torch.where(deviation > 0, deviation, 1)
    return scaled


def _neighbors(tried: Tried) -> int:
    return min(NEIGHBORS, (len(tried.main.held) - 1) // 2)


def _sides(tried: Tried) -> tuple[Any, Any, Any, Any]:
    (known, asked), (learnt, held) = tried.labels, (tried.main.learnt, tried.main.held)
    return learnt, known, held, asked


def _explained(tried: Tried, by_row: FloatArray) -> float:
    if tried.task == "classification":
        return float(by_row.mean())
    return float(1 - by_row.mean() / tried.labels[1].var())


def _read_off(
    learnt: FloatArray,
    held: FloatArray,
    known: NDArray[np.float32],
    asked: NDArray[np.float32],
    sources: NDArray[np.int64],
) -> float:
    """Mean over source columns of the share of their variance that neighbours and a linear model explain.

    Args:
        learnt: (n, k) representation of the rows that both are fitted on.
        held: (m, k) of those that they are judged on.
        known: (n, p) the columns' features of the former.
        asked: (m, p) of the latter.
        sources: (p,) the source column of each.
    """
    scaler = StandardScaler().fit(learnt)
    learnt, held = scaler.transform(learnt), scaler.transform(held)
    models = Ridge(PENALTY * len(learnt)), KNeighborsRegressor(min(PROBED_BY, len(learnt)))
    said = [model.fit(learnt, known).predict(held).reshape(asked.shape) for model in models]
    found = []
    for source in np.unique(sources):
        mine = sources == source
        total = ((asked[:, mine] - known[:, mine].mean(0)) ** 2).sum()
        if total > 0:
            errors = [((one[:, mine] - asked[:, mine]) ** 2).sum() for one in said]
            found.append(np.mean([max(0.0, 1 - error / total) for error in errors]))
    require(len(found) > 0, "the columns", "vary over the held-out rows", "none that does")
    return float(np.mean(found))
