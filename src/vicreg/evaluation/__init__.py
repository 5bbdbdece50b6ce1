"""Frozen representations judged: scores, intervals, comparison and verdict, all on plain arrays."""

from vicreg.evaluation.baselines import PrincipalComponents, pca
from vicreg.evaluation.comparison import EmbeddingComparison
from vicreg.evaluation.inputs import infer_task
from vicreg.evaluation.readings import readings, readings_in_words
from vicreg.evaluation.resampling import (
    Interval,
    accuracy_difference,
    accuracy_interval,
    mean_interval,
    r2_difference,
    r2_interval,
)
from vicreg.evaluation.scores import (
    Score,
    cluster_agreement,
    knn,
    linear_probe,
    silhouette_by_label,
    stability,
    trustworthiness,
)
from vicreg.evaluation.splits import hold_out

__all__ = [
    "EmbeddingComparison",
    "Interval",
    "PrincipalComponents",
    "Score",
    "accuracy_difference",
    "accuracy_interval",
    "cluster_agreement",
    "hold_out",
    "infer_task",
    "knn",
    "linear_probe",
    "mean_interval",
    "pca",
    "r2_difference",
    "r2_interval",
    "readings",
    "readings_in_words",
    "silhouette_by_label",
    "stability",
    "trustworthiness",
]
