"""One page that shows what a run learnt: a run's folder in, a self-contained HTML file out."""

from __future__ import annotations

from pathlib import Path

from vicreg.report.library import available
from vicreg.report.page import write_page
from vicreg.report.server import watched

__all__ = ["watched", "write_page", "write_report"]


def write_report(folder: Path) -> Path | None:
    """Write ``report.html`` into a run's folder.

    Args:
        folder: The run, finished or not, whole or damaged.

    Returns:
        The page's path; None where plotly or jinja2 is missing.

    Raises:
        ValueError: The folder holds nothing of a run.
        OSError: The page cannot be written.
    """
    return write_page([folder]) if available() else None
