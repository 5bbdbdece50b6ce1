"""Signals as an array in a ``.npz`` or ``.npy`` file: all of one length, or one behind the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vicreg._checks import listed, near, require, shown
from vicreg.data.arrays import LABELS, TABLES, Shapes, damaged, file_in_words, in_words, shapes_in
from vicreg.data.signal_given import GivenSignals, cut_up

WAVES = ("x_train", "X_train", "train_x", "x", "X", "data", "wave", "waves", "audio", "signal", "signals", "series")
"""Which array is meant where several hold signals: the first of these names."""
OFFSETS = ("offset", "offsets")
RATES = ("rate", "sr", "fs", "sample_rate", "sampling_rate")


def read_signal_array(
    path: str | Path,
    labels: str | None = None,
    column: str | None = None,
    rate: float | None = None,
    sound: bool | None = None,
) -> GivenSignals:
    """Signals that an array file holds, kept in memory with the type they have there.

    Args:
        path: A ``.npz`` or ``.npy`` file. Nothing in it is unpickled. The signals are (n, time) or (n, channels, time);
            or they differ in length and lie one behind the other in an array (total,) or (channels, total), with an
            array ``offset`` (n + 1,) of where each begins and where the last one ends.
        labels: The array that holds their classes; None for the one whose name goes with the signals' (``y_train`` with
            ``x_train``), or which is called ``y`` or ``labels``, if there is one.
        column: The array that holds the signals; None for the only one that can, or the first of ``WAVES``.
        rate: Samples a second; None for the number in the file that is called ``rate``, ``sr``, ``fs``,
            ``sample_rate`` or ``sampling_rate``, if there is one.
        sound: Whether these are sounds, as :class:`GivenSignals` has it.

    Raises:
        ValueError: There is no such array, or the file is damaged.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "spoken.npz")
        ...     np.savez(path, wave=np.zeros(9, np.int16), offset=[0, 4, 9], sr=8000, digit=[7, 3])
        ...     source = read_signal_array(path, labels="digit")
        >>> source.length(1), source.rate, source.labels.tolist()
        (5, 8000.0, [7, 3])
    """
    path = Path(path)
    if path.suffix.lower() == ".npy":
        return _of_one_array(path, labels, column, rate, sound)
    shapes = shapes_in(path)
    key, offset = _chosen(path, shapes, column)
    count = shapes[offset][0][0] - 1 if offset else shapes[key][0][0]
    beside = labels or _beside(key, shapes, count)
    if beside is not None:
        right = beside in shapes and shapes[beside][0] == (count,) and shapes[beside][1].kind in "biuUS"
        rule = f"hold a class for each of {count} signals in {shown(beside)}"
        require(right, file_in_words(path), rule, in_words(shapes), "" if beside in shapes else near(beside, shapes))
    try:
        with np.load(path, allow_pickle=False) as archive:
            array = archive[key]
            places = archive[offset] if offset else None
            classes = None if beside is None else archive[beside]
    except Exception as error:  # as varied as what damages a file
        raise damaged(path, error) from error
    signals = array if places is None else cut_up(array, places, f"{shown(offset)} of {file_in_words(path)}")
    return GivenSignals(signals, classes, rate_in(path) if rate is None else rate, sound=sound)


def rate_in(path: str | Path) -> float | None:
    """Samples a second that a file says its arrays have; None where it is no ``.npz``, or says nothing.

    Raises:
        ValueError: The file is damaged.

    Example:
        >>> rate_in("steps.npy") is None
        True
    """
    path = Path(path)
    if path.suffix.lower() != ".npz" or not path.is_file():
        return None
    shapes = shapes_in(path)
    told = next((name for name in RATES if shapes.get(name, (None,))[0] == () and shapes[name][1].kind in "iuf"), None)
    try:
        with np.load(path, allow_pickle=False) as archive:
            return float(archive[told]) if told else None
    except Exception as error:  # as varied as what damages a file
        raise damaged(path, error) from error


def holds_signals(shapes: Shapes) -> bool:
    """Whether a ``.npz`` with these arrays is signals: not if it may as well be a table or pictures.

    Example:
        >>> holds_signals({"x": ((100, 3, 50), np.dtype("float32")), "y": ((100,), np.dtype("int64"))})
        True
        >>> holds_signals({"x": ((100, 28, 28), np.dtype("uint8"))}), holds_signals({"x": ((100, 50), np.dtype("f4"))})
        (False, False)
    """
    told = any(shapes.get(name, (None,))[0] == () for name in RATES)
    table = any(name in shapes and len(shapes[name][0]) == 2 for name in TABLES)
    fitting = [one for key, one in shapes.items() if _fits(*one) or _offset_of(key, shapes)]
    several = [shape for shape, dtype in fitting if len(shape) == 3 and dtype != np.uint8]
    ragged = any(_offset_of(key, shapes) for key in shapes)
    return ragged or (told and bool(fitting)) or (not table and bool(several))


def _of_one_array(
    path: Path, labels: str | None, column: str | None, rate: float | None, sound: bool | None
) -> GivenSignals:
    for name, value in (("labels", labels), ("column", column)):
        require(value is None, f"{name} of a .npy file", "be left out", shown(value), "A .npz can hold several arrays.")
    try:
        with path.open("rb") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:  # as varied as what damages a file
        raise damaged(path, error) from error
    rule = "hold numbers of shape (n, time) or (n, channels, time)"
    require(_fits(array.shape, array.dtype), file_in_words(path), rule, f"{array.shape} {array.dtype}")
    return GivenSignals(array, rate=rate, sound=sound)


def _fits(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    return len(shape) in (2, 3) and dtype.kind in "iuf" and 0 not in shape


def _offset_of(key: str, shapes: Shapes) -> str | None:
    """The array of offsets that goes with a long one, if it is one."""
    shape, dtype = shapes[key]
    if len(shape) not in (1, 2) or dtype.kind not in "iuf" or key in OFFSETS:
        return None
    for name in OFFSETS:
        other, kind = shapes.get(name, ((), np.dtype(bool)))
        if len(other) == 1 and kind.kind in "iu" and 1 < other[0] <= shape[-1] and shape[-1] > 2 * other[0]:
            return name
    return None


def _chosen(path: Path, shapes: Shapes, column: str | None) -> tuple[str, str | None]:
    """The array of signals, and that of its offsets if it has one."""
    ragged = [key for key in shapes if _offset_of(key, shapes)]
    fitting = ragged or [key for key, one in shapes.items() if _fits(*one)]
    rule = "hold signals as numbers of shape (n, time) or (n, channels, time), or with an array 'offset'"
    if column is not None:
        require(column in fitting, file_in_words(path), f"{rule} in {shown(column)}", in_words(shapes))
        return column, _offset_of(column, shapes)
    require(len(fitting) > 0, file_in_words(path), rule, in_words(shapes))
    chosen = fitting if len(fitting) == 1 else [key for key in WAVES if key in fitting][:1]
    fix = f"Call the one that is meant {shown(WAVES[0])}."
    require(len(chosen) > 0, file_in_words(path), "hold one array of signals", listed(fitting), fix)
    return chosen[0], _offset_of(chosen[0], shapes)


def _beside(key: str, shapes: Shapes, count: int) -> str | None:
    """The array of labels that goes with an array of signals."""
    paired = [key.replace(*pair) for pair in (("x", "y"), ("X", "y"), ("X", "Y")) if pair[0] in key]
    named = [name for name in (*paired, *LABELS) if shapes.get(name, (None,))[0] == (count,)]
    return next((name for name in named if shapes[name][1].kind in "biuUS"), None)
