"""The command `vicreg`."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import NoReturn

import torch
import tyro

from vicreg._checks import message, shown
from vicreg.cli.commands import demo, diagnose, embed, evaluate, export
from vicreg.cli.fit import fit_for
from vicreg.cli.given import help_first, with_values
from vicreg.cli.report import report
from vicreg.cli.speech import show_warning
from vicreg.cli.tune import tune_for
from vicreg.distributed import own_number, process_count
from vicreg.workflows import Collapsed, Interrupted

DESCRIPTION = """Representations from data without labels.

A table is a .csv or .tsv file (also .gz), a .parquet file or folder of parts, a .feather, .npy or .npz file. Pictures
are a folder of them, a .parquet file with a column of them, an .npz array, or .tar shards. Sounds are a folder of
recordings or a .parquet file with a column of them; other signals an array (n, channels, time) in an .npz or .npy file,
or a long table. Two sources are a pair, whose rows belong together. A run is the folder that `vicreg fit` leaves.

  vicreg demo                                         a minute's tour on handwritten digits
  vicreg fit people.csv --labels income               learn from all other columns, judge on a fifth of the rows
  vicreg fit photos/ --encoder resnet50               learn from pictures; vicreg fit photos/ --help has the settings
  vicreg fit sounds/ --labels folder                  learn from recordings; the sub-folders are there to judge by
  vicreg fit steps.csv --id walk --time t             learn from the signals of a long table
  vicreg fit photos/ facts.csv --key photo            learn from two sources of the same things
  vicreg tune people.csv --trials 40                  search for better settings, without labels or with them
  vicreg embed runs/people new.csv --out new.parquet  embed new rows, pictures or signals
  vicreg evaluate runs/people labelled.csv            judge on new labelled rows, pictures or signals
  vicreg report runs/people runs/others               a page that shows what was learnt, or runs side by side
  vicreg diagnose embeddings.npy                      is it collapsed? readings of any embeddings
  vicreg export runs/photos --format onnx --out f.onnx  the encoder for other programs
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """The command `vicreg`: exits 2 with a message on bad input, 130 or 143 when interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it tells of every process that it starts
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default", UserWarning)
            warnings.showwarning = show_warning  # type: ignore[assignment]  # it takes what it needs
            commands: dict[str, Callable[..., None]] = {
                "demo": demo,
                "fit": fit_for(given),
                "tune": tune_for(given),
                "embed": embed,
                "evaluate": evaluate,
                "report": report,
                "diagnose": diagnose,
                "export": export,
            }
            for command in commands.values():
                _unbroken(command)
            words = with_values(help_first(given))
            tyro.extras.subcommand_cli_from_dict(commands, prog="vicreg", description=DESCRIPTION, args=words)
    except Interrupted as stop:
        if own_number() == 0:  # all processes stop together
            print(f"vicreg: {stop}; the same command with --resume goes on.", file=sys.stderr)
        sys.exit(128 + stop.signal)
    except KeyboardInterrupt:
        print("vicreg: stopped.", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # nobody reads any longer, as after `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or flushing at the end would complain, too
        sys.exit(128 + 13)
    except (ValueError, TypeError, OSError, ImportError, NotImplementedError, Collapsed) as failure:
        _end(str(failure))
    except (RuntimeError, MemoryError) as failure:
        said = _outside(failure)
        if said is None:
            raise
        _end(said)


def _unbroken(command: Callable[..., None]) -> None:
    """Join the lines of an argument's description: help breaks them where the screen ends."""
    function = command.func if isinstance(command, partial) else command
    function.__doc__ = (function.__doc__ or "").replace("\n" + 12 * " ", " ")


def _end(said: str) -> NoReturn:
    which = f" (process {own_number()})" if own_number() else ""
    print(f"vicreg{which}: {said}", file=sys.stderr)
    sys.exit(2)


def _outside(failure: Exception) -> str | None:
    """What to say of a failure that is of the machine and not of the program; None for one of the program's."""
    first = str(failure).strip().partition("\n")[0] or type(failure).__name__
    if isinstance(failure, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in first:
        return message("the run", "fit into memory", shown(first), "Lower --batch-size, or cut it by --accumulate.")
    if process_count("default") > 1:
        return message("the other processes", "live", shown(first), "The same command with --resume goes on.")
    return None
