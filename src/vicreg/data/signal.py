"""Signals from a folder, a Parquet file, an array or a long table: one door to all that have random access."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vicreg._checks import message, require, shown
from vicreg.data.arrays import axes_of, shapes_in
from vicreg.data.image import FOLDER
from vicreg.data.parts import parts_of
from vicreg.data.signal_array import holds_signals, read_signal_array
from vicreg.data.signal_decode import SOUNDS
from vicreg.data.signal_folder import SoundFolder, is_sound
from vicreg.data.signal_long import read_long_table
from vicreg.data.signal_source import SignalSource
from vicreg.data.signal_table import SoundTable, list_columns, read_signal_lists, sound_columns


def read_signals(
    path: str | Path,
    labels: str | None = None,
    column: str | None = None,
    rate: float | None = None,
    channels: int | None = None,
    *,
    id: str | None = None,  # as the command line calls it
    time: str | None = None,
    values: Sequence[str] = (),
    sound: bool | None = None,
) -> SignalSource:
    """Open a collection of sounds or other signals; recordings are not decoded yet.

    Args:
        path: A folder tree of recordings (:class:`SoundFolder`) or one of them; a ``.parquet`` file or a folder of such
            parts, with a column of recordings (:class:`SoundTable`) or of lists (:func:`read_signal_lists`); a ``.npz``
            or ``.npy`` (:func:`read_signal_array`); or, with ``id`` and ``time``, a long table in a file that
            :func:`read_table` reads (:func:`read_long_table`).
        labels: The column or array that holds the classes. A folder's are its sub-folders and are called ``folder``.
        column: The column or array that holds the signals, where several do.
        rate: Samples a second: recordings are resampled to it; of arrays and lists it says what they have.
        channels: That all recordings shall have; None for 1, the mean of theirs. Left out for all else.
        id: The column of a long table that tells its signals apart.
        time: The column of a long table that orders them.
        values: The columns of a long table with the channels; none for all other numbers.
        sound: Whether arrays and lists are sounds, as :class:`GivenSignals` has it.

    Returns:
        The source.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: It holds no signals, no such labels, or an argument does not go with it.
        ImportError: Recordings without soundfile and soxr.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(Path(folder, "steps.npy"), np.zeros((5, 3, 100), np.float32))
        ...     source = read_signals(Path(folder, "steps.npy"), rate=50)
        >>> len(source), source.channels, source.rate
        (5, 3, 50.0)
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(message(f"the file {shown(str(path))}", "exist", "no such file or folder"))
    suffix = path.suffix.lower()
    if id is not None or time is not None:
        if id is None or time is None:
            raise ValueError(message("id and time", "be given together, for a long table", shown((id, time))))
        _left_out("a long table", column=column, rate=rate, channels=channels)
        return read_long_table(path, id, time, values, labels)
    _left_out("signals without an id and a time", values=list(values) or None)
    if path.is_file() and suffix in (".npz", ".npy"):
        _left_out("an array file", channels=channels)
        return read_signal_array(path, labels, column, rate, sound)
    if (path.is_file() and suffix == ".parquet") or (path.is_dir() and any(path.glob("*.parquet"))):
        first = parts_of(path)[0]
        if not sound_columns(first) and (list_columns(first) or (column and channels is None)):
            _left_out("lists of numbers", channels=channels)
            return read_signal_lists(path, labels, column, rate, sound)
        return SoundTable(path, labels, column, _whole(rate), channels or 1)
    rule = f"be a folder or end in .parquet, .npz, .npy or one of {', '.join(SOUNDS)}"
    require(path.is_dir() or is_sound(path.name), f"the file {shown(str(path))}", rule, shown(suffix))
    what, rule = "labels of a folder of recordings", f"be {shown(FOLDER)}: the sub-folders"
    require(labels in (None, FOLDER), what, rule, shown(labels))
    _left_out("a folder of recordings", column=column)
    return SoundFolder(path, _whole(rate), channels or 1)


def is_signals(path: str | Path) -> bool:
    """Whether a file, or the Parquet parts in a folder, are signals; a folder of recordings is found by its names.

    A ``.parquet`` is if a column's first cells are recordings or long lists of numbers, a ``.npz`` by its arrays'
    shapes, a ``.npy`` if it has three axes (with two it may as well be a table), and any other file by its name.

    Raises:
        ValueError: The file is damaged.

    Example:
        >>> is_signals("Dog.wav"), is_signals("dogs.csv")
        (True, False)
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if path.is_dir() or (suffix == ".parquet" and path.is_file()):
        first = parts_of(path)[0]
        return bool(sound_columns(first) or list_columns(first))
    if suffix == ".npz" and path.is_file():
        return holds_signals(shapes_in(path))
    if suffix == ".npy" and path.is_file():
        return axes_of(path) == 3
    return is_sound(path.name)


def are_recordings(path: str | Path) -> bool:
    """Whether signals are encoded as sound, so that they can come at any rate.

    Args:
        path: As :func:`read_signals` takes it.

    Raises:
        ValueError: The file is damaged.

    Example:
        >>> are_recordings("Dog.wav"), are_recordings("dogs.npz")
        (True, False)
    """
    path = Path(path)
    if (path.is_dir() and any(path.glob("*.parquet"))) or (path.is_file() and path.suffix.lower() == ".parquet"):
        return bool(sound_columns(parts_of(path)[0]))
    return path.is_dir() or is_sound(path.name)


def fingerprint_signals(source: SignalSource) -> str:
    """A hash that recognises a collection without decoding it all: of its names and sizes, and of some numbers.

    Args:
        source: The signals.

    Returns:
        32 hexadecimal digits (BLAKE2b of 16 bytes).
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in source.evidence():
        digest.update(part)
    return digest.hexdigest()


def _whole(rate: float | None) -> int | None:
    require(rate is None or float(rate).is_integer(), "rate of recordings", "be a whole number", rate)
    return None if rate is None else int(rate)


def _left_out(what: str, **arguments: Any) -> None:
    for name, value in arguments.items():
        require(value is None, f"{name} of {what}", "be left out", shown(value))
