"""Frozen representations judged: scores, intervals, comparison and verdict, all on plain arrays."""

from vicreg.evaluation.baselines import PrincipalComponents, leading_components, pca
from vicreg.evaluation.comparison import EmbeddingComparison
from vicreg.evaluation.finetuning import FineTuning, fine_tuned, labelled_share, published_settings
from vicreg.evaluation.inputs import infer_task
from vicreg.evaluation.linear import LinearProbe, among_first, probe_batches, probe_features
from vicreg.evaluation.online import OnlineLinear, epoch_readings
from vicreg.evaluation.probes import ProbeComparison, both_codes
from vicreg.evaluation.readings import readings, readings_in_words
from vicreg.evaluation.resampling import (
    Interval,
    accuracy_difference,
    accuracy_interval,
    mean_interval,
    r2_difference,
    r2_interval,
)
from vicreg.evaluation.results import Comparison
from vicreg.evaluation.retrieval import Retrieval, retrieval
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
from vicreg.evaluation.weighted import weighted_knn

__all__ = [
    "Comparison",
    "EmbeddingComparison",
    "FineTuning",
    "Interval",
    "LinearProbe",
    "OnlineLinear",
    "PrincipalComponents",
    "ProbeComparison",
    "Retrieval",
    "Score",
    "accuracy_difference",
    "accuracy_interval",
    "among_first",
    "both_codes",
    "cluster_agreement",
    "epoch_readings",
    "fine_tuned",
    "hold_out",
    "infer_task",
    "knn",
    "labelled_share",
    "leading_components",
    "linear_probe",
    "mean_interval",
    "pca",
    "probe_batches",
    "probe_features",
    "published_settings",
    "r2_difference",
    "r2_interval",
    "readings",
    "readings_in_words",
    "retrieval",
    "silhouette_by_label",
    "stability",
    "trustworthiness",
    "weighted_knn",
]
