"""What the commands do with a source: fit a run, embed with it, judge it. All of it works without a command line."""

from vicreg.workflows.about import Columns, read_settings
from vicreg.workflows.checkpoints import Collapsed, Interrupted
from vicreg.workflows.collection_embedding import embed_collection
from vicreg.workflows.collection_fitting import fit_collection, resume_collection
from vicreg.workflows.collection_judging import evaluate_collection
from vicreg.workflows.demonstrating import demo, free_folder
from vicreg.workflows.diagnosing import diagnose
from vicreg.workflows.embedding import embed
from vicreg.workflows.exporting import export
from vicreg.workflows.fitting import fit, resume
from vicreg.workflows.judging import Judged, evaluate
from vicreg.workflows.kinds import check_there, kind_of_run
from vicreg.workflows.medium import Reading
from vicreg.workflows.pair_about import Pairing
from vicreg.workflows.pair_embedding import embed_pair
from vicreg.workflows.pair_fitting import fit_pair, resume_pair
from vicreg.workflows.pair_judging import JudgedPair, evaluate_pair

__all__ = [
    "Collapsed",
    "Columns",
    "Interrupted",
    "Judged",
    "JudgedPair",
    "Pairing",
    "Reading",
    "check_there",
    "demo",
    "diagnose",
    "embed",
    "embed_collection",
    "embed_pair",
    "evaluate",
    "evaluate_collection",
    "evaluate_pair",
    "export",
    "fit",
    "fit_collection",
    "fit_pair",
    "free_folder",
    "kind_of_run",
    "read_settings",
    "resume",
    "resume_collection",
    "resume_pair",
]
