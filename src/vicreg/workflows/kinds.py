"""Which kind of data a run is on."""

from __future__ import annotations

from pathlib import Path

from vicreg import runs
from vicreg._checks import shown
from vicreg.runs import Run
from vicreg.training.config import CONFIGS


def kind_of_run(folder: Path) -> str:
    """The kind of source that a run was fitted on: ``table`` or ``image``.

    Raises:
        ValueError: It is no run, or of a kind that this version does not know.
    """
    run = Run(folder)
    kind = run.read_config().get("kind", "table")
    if not isinstance(kind, str) or kind not in CONFIGS:
        raise runs.damaged(run.config, f"kind: {shown(kind)}")
    return kind
