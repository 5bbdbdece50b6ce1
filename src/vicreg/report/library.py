"""Plotly's program for browsers, which draws the charts; it comes with the Python package."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from vicreg._checks import message
from vicreg.report.packing import compressed


def available() -> bool:
    """Whether a report can be made here."""
    return all(find_spec(name) is not None for name in ("plotly", "jinja2"))


def check_available() -> None:
    """Refuse to make a report where it cannot be.

    Raises:
        ImportError: plotly or jinja2 is not installed.
    """
    if not available():
        fix = "Run pip install 'vicreg[report]'."
        raise ImportError(message("plotly and jinja2", "be installed for a report", "no such packages", fix))


@cache
def plotly_program() -> str:
    """The program's text."""
    import plotly

    return (Path(plotly.__file__).parent / "package_data" / "plotly.min.js").read_text(encoding="utf-8")


@cache
def plotly_packed() -> str:
    """The program, compressed: 2 MB instead of 4.8."""
    return compressed(plotly_program().encode())
