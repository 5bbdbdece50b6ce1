"""The command line: words in, words out. All work is done elsewhere."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import OmitArgPrefixes, Positional, UseAppendAction, arg

from vicreg import workflows
from vicreg.data import source_name
from vicreg.evaluation import readings_in_words
from vicreg.training.config import TableConfig
from vicreg.training.progress import progress
from vicreg.workflows import Columns, Interrupted, Judged

DESCRIPTION = """Representations from data without labels.

A table is a .csv or .tsv file (also .gz), a .parquet file or folder of parts, a .feather, .npy or .npz file. A run is
the folder that `vicreg fit` leaves.

  vicreg demo                                         a minute's tour on handwritten digits
  vicreg fit people.csv --labels income               learn from all other columns, judge on a fifth of the rows
  vicreg embed runs/people new.csv --out new.parquet  embed new rows
  vicreg evaluate runs/people labelled.csv            judge on new labelled rows
"""

Source = Annotated[Path, Positional, arg(metavar="SOURCE")]
RunFolder = Annotated[Path, Positional, arg(metavar="RUN")]
Names = UseAppendAction[tuple[tuple[str, ...], ...]]


def demo() -> None:
    """Learn handwritten digits (bundled with scikit-learn) without their labels, then judge on held-out rows."""
    _say("Handwritten digits: 1,797 rows of 64 pixels. The labels are there to judge by, never to learn from.")
    with progress() as callback:
        judged = workflows.demo([callback])
    _tell(judged)


def fit(
    source: Source,
    out: Path | None = None,
    labels: str | None = None,
    exclude: Names = (),
    id: Names = (),  # the flag's name
    resume: bool = False,
    config: Path | None = None,
    *,
    settings: OmitArgPrefixes[TableConfig],
) -> None:
    """Learn from a table without labels, and leave a run.

    Args:
        source: The table.
        out: The run's folder; runs/NAME-OF-THE-SOURCE if left out.
        labels: A column to judge by: kept out of the inputs, and a fifth of its rows held out.
        exclude: Columns to leave out.
        id: Columns to leave out of the inputs and to carry through to the embeddings.
        resume: Go on with the interrupted run in the folder, with its own settings.
        config: A YAML file of settings, or the config.yaml of another run; flags beside it win.
        settings: Settings of the run.
    """
    folder = out or Path("runs") / source_name(source)
    columns = Columns(labels, tuple(dict.fromkeys(chain(*exclude))), tuple(dict.fromkeys(chain(*id))))
    with progress() as callback:
        begin = workflows.resume if resume else workflows.fit
        judged = begin(source, folder, columns, settings, callbacks=[callback], say=_say)
    _tell(judged)
    _say(f"The run is in {folder}.")


def embed(run: RunFolder, source: Source, *, out: Path) -> None:
    """Embed the rows of a table with a run.

    Args:
        run: The folder of a finished run.
        source: The table, with the columns of the fit by name; those that the fit set aside may be there or not.
        out: The .parquet file to write.
    """
    workflows.embed(run, source, out, _say)


def evaluate(
    run: RunFolder,
    source: Annotated[Path | None, Positional, arg(metavar="[SOURCE]")] = None,
    *,
    labels: str | None = None,
) -> None:
    """Judge a run beside the raw columns and PCA, on rows that its fit did not see; without labels, show its readings.

    Args:
        run: The folder of a finished run.
        source: New labelled rows, judged by cross-validation. Left out: the rows that the fit held out.
        labels: The label column; that of the fit if left out.
    """
    _tell(workflows.evaluate(run, source, labels))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command `vicreg`: exits 2 with a message on bad input, 130 or 143 when interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default", UserWarning)
            warnings.showwarning = _show_warning  # type: ignore[assignment]  # it takes what it needs
            commands: dict[str, Callable[..., None]] = {
                "demo": demo,
                "fit": partial(fit, settings=_settings(given)),
                "embed": embed,
                "evaluate": evaluate,
            }
            tyro.extras.subcommand_cli_from_dict(commands, prog="vicreg", description=DESCRIPTION, args=given)
    except Interrupted as stop:
        print(f"vicreg: {stop}; the same command with --resume goes on.", file=sys.stderr)
        sys.exit(128 + stop.signal)
    except KeyboardInterrupt:
        print("vicreg: stopped.", file=sys.stderr)
        sys.exit(130)
    except (ValueError, TypeError, OSError, ImportError, NotImplementedError) as failure:
        print(f"vicreg: {failure}", file=sys.stderr)
        sys.exit(2)


def _settings(given: list[str]) -> TableConfig:
    """The settings that flags start from: those of --config, else the defaults."""
    for index, word in enumerate(given):
        if word == "--config" and index + 1 < len(given):
            return workflows.read_settings(Path(given[index + 1]))
        if word.startswith("--config="):
            return workflows.read_settings(Path(word.removeprefix("--config=")))
    return TableConfig()


def _tell(judged: Judged) -> None:
    if judged.comparison is not None:
        _say("\n" + judged.comparison.summary().rstrip())
    for note in judged.notes:
        _say(note)
    if judged.comparison is not None:
        _say("\n" + judged.comparison.verdict("vicreg"))
    if judged.readings is not None:
        _say("\n" + readings_in_words(judged.readings))


def _say(text: str) -> None:
    print(text, flush=True)


def _show_warning(text: Warning | str, *_: object) -> None:
    print(f"vicreg: note: {text}", file=sys.stderr)
