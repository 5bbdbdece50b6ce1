"""The command's door: help on all of it is there at once, without the libraries that take seconds to load."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

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

COMMANDS = ("demo", "fit", "tune", "embed", "evaluate", "report", "diagnose", "export")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command `vicreg`: exits 2 with a message on bad input, 130 or 143 when interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given in (["--help"], ["-h"]):
        print(f"usage: vicreg [-h] {{{','.join(COMMANDS)}}}\n\n{DESCRIPTION}")
        print("vicreg COMMAND --help lists what it takes.")
        sys.exit(0)
    import_module("vicreg.cli.entry").main(given)
