"""The command line: words in, words out. All work is done elsewhere."""

from vicreg.cli.door import main

__all__ = ["main"]
