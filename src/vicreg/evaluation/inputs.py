"""What a comparison is given, checked: representations, labels, and whether labels are classes or numbers."""

from __future__ import annotations

import numbers
import warnings
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from vicreg._checks import require, shown

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
Task = Literal["classification", "regression"]

MOST_NUMERIC_CLASSES = 30


def name_of(representation: str) -> str:
    r"""A representation's name as one safe line, without quotes.

    Example:
        >>> print(name_of("my\nembedding"))
        my\nembedding
    """
    return shown(representation)[1:-1]


def check_representation(name: str, values: Any) -> FloatArray:
    """A representation as a finite float64 matrix with one row per sample.

    Args:
        name: What to call it in a message.
        values: (n, k) numbers: a tensor of any device and floating type, or anything that ``numpy.asarray`` takes.

    Returns:
        (n, k), a view of ``values`` where possible.

    Raises:
        TypeError: The values are no real numbers.
        ValueError: The shape is not (n, k) with n, k >= 1, or a value is NaN or infinite.

    Example:
        >>> check_representation("pca", [[1, 2], [3, 4]])
        array([[1., 2.],
               [3., 4.]])
    """
    array = values.detach().cpu().to(torch.float64).numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    fix = (
        "Pool or flatten further axes first."
        if array.ndim > 2
        else "One row per sample: use reshape(-1, 1) for one column."
    )
    require(array.ndim == 2 and array.size > 0, name, "be a matrix (rows, numbers per row)", array.shape, fix)
    if array.dtype == object:
        array = _as_floats(name, array)
    require(array.dtype.kind in "biuf", name, "hold real numbers", f"dtype {array.dtype}", error=TypeError)
    array = array.astype(np.float64, copy=False)
    finite = np.isfinite(array)
    got = f"{finite.size - np.count_nonzero(finite)} that are NaN or infinite"
    require(bool(finite.all()), name, "hold finite numbers only", got, "Fill or drop them first.")
    return array


def as_features(name: str, values: Any) -> torch.Tensor:
    """Features as a real (n, k) tensor that shares their memory, of the type and on the device they come in.

    Unlike `check_representation` it makes no float64 copy, which 60,000 rows cannot spare; whether all values are
    finite shows where they are used.

    Args:
        name: What to call them in a message.
        values: A tensor, or anything that ``numpy.asarray`` takes.

    Raises:
        TypeError: The values are no real numbers.
        ValueError: The shape is not (n, k) with n, k >= 1.

    Example:
        >>> as_features("h", np.array([[1, 2]], dtype=np.uint8))
        tensor([[1, 2]], dtype=torch.uint8)
    """
    if isinstance(values, torch.Tensor):
        tensor = values.detach()
        require(not tensor.is_complex(), name, "hold real numbers", f"dtype {tensor.dtype}", error=TypeError)
    else:
        array = np.asarray(values)
        require(array.dtype.kind in "biuf", name, "hold real numbers", f"dtype {array.dtype}", error=TypeError)
        if min(array.strides, default=0) < 0 or not array.dtype.isnative:  # what torch cannot share
            array = np.array(array, dtype=array.dtype.newbyteorder("="))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)  # nobody writes
            tensor = torch.from_numpy(array)
    shape = tuple(tensor.shape)
    require(tensor.ndim == 2 and tensor.numel() > 0, name, "be a matrix (rows, numbers per row)", shape)
    return tensor


def check_codes(codes: Any, rows: int, classes: int) -> IntArray:
    """Classes as numbers from 0 to ``classes - 1``, on the CPU.

    Raises:
        TypeError: They are no whole numbers.
        ValueError: Another number of rows, or a class out of range.

    Example:
        >>> check_codes(torch.tensor([0, 2]), rows=2, classes=3).tolist()
        [0, 2]
    """
    array = codes.cpu().numpy() if isinstance(codes, torch.Tensor) else np.asarray(codes)
    whole = array.dtype.kind in "iu"
    fix = "Number the classes from 0; numbers to predict are no classes."
    require(whole, "codes", "be whole numbers, one per class", f"dtype {array.dtype}", fix, TypeError)
    require(array.shape == (rows,), "codes", f"be one for each of the {rows} rows", f"shape {array.shape}")
    within = rows > 0 and array.min() >= 0 and array.max() < classes
    got = f"{array.min()} to {array.max()}" if rows else "none"
    require(bool(within), "codes", f"lie between 0 and {classes - 1}", got)
    return array.astype(np.intp)


def conditioned(values: FloatArray) -> FloatArray:
    """The same points, centred on zero and within a unit: no distance's ratio to another changes.

    Every score here is blind to a common shift and scale, but its arithmetic is not: squares of 1e200 overflow,
    and distances between points far from the origin cancel.

    Example:
        >>> conditioned(np.array([[1e200], [3e200]])).round(9).tolist()
        [[-1.0], [1.0]]
    """
    largest = np.abs(values).max()
    scaled = values / largest if largest > 0 else values
    centred: FloatArray = scaled - scaled.mean(0)
    spread = np.abs(centred).max()
    return centred / spread if spread > 0 else centred


def check_labels(labels: Any, rows: int) -> NDArray[Any]:
    """Labels as a vector of ``rows`` present values: numbers where all are numbers, else as they are.

    Raises:
        TypeError: The labels are dates, complex numbers, or values that cannot be told apart.
        ValueError: Another shape or length, a missing value, or an infinite one.

    Example:
        >>> check_labels(np.array([1, 2.5], dtype=object), 2)
        array([1. , 2.5])
    """
    array = np.asarray(labels)
    require(array.ndim == 1, "labels", "be one column", f"shape {array.shape}", "Give one label per row.")
    require(len(array) == rows, "labels", f"be as many as the representations' {rows} rows", len(array))
    require(
        array.dtype.kind in "biufOUST",
        "labels",
        "be numbers, texts or booleans",
        f"dtype {array.dtype}",
        error=TypeError,
    )
    if array.dtype.kind in "OT":
        array = array.astype(object)
        missing = sum(map(_is_missing, array))
    else:
        missing = int(np.isnan(array).sum()) if array.dtype.kind == "f" else 0
    fix = "Leave these rows out of the labels and of every representation."
    require(missing == 0, "labels", "have a value in every row", f"{missing} missing of {rows}", fix)
    if array.dtype == object and all(map(_is_number, array)):
        array = _as_floats("labels", array)
    if array.dtype.kind == "f":
        require(bool(np.isfinite(array).all()), "labels", "be finite", "an infinite value", fix)
    return array


def infer_task(labels: Any) -> Task:
    """Whether labels are classes or numbers to predict.

    Texts, booleans and other objects are classes. Numbers are classes as well if they take at most 30 distinct
    values, and if they are whole or, with fractions, half as many as there are rows; else they are targets of a
    regression. No such rule is always right (a hundred classes numbered 0 to 99 read as amounts), which is why
    every caller can name the task instead.

    Args:
        labels: (n,) values.

    Returns:
        ``"classification"`` or ``"regression"``.

    Example:
        >>> infer_task(["cat", "dog", "cat"]), infer_task([0, 1, 1, 2]), infer_task([0.12, 3.4, 5.61])
        ('classification', 'classification', 'regression')
    """
    array = np.asarray(labels)
    array = check_labels(array, len(array) if array.ndim else 0)
    if array.dtype.kind not in "iuf" or len(array) == 0:
        return "classification"
    distinct = len(np.unique(array))
    fractions = bool((array != np.floor(array)).any())
    amounts = distinct > MOST_NUMERIC_CLASSES or (fractions and distinct > len(array) / 2)
    return "regression" if amounts else "classification"


def class_codes(labels: NDArray[Any]) -> IntArray:
    """Classes numbered from 0 (in sorted order; mixed objects in order of appearance).

    Raises:
        TypeError: A label cannot be told apart from others (a list, a dict).

    Example:
        >>> class_codes(np.array(["b", "a", "b"])).tolist()
        [1, 0, 1]
    """
    if labels.dtype != object:
        return np.unique(labels, return_inverse=True)[1].astype(np.intp)
    first: dict[object, int] = {}
    for label in labels:
        known = getattr(type(label), "__hash__", None) is not None
        require(known, "labels", "be single values", f"a {type(label).__name__}", error=TypeError)
        first.setdefault(label, len(first))
    return np.array([first[label] for label in labels], dtype=np.intp)


def _is_missing(value: object) -> bool:
    """None, NaN, and pandas' NaT and NA (whose comparison is neither true nor false)."""
    try:
        return value is None or bool(value != value)
    except (TypeError, ValueError):
        return not isinstance(value, np.ndarray)


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Number) and not isinstance(value, (bool, np.bool_, complex))


def _as_floats(name: str, array: NDArray[Any]) -> FloatArray:
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        require(False, name, "hold real numbers", "objects that are none", error=TypeError)
        raise
