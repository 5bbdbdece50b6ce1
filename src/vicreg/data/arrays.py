"""What a ``.npz`` or ``.npy`` file holds, by its headers."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from vicreg._checks import message, shown

Shapes = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]
"""Shape and type of arrays, by name."""

LABELS = ("y", "Y", "label", "labels")
"""Which array is taken for labels."""
TABLES = ("X", "x", "data")
"""Which arrays with two axes are taken for the matrix of a table."""
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def shapes_in(path: Path) -> Shapes:
    """Shape and type of the arrays in a ``.npz``, by name, from their headers alone.

    Raises:
        ValueError: It is no such file.
    """
    shapes: Shapes = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                with archive.open(member) as file:
                    header = HEADERS.get(npy.read_magic(file))
                    if header is not None:  # other versions are for records with names that are not Latin
                        shape, _, dtype = header(file)
                        shapes[member.removesuffix(".npy")] = (shape, dtype)
    except Exception as error:  # as varied as what damages a file
        raise damaged(path, error) from error
    return shapes


def axes_of(path: Path) -> int:
    """How many axes the array of a ``.npy`` has, by its header alone; 0 if it is no such file."""
    try:
        with path.open("rb") as file:
            header = HEADERS.get(npy.read_magic(file))
            return len(header(file)[0]) if header else 0
    except ValueError:
        return 0


def in_words(shapes: Shapes) -> str:
    """What a file holds, for errors.

    Example:
        >>> in_words({"x": ((2, 3), np.dtype("float32"))})
        "'x' (2, 3) float32"
    """
    return ", ".join(f"{shown(key)} {shape} {dtype}" for key, (shape, dtype) in shapes.items()) or "no arrays"


def file_in_words(path: Path) -> str:
    """A file's name, for errors."""
    return f"the file {shown(str(path))}"


def damaged(path: Path, error: Exception) -> ValueError:
    """The error that tells of a file that cannot be read."""
    said = shown(str(error).strip().split("\n", 1)[0] or type(error).__name__)
    fix = "Is it complete, and is it what its suffix says?"
    return ValueError(message(file_in_words(path), f"be a readable {path.suffix.lower()} file", said, fix))
