"""Which kind of data a run or a source is on."""

from __future__ import annotations

from pathlib import Path

from vicreg import runs
from vicreg._checks import message, require, shown
from vicreg.data import is_url, kind_of
from vicreg.runs import Run
from vicreg.training.config import CONFIGS

NAMES = {"table": "a table", "signal": "sounds or other signals"}


def kind_of_run(folder: Path) -> str:
    """The kind of source that a run was fitted on: ``table``, ``image``, ``signal`` or ``pair``.

    Raises:
        ValueError: It is no run, or of a kind that this version does not know.
    """
    run = Run(folder)
    kind = run.read_config().get("kind", "table")
    if not isinstance(kind, str) or kind not in CONFIGS:
        raise runs.damaged(run.config, f"kind: {shown(kind)}")
    return kind


def kind_of_pictures(where: str) -> str:
    """Whether a source of pictures has random access (``image``) or is a stream (``shards``).

    Raises:
        FileNotFoundError: It does not exist.
        ValueError: It is something else.
    """
    check_there(where)
    kind = kind_of(where)
    require(kind in ("image", "shards"), shown(where), "be pictures", NAMES.get(kind))
    return kind


def check_there(where: str) -> None:
    """Check that a source exists; whether a URL or a pattern in braces does, its opening shows.

    Raises:
        FileNotFoundError: It does not.
    """
    if not is_url(where) and "{" not in where and not Path(where).exists():
        raise FileNotFoundError(message(f"the file {shown(where)}", "exist", "no such file or folder"))
