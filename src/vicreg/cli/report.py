"""The command `report`, and the page that a fit shows while it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from vicreg._checks import require
from vicreg.cli.speech import say
from vicreg.distributed import own_number
from vicreg.report import watched, write_page

RunFolders = Annotated[tuple[Path, ...], Positional, arg(metavar="RUN")]


def report(runs: RunFolders, *, max_thumbnails: int = 2000, out: Path | None = None) -> None:
    """Make the page of a run again, or set several runs side by side on one.

    Args:
        runs: The folders of runs, finished or not.
        max_thumbnails: The most thumbnails and sounds in the page.
        out: The file to write; of one run report.html in its folder if left out, of several report.html here.
    """
    require(len(runs) > 0, "vicreg report", "be given a run", "none", "Name the folder of one.")
    say(f"The report is {write_page(runs, out, max_thumbnails)}.")


@dataclass(frozen=True)
class Watching:
    """Whether and where a run is watched."""

    watch: bool = False
    """Show the run in a browser while it goes on, on a page that this machine serves to itself."""

    watch_port: int = 0
    """Where the page is; 0 is any port that is free."""

    watch_host: str = "127.0.0.1"
    """The address that the page is served on. Others than this machine reach it only if another is named here."""


UNWATCHED = Watching()


@contextmanager
def watching(folder: Path, how: Watching) -> Iterator[None]:
    """Show a run while it goes on, where that is wanted; of several processes the first one does."""
    if not how.watch or own_number() != 0:
        yield
        return
    with watched(folder, how.watch_port, how.watch_host) as address:
        say(f"Watch the run at {address}")
        yield
