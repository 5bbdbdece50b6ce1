"""What kind of data a path is, found with as little reading as will do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from vicreg._checks import message, shown
from vicreg.data.arrays import shapes_in
from vicreg.data.image_array import holds_pictures
from vicreg.data.image_folder import is_picture
from vicreg.data.image_table import picture_columns
from vicreg.data.parts import parts_of
from vicreg.data.signal import is_signals
from vicreg.data.signal_folder import is_sound
from vicreg.data.tars import is_shard, is_url
from vicreg.data.tree import is_folder

Kind = Literal["table", "image", "shards", "signal"]


def kind_of(path: str | Path) -> Kind:
    """Whether a path is a table, a collection of pictures, shards of one, or a collection of sounds or other signals.

    A folder is shards if a ``.tar`` lies in it, Parquet parts if a ``.parquet`` does, and otherwise pictures or sounds,
    if there are any in it or below; the search ends at the first folder with some, and the more frequent of the two
    decide. Parquet is pictures or signals if a column's first cells are, a ``.npz`` by its arrays' shapes, a ``.npy``
    is signals if it has three axes. A URL or a pattern in braces is shards. What is none of these, a missing file for
    instance, is left to :func:`read_table` to complain about; and a long table of signals is a table, until somebody
    names its column of ids.

    Args:
        path: A file, a folder, a URL or a pattern such as ``train-{000..146}.tar``.

    Returns:
        ``table``, ``image``, ``shards`` or ``signal``.

    Raises:
        ValueError: A folder holds nothing of the kind, or a file is damaged.

    Example:
        >>> kind_of("people.csv"), kind_of("photos/cat.JPG"), kind_of("s3://bucket/train-{000..146}.tar")
        ('table', 'image', 'shards')
        >>> kind_of("dog.flac")
        'signal'
    """
    text = os.fspath(path)
    if is_url(text):
        return "shards"
    path = Path(text)
    if path.is_dir():
        return _kind_of_folder(path)
    if is_shard(path.name) or ("{" in text and not path.exists()):
        return "shards"
    if is_picture(path.name):
        return "image"
    if path.is_file() and path.stat().st_size > 0:
        if path.suffix.lower() == ".parquet" and picture_columns(path):
            return "image"
        if path.suffix.lower() == ".npz" and holds_pictures(shapes_in(path)):
            return "image"
        return "signal" if is_signals(path) else "table"
    return "signal" if is_sound(path.name) else "table"


def _kind_of_folder(folder: Path) -> Kind:
    names, below = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if is_shard(entry.name):
                return "shards"
            if entry.name.endswith(".parquet") and not entry.name.startswith("_"):
                if picture_columns(parts_of(folder)[0]):
                    return "image"
                return "signal" if is_signals(folder) else "table"
            if is_picture(entry.name) or is_sound(entry.name):
                names.append(entry.name)
            elif not names and is_folder(entry):
                below.append(Path(entry.path))
    kind = _of_most(names) or _kind_below(below)
    if kind is None:
        rule = "hold pictures, recordings, Parquet parts or .tar shards"
        raise ValueError(message(f"the folder {shown(str(folder))}", rule, "none of these"))
    return kind


def _of_most(names: list[str]) -> Kind | None:
    """What most of these files are, pictures or sounds."""
    sounds = sum(map(is_sound, names))
    return ("signal" if 2 * sounds > len(names) else "image") if names else None


def _kind_below(todo: list[Path]) -> Kind | None:
    """What is in the first of these folders, or those below, that has pictures or sounds."""
    entered = set()
    while todo:
        folder = todo.pop()
        real = os.path.realpath(folder)
        if real in entered:
            continue
        entered.add(real)
        names = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if is_picture(entry.name) or is_sound(entry.name):
                        names.append(entry.name)
                    elif not entry.name.startswith(".") and is_folder(entry):
                        todo.append(Path(entry.path))
        except OSError as error:
            raise ValueError(message(f"the folder {shown(str(folder))}", "be readable", error.strerror)) from error
        if kind := _of_most(names):
            return kind
    return None
