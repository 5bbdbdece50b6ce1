"""What the commands print."""

from __future__ import annotations

import sys
from pathlib import Path

from vicreg.evaluation import readings_in_words
from vicreg.runs import Run
from vicreg.workflows import Judged


def tell(judged: Judged) -> None:
    """Print what judging found."""
    if judged.comparison is not None:
        say("\n" + judged.comparison.summary().rstrip())
    for note in judged.notes:
        say(note)
    if judged.comparison is not None:
        say("\n" + judged.comparison.verdict("vicreg"))
    if judged.readings is not None:
        say("\n" + readings_in_words(judged.readings))


def tell_place(folder: Path) -> None:
    """Print where the run is, and its report where there is one."""
    report = Run(folder).report
    say(f"The run is in {folder}; its report is {report}." if report.exists() else f"The run is in {folder}.")


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def show_warning(text: Warning | str, *_: object) -> None:
    """Print a warning without the place it comes from."""
    print(f"vicreg: note: {text}", file=sys.stderr)
