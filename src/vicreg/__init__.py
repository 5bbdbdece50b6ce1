"""Representations from data without labels: VICReg, exact, for tables and your own PyTorch loop.

``VICReg(n_components=16).fit_transform(table)`` embeds the rows of a table, ``VICRegLoss()(z_a, z_b)`` is the loss for
your own loop, ``pretrain(photos, out)`` learns from pictures, ``load(folder)`` opens what a run left, and
``EmbeddingComparison`` judges anybody's embeddings.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vicreg.diagnostics import CollapseMonitor, CollapseWarning
    from vicreg.estimators import VICReg
    from vicreg.evaluation import EmbeddingComparison
    from vicreg.inference import Embedder, ImageEmbedder, PairEmbedder, SignalEmbedder, load
    from vicreg.loss import VICRegLoss, vicreg_loss
    from vicreg.objectives import Objective, Outputs, Term
    from vicreg.paired import PairedVICReg
    from vicreg.pretraining import pretrain
    from vicreg.supervised import VCReg
    from vicreg.training.accumulate import accumulate
    from vicreg.tuning import Tuned, tune

__version__ = "0.1.0"

_HOMES = {
    "CollapseMonitor": "vicreg.diagnostics",
    "CollapseWarning": "vicreg.diagnostics",
    "Embedder": "vicreg.inference",
    "EmbeddingComparison": "vicreg.evaluation",
    "ImageEmbedder": "vicreg.inference",
    "Objective": "vicreg.objectives",
    "Outputs": "vicreg.objectives",
    "PairEmbedder": "vicreg.inference",
    "PairedVICReg": "vicreg.paired",
    "SignalEmbedder": "vicreg.inference",
    "Term": "vicreg.objectives",
    "Tuned": "vicreg.tuning",
    "VCReg": "vicreg.supervised",
    "VICReg": "vicreg.estimators",
    "VICRegLoss": "vicreg.loss",
    "accumulate": "vicreg.training.accumulate",
    "load": "vicreg.inference",
    "pretrain": "vicreg.pretraining",
    "tune": "vicreg.tuning",
    "vicreg_loss": "vicreg.loss",
}

__all__ = [
    "CollapseMonitor",
    "CollapseWarning",
    "Embedder",
    "EmbeddingComparison",
    "ImageEmbedder",
    "Objective",
    "Outputs",
    "PairEmbedder",
    "PairedVICReg",
    "SignalEmbedder",
    "Term",
    "Tuned",
    "VCReg",
    "VICReg",
    "VICRegLoss",
    "accumulate",
    "load",
    "pretrain",
    "tune",
    "vicreg_loss",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use: scikit-learn and Fabric cost a second each."""
    if name not in _HOMES:
        raise AttributeError(f"module 'vicreg' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
