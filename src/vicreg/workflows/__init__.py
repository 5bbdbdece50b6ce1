"""What the commands do with a source: fit a run, embed with it, judge it. All of it works without a command line."""

from vicreg.workflows.about import Columns, read_settings
from vicreg.workflows.checkpoints import Collapsed, Interrupted
from vicreg.workflows.diagnosing import diagnose
from vicreg.workflows.embedding import embed
from vicreg.workflows.exporting import export
from vicreg.workflows.fitting import fit, resume
from vicreg.workflows.image_embedding import embed_images
from vicreg.workflows.image_fitting import fit_images, resume_images
from vicreg.workflows.image_judging import evaluate_images
from vicreg.workflows.judging import Judged, demo, evaluate
from vicreg.workflows.kinds import check_there, kind_of_run

__all__ = [
    "Collapsed",
    "Columns",
    "Interrupted",
    "Judged",
    "check_there",
    "demo",
    "diagnose",
    "embed",
    "embed_images",
    "evaluate",
    "evaluate_images",
    "export",
    "fit",
    "fit_images",
    "kind_of_run",
    "read_settings",
    "resume",
    "resume_images",
]
