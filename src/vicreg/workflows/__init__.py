"""What the commands do with a table: fit a run, embed with it, judge it. All of it works without a command line."""

from vicreg.workflows.about import Columns, read_settings
from vicreg.workflows.checkpoints import Interrupted
from vicreg.workflows.embedding import embed
from vicreg.workflows.fitting import fit, resume
from vicreg.workflows.judging import Judged, demo, evaluate

__all__ = ["Columns", "Interrupted", "Judged", "demo", "embed", "evaluate", "fit", "read_settings", "resume"]
