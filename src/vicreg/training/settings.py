"""Settings as frozen dataclasses, and as plain values for YAML."""

from __future__ import annotations

import re
import typing
from dataclasses import asdict, fields
from typing import Any, Literal, Protocol, TypeVar

from vicreg._checks import check_integer, check_number, listed, message, require, shown

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]

COEFFICIENTS = ("sim_coeff", "std_coeff", "cov_coeff", "variance_target")
COUNTS = {"batch_size": 2, "accumulate": 1}
SAME_FOLDER = "same-folder"
"""In place of a recipe of views: two samples of one folder are the two views."""

LARGEST_SEED = 2**63 - 2
"""PyTorch's generators take one more; the seed after a run's own serves a second run."""


class Settings(Protocol):
    """A frozen dataclass that checks itself."""

    def check(self) -> Any:
        """The settings themselves, if each is within its range."""


S = TypeVar("S", bound=Settings)

LISTS = {int: "whole numbers", float: "numbers", str: "texts"}


def check_types(settings: Settings) -> None:
    """Check that every setting is of the type that it is declared with.

    Raises:
        ValueError: One is not.
    """
    for name, kind in typing.get_type_hints(type(settings)).items():
        _checked(name, getattr(settings, name), kind)


def check_ranges(
    settings: Settings,
    from_zero: typing.Sequence[str] = (),
    above_zero: typing.Sequence[str] = (),
    widths: typing.Sequence[str] = (),
    whole: typing.Mapping[str, int] | None = None,
) -> None:
    """Check numbers, unless they are None: those of at least 0, those above 0, widths of layers, and whole numbers.

    Args:
        settings: What has them.
        from_zero: Names of numbers of at least 0.
        above_zero: Names of numbers above 0.
        widths: Names of tuples of widths.
        whole: The least value of each whole number.

    Raises:
        ValueError: One is out of its range.
    """
    given = {name: value for name in vars(settings) if (value := getattr(settings, name)) is not None}
    for name in set(from_zero) & set(given):
        check_number(name, given[name], 0)
    for name in set(above_zero) & set(given):
        check_number(name, given[name], 0, open_low=True)
    for name in set(widths) & set(given):
        for width in given[name]:
            check_integer(f"each width in {name}", width, 1)
    for name, least in (whole or {}).items():
        if name in given:
            check_integer(name, given[name], least)


def check_micro_batches(batch_size: int, accumulate: int, processes: int = 1) -> None:
    """Check that every micro-batch of each process has two samples.

    Raises:
        ValueError: One has not.
    """
    each = f" / {processes} devices" if processes > 1 else ""
    rule, fix = f"be at most half of batch_size = {batch_size}{each}", "Batch norm needs two rows in a micro-batch."
    require(2 * accumulate * processes <= batch_size, "accumulate", rule, accumulate, fix)


def check_batches(batch_size: int, accumulate: int, processes: int) -> None:
    """Check that a batch can be dealt out to several processes, and cut into micro-batches.

    Raises:
        ValueError: It cannot.
    """
    least, rule = 2 * processes, f"be a multiple of devices * nodes = {processes}, at least twice that"
    require(batch_size >= least and batch_size % processes == 0, "batch_size", rule, batch_size)
    check_micro_batches(batch_size, accumulate, processes)


def check_device(name: str) -> str:
    """The name of a device, which this machine may have or not.

    Raises:
        ValueError: It is none that a run can be on.
    """
    rule, fix = "be auto, cpu, cuda, cuda:N or mps", "Try device='cpu'."
    require(re.fullmatch(r"auto|cpu|cuda(:\d+)?|mps", name) is not None, "device", rule, shown(name), fix)
    return name


def to_mapping(config: Settings) -> dict[str, Any]:
    """The settings as plain values, for YAML.

    Example:
        >>> from vicreg.training.config import TableConfig
        >>> to_mapping(TableConfig(encoder=(64,)))["encoder"]
        [64]
    """
    plain: dict[str, Any] = asdict(config)  # type: ignore[call-overload]  # a dataclass
    return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}


def from_mapping(values: object, kind: type[S]) -> S:
    """Settings from a mapping, such as parsed YAML or JSON; what it leaves out is at its default.

    Args:
        values: The mapping.
        kind: The dataclass.

    Raises:
        ValueError: An unknown name, or a value of another type than the setting's.

    Example:
        >>> from vicreg.training.config import TableConfig
        >>> from_mapping({"steps": 10}, TableConfig).steps
        10
        >>> from_mapping({"stesp": 10}, TableConfig)
        Traceback (most recent call last):
        ValueError: a setting must be one of ...
    """
    if not isinstance(values, dict):
        raise ValueError(message("settings", "be a mapping of names to values", shown(values)))
    types = typing.get_type_hints(kind)
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]  # a dataclass
    checked: dict[str, Any] = {}
    for name, value in values.items():
        require(name in names, "a setting", f"be one of {listed(names, len(names))}", shown(name))
        checked[name] = _checked(str(name), value, types[str(name)])
    return kind(**checked).check()  # type: ignore[no-any-return]


def _checked(name: str, value: Any, kind: Any) -> Any:
    options = typing.get_args(kind)
    if type(None) in options:
        if value is None:
            return None
        kind = next((one for one in options if typing.get_origin(one) is tuple), kind)
    if typing.get_origin(kind) is tuple:
        of = typing.get_args(kind)[0]
        values = [value] if of is str and isinstance(value, str) else value
        fits = isinstance(values, list | tuple) and all(type(one) in (of, int if of is float else of) for one in values)
        require(fits, name, f"be a list of {LISTS[of]}", shown(value))
        return tuple(map(of, values))
    if typing.get_origin(kind) is Literal:
        require(value in typing.get_args(kind), name, f"be one of {listed(typing.get_args(kind))}", shown(value))
        return value
    accepted = typing.get_args(kind) or (kind,)
    if float in accepted and type(value) is int:
        value = float(value)
    require(type(value) in accepted, name, f"be of type {_named(accepted)}", shown(value))
    return value


def _named(accepted: tuple[type, ...]) -> str:
    return " or ".join("None" if one is type(None) else one.__name__ for one in accepted)
