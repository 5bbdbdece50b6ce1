"""The kinds of a table's columns: what each keeps of the rows it was fitted on, and how it becomes features.

Every kind is a small record of plain values with ``fit(name, cells)``, ``feature_names`` and ``features(cells)``.
Each source column weighs the same: its features have a total variance of about one on the rows of the fit.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, TypeAlias

from vicreg._checks import message, require, shown
from vicreg.data.dates import Date
from vicreg.data.discrete import Discrete
from vicreg.data.numeric import Boolean, Constant, Number
from vicreg.data.words import Category, Text

DAMAGED = "The file is damaged, or of another version."

Column: TypeAlias = Number | Discrete | Boolean | Category | Date | Text | Constant

KINDS: dict[str, type[Column]] = {
    column.kind: column for column in (Number, Boolean, Category, Date, Text, Constant, Discrete)
}


def to_json(column: Column) -> dict[str, Any]:
    """A column's record as plain values that JSON can hold.

    Example:
        >>> to_json(Number("age", 38.5, 13.0, 0.0))
        {'kind': 'number', 'name': 'age', 'mean': 38.5, 'scale': 13.0, 'gaps': 0.0}
    """
    return {"kind": column.kind} | {
        key: list(value) if isinstance(value, tuple) else value for key, value in dataclasses.asdict(column).items()
    }


def from_json(record: object) -> Column:
    """The column of a record, every value checked.

    Raises:
        ValueError: The record is not one that ``to_json`` writes.
    """
    name = record.get("kind") if isinstance(record, dict) else None
    if not isinstance(record, dict) or not isinstance(name, str) or name not in KINDS:
        raise ValueError(message("a column's record", f"be of a kind among {tuple(KINDS)}", shown(record), DAMAGED))
    kind = KINDS[name]
    fields = {field.name: str(field.type) for field in dataclasses.fields(kind)}
    require(
        set(record) == {"kind", *fields}, "a column's record", f"have the keys {tuple(fields)}", shown(record), DAMAGED
    )
    return kind(**{key: _plain(key, record[key], type_name) for key, type_name in fields.items()})


def _plain(key: str, value: object, type_name: str) -> Any:
    """A JSON value as the field's type, or an error."""
    if type_name.startswith("tuple["):
        require(isinstance(value, list), key, "be a list", shown(value), DAMAGED)
        inner = type_name.removeprefix("tuple[").removesuffix(", ...]")
        return tuple(_plain(key, item, inner) for item in value) if isinstance(value, list) else ()
    if type_name == "float" and type(value) is int and abs(value) < 2**53:
        value = float(value)
    allowed = {"str": (str,), "str | None": (str, type(None)), "float": (float,), "int": (int,)}[type_name]
    finite = not isinstance(value, float) or math.isfinite(value)
    require(type(value) in allowed and finite, key, f"be a {type_name}", shown(value), DAMAGED)
    return value
