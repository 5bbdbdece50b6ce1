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
from vicreg.cli.door import COMMANDS, DESCRIPTION
from vicreg.cli.fit import fit_for
from vicreg.cli.given import help_first, with_values
from vicreg.cli.report import report
from vicreg.cli.speech import show_warning
from vicreg.cli.tune import tune_for
from vicreg.distributed import own_number, process_count
from vicreg.workflows import Collapsed, Interrupted


def main(arguments: Sequence[str] | None = None) -> None:
    """The command `vicreg`: exits 2 with a message on bad input, 130 or 143 when interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it tells of every process that it starts
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default", UserWarning)
            warnings.showwarning = show_warning  # type: ignore[assignment]  # it takes what it needs
            fitting, tuning = fit_for(given), tune_for(given)
            does = (demo, fitting, tuning, embed, evaluate, report, diagnose, export)
            commands: dict[str, Callable[..., None]] = dict(zip(COMMANDS, does, strict=True))
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
