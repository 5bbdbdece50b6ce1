"""Checks of what a user passes in, and the one form of error message.

Every message reads ``{what} must {rule}; got {value}. {fix}``, so that a reader learns which argument is wrong,
what it should be, what it was, and what to do about it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

LONGEST_SHOWN = 120


def message(what: str, rule: str, got: object, fix: str = "") -> str:
    """Put a complaint into the package's one form.

    Args:
        what: The argument, column or file that is wrong, by the name the user knows it by.
        rule: What it must do or be, completing "``what`` must ...".
        got: The offending value, shown as text (no quotes are added).
        fix: One sentence that says what to do; may be empty.

    Returns:
        The text of the error.

    Example:
        >>> message("batch_size", "be at least 2", 1, "Variance needs two rows.")
        'batch_size must be at least 2; got 1. Variance needs two rows.'
    """
    return f"{what} must {rule}; got {got}.{' ' + fix if fix else ''}"


def require(
    condition: bool,
    what: str,
    rule: str,
    got: object,
    fix: str = "",
    error: type[Exception] = ValueError,
) -> None:
    """Raise ``error`` with the package's one form of message unless ``condition`` holds.

    Example:
        >>> require(0 > 1, "steps", "be at least 1", 0)
        Traceback (most recent call last):
        ValueError: steps must be at least 1; got 0.
    """
    if not condition:
        raise error(message(what, rule, got, fix))


def shown(value: object) -> str:
    r"""A value from data (a column's name, a cell, a path) as one safe, short line.

    Control characters are escaped and long text is cut, so that a hostile column name can neither forge a line
    of output nor flood it.

    Example:
        >>> print(shown("a\nb"))
        'a\nb'
    """
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 4] + "..." + text[-1]


def listed(names: Iterable[object], most: int = 5) -> str:
    """A few names as text, the rest as a count.

    Example:
        >>> listed(["a", "b", "c"], most=2)
        "'a', 'b' and 1 more"
    """
    every = list(names)
    text = ", ".join(shown(name) for name in every[:most])
    return text if len(every) <= most else f"{text} and {len(every) - most} more"


def near(name: object, known: Iterable[str]) -> str:
    """A question after the names that somebody may have meant; empty where none is like it.

    Example:
        >>> near("digits", ["who", "digit"]), near("digits", ["who"])
        ("Is 'digit' meant?", '')
    """
    alike = get_close_matches(str(name), list(dict.fromkeys(known)), n=3)
    return f"Is {' or '.join(map(shown, alike))} meant?" if alike else ""


def check_number(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    open_low: bool = False,
) -> float:
    """A finite real number within ``[low, high]`` (``(low, high]`` with ``open_low``).

    Returns:
        The number as a float.

    Raises:
        TypeError: It is no number.
        ValueError: It is not finite or out of range.
    """
    number = isinstance(value, (int, float)) or (hasattr(value, "__float__") and getattr(value, "ndim", 0) == 0)
    require(number and not isinstance(value, bool | str), name, "be a number", shown(value), error=TypeError)
    value = float(value)
    bounds = f"be a finite number {'above' if open_low else 'of at least'} {low:g}"
    bounds = bounds if high == math.inf else f"{bounds} and at most {high:g}"
    bounds = "be a finite number" if low == -math.inf and high == math.inf else bounds
    inside = math.isfinite(value) and (value > low if open_low else value >= low) and value <= high
    require(inside, name, bounds, value)
    return float(value)


def check_integer(name: str, value: Any, low: int, high: int | None = None) -> int:
    """A whole number within ``[low, high]``.

    Returns:
        The number as an int.

    Raises:
        TypeError: It is no whole number.
        ValueError: It is out of range.
    """
    whole = hasattr(value, "__index__") and not isinstance(value, bool)
    require(whole, name, "be a whole number", shown(value), error=TypeError)
    value = int(value)
    rule = f"be at least {low}" if high is None else f"lie between {low} and {high}"
    require(value >= low and (high is None or value <= high), name, rule, value)
    return int(value)


def check_choice(name: str, value: object, choices: Iterable[str]) -> str:
    """One of a few names.

    Returns:
        The name.

    Raises:
        ValueError: It is none of them.
    """
    known = sorted(choices)
    require(isinstance(value, str) and value in known, name, f"be one of {listed(known, 20)}", shown(value))
    return str(value)
