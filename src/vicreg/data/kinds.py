"""What kind of data a path is, found with as little reading as will do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from vicreg._checks import message, require, shown
from vicreg.data.image_array import holds_pictures, shapes_in
from vicreg.data.image_folder import is_folder, is_picture
from vicreg.data.image_table import parts_of, picture_columns
from vicreg.data.tars import is_shard, is_url

Kind = Literal["table", "image", "shards"]


def kind_of(path: str | Path) -> Kind:
    """Whether a path is a table, a collection of pictures, or shards of one.

    A folder is shards if a ``.tar`` lies in it, Parquet parts if a ``.parquet`` does, and otherwise pictures, if there
    is one in it or below; the search ends at the first. Parquet is pictures if a column's first cells are, a ``.npz``
    by its arrays' shapes. A URL or a pattern in braces is shards. What is none of these, a missing file for instance,
    is left to :func:`read_table` to complain about.

    Args:
        path: A file, a folder, a URL or a pattern such as ``train-{000..146}.tar``.

    Returns:
        ``table``, ``image`` or ``shards``.

    Raises:
        ValueError: A folder holds nothing of the kind, or a file is damaged.

    Example:
        >>> kind_of("people.csv"), kind_of("photos/cat.JPG"), kind_of("s3://bucket/train-{000..146}.tar")
        ('table', 'image', 'shards')
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
        if path.suffix.lower() == ".parquet":
            return "image" if picture_columns(path) else "table"
        if path.suffix.lower() == ".npz":
            return "image" if holds_pictures(shapes_in(path)) else "table"
    return "table"


def _kind_of_folder(folder: Path) -> Kind:
    picture, below = False, []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if is_shard(entry.name):
                return "shards"
            if entry.name.endswith(".parquet") and not entry.name.startswith("_"):
                return "image" if picture_columns(parts_of(folder)[0]) else "table"
            picture = picture or is_picture(entry.name)
            if not picture and is_folder(entry):
                below.append(Path(entry.path))
    got = "none of these"
    rule = "hold pictures, Parquet parts or .tar shards"
    require(picture or _picture_below(below), f"the folder {shown(str(folder))}", rule, got)
    return "image"


def _picture_below(todo: list[Path]) -> bool:
    """Whether there is a picture in these folders or below."""
    entered = set()
    while todo:
        folder = todo.pop()
        real = os.path.realpath(folder)
        if real in entered:
            continue
        entered.add(real)
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if is_picture(entry.name):
                        return True
                    if not entry.name.startswith(".") and is_folder(entry):
                        todo.append(Path(entry.path))
        except OSError as error:
            raise ValueError(message(f"the folder {shown(str(folder))}", "be readable", error.strerror)) from error
    return False
