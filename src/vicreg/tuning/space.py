"""What is searched: settings with their ranges, typed; the default space of each kind; and spaces as YAML has them."""

from __future__ import annotations

import math
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from vicreg import runs
from vicreg._checks import check_number, listed, message, require, shown
from vicreg.training.config import ImageConfig, TableConfig
from vicreg.training.settings import Settings, to_mapping
from vicreg.training.signal_config import SignalConfig
from vicreg.views import VIEWS

Value = bool | int | float | str | None
C = TypeVar("C", bound=Settings)


@dataclass(frozen=True)
class Float:
    """Every number from ``low`` to ``high``; with ``log`` those of each power of ten alike.

    Example:
        >>> 0.0 <= Float(0.0, 1.0).draw(np.random.default_rng(0)) <= 1.0, Float(0.1, 10.0, log=True).holds(1)
        (True, True)
    """

    low: float
    high: float
    log: bool = False

    def draw(self, generator: np.random.Generator) -> float:
        """One of them."""
        if self.log:
            return float(math.exp(generator.uniform(math.log(self.low), math.log(self.high))))
        return float(generator.uniform(self.low, self.high))

    def holds(self, value: object) -> bool:
        """Whether it is one of them."""
        return isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high

    def plain(self) -> dict[str, Any]:
        """As YAML has it."""
        return {"low": self.low, "high": self.high} | ({"log": True} if self.log else {})


@dataclass(frozen=True)
class Integer:
    """Every whole number from ``low`` to ``high``; with ``log`` those of each power of ten alike.

    Example:
        >>> Integer(2, 2).draw(np.random.default_rng(0)), Integer(1, 3).holds(2.5)
        (2, False)
    """

    low: int
    high: int
    log: bool = False

    def draw(self, generator: np.random.Generator) -> int:
        """One of them."""
        if self.log:  # each number has the stretch of half a step on both of its sides
            drawn = math.exp(generator.uniform(math.log(self.low - 0.5), math.log(self.high + 0.5)))
            return min(self.high, max(self.low, round(drawn)))
        return int(generator.integers(self.low, self.high, endpoint=True))

    def holds(self, value: object) -> bool:
        """Whether it is one of them."""
        return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high

    def plain(self) -> dict[str, Any]:
        """As YAML has it."""
        return {"low": self.low, "high": self.high} | ({"log": True} if self.log else {})


@dataclass(frozen=True)
class Choice:
    """One of a few values: numbers, texts, truth values or None; lists are given as tuples.

    Example:
        >>> Choice((64, 128)).draw(np.random.default_rng(0)) in (64, 128), Choice((64, 128)).holds(100)
        (True, False)
    """

    options: tuple[Any, ...]

    def draw(self, generator: np.random.Generator) -> Any:
        """One of them."""
        return self.options[int(generator.integers(len(self.options)))]

    def holds(self, value: object) -> bool:
        """Whether it is one of them."""
        return any(value == option and isinstance(value, bool) == isinstance(option, bool) for option in self.options)

    def plain(self) -> list[Any]:
        """As YAML has it."""
        return [list(option) if isinstance(option, tuple) else option for option in self.options]


Range = Float | Integer | Choice
Space = Mapping[str, Range]

SHAPES = ("encoder", "expander")
"""Settings that are widths of layers, searched as the width and the number of layers that are all alike."""
NOT_SEARCHED = {
    *("seed", "device", "devices", "nodes", "workers", "precision", "max_corrupt", "compile", "channels_last"),
    *("epochs", "weights", "branches"),
}
"""Settings that do not change what is learnt, or that others stand for."""


def default_space(config: Settings) -> dict[str, Range]:
    """The space that is searched around these settings where no other is given.

    Raises:
        ValueError: There is none for settings of this kind.

    Example:
        >>> sorted(default_space(TableConfig()))[:4]
        ['anchor', 'batch_size', 'cov_coeff', 'encoder_depth']
    """
    for kind, space in DEFAULTS.items():
        if isinstance(config, kind):
            return space(config)
    raise ValueError(message("settings", "be of a table, pictures or signals to be tuned", type(config).__name__))


def _weights() -> dict[str, Range]:
    return {
        "sim_coeff": Float(1.0, 100.0, log=True),
        "std_coeff": Float(1.0, 100.0, log=True),
        "cov_coeff": Float(0.04, 25.0, log=True),
        "variance_target": Float(0.5, 2.0, log=True),
    }


def _length(config: Any) -> dict[str, Range]:
    """Optimiser steps and rows of each, half to twice what is usual."""
    found: dict[str, Range] = {"batch_size": Choice(tuple(config.batch_size * k // 2 for k in (1, 2, 4)))}
    if config.steps is not None:
        found["steps"] = Integer(max(1, config.steps // 2), 2 * config.steps, log=True)
    return found


def _around(rate: float) -> Float:
    return Float(rate / 10, rate * 10, log=True)


def _of_tables(config: TableConfig) -> dict[str, Range]:
    return {
        **_weights(),
        "reconstruction": Float(0.1, 100.0, log=True),
        "anchor": Float(0.01, 10.0, log=True),
        "learning_rate": _around(config.learning_rate),
        "weight_decay": Float(1e-4, 1.0, log=True),
        **_length(config),
        "encoder_width": Choice((64, 128, 256)),
        "encoder_depth": Integer(1, 3),
        "expander_width": Choice((64, 128, 256, 512)),
        "expander_depth": Integer(1, 3),
        "views": Choice(("neighbors", "walk", "marginal", "mask", "noise")),
        "view_rate": Float(0.1, 0.7),
    }


def _of_pictures(config: ImageConfig) -> dict[str, Range]:
    return {
        **_weights(),
        "learning_rate": _around(config.learning_rate),
        "weight_decay": Float(1e-6, 1e-2, log=True),
        **_length(config),
        "expander_width": Choice((256, 512, 1024, 2048)),
        "expander_depth": Integer(1, 3),
        "views": Choice(("paper", "cifar", "crop")),
    }


def _of_signals(config: SignalConfig) -> dict[str, Range]:
    return {
        **_weights(),
        "learning_rate": _around(config.learning_rate),
        "weight_decay": Float(1e-6, 1e-1, log=True),
        **_length(config),
        "expander_width": Choice((256, 512, 1024)),
        "expander_depth": Integer(1, 3),
    }


DEFAULTS: dict[type, Callable[[Any], dict[str, Range]]] = {
    TableConfig: _of_tables,
    ImageConfig: _of_pictures,
    SignalConfig: _of_signals,
}


def searchable(kind: type) -> dict[str, Any]:
    """From the names of what can be searched of settings of this kind to their types.

    Example:
        >>> searchable(TableConfig)["encoder_depth"], "seed" in searchable(TableConfig)
        (<class 'int'>, False)
    """
    types = typing.get_type_hints(kind)
    found = {field.name: types[field.name] for field in fields(kind) if field.name not in NOT_SEARCHED}
    for name in SHAPES:
        if _of_widths(types[name]):
            found |= {f"{name}_width": int, f"{name}_depth": int}
    return found


def check_space(space: Mapping[str, Any], kind: type) -> dict[str, Range]:
    """A space whose parameters are settings of this kind, each with a range that is not empty.

    Args:
        space: From names to ranges.
        kind: The settings' dataclass.

    Raises:
        TypeError: It is no mapping, or a range is none.
        ValueError: A parameter that there is not, an empty range, or one that does not suit the parameter.

    Example:
        >>> check_space({"learning_rat": Float(1e-4, 1e-2)}, TableConfig)
        Traceback (most recent call last):
        ValueError: a parameter of the space must be a setting that can be searched; got 'learning_rat'. ...
    """
    mapping = isinstance(space, Mapping)
    got = type(space).__name__
    require(mapping, "a space", "be a mapping of parameters to ranges", got, error=TypeError)
    require(len(space) > 0, "a space", "have a parameter to search", "none")
    known = searchable(kind)
    for name, one in space.items():
        require(
            name in known,
            "a parameter of the space",
            "be a setting that can be searched",
            shown(name),
            near(name, known),
        )
        what = f"the range of {name}"
        ranges = isinstance(one, Float | Integer | Choice)
        require(ranges, what, "be a Float, an Integer or a Choice", shown(one), error=TypeError)
        if isinstance(one, Choice):
            require(len(one.options) > 0, what, "hold an option at least", "none")
            continue
        check_number(f"{what}: low", one.low)
        check_number(f"{what}: high", one.high)
        require(one.low <= one.high, what, "go from low to high", f"{one.low:g} to {one.high:g}", "It is empty.")
        require(not one.log or one.low > 0, what, "begin above 0 on a logarithmic scale", f"{one.low:g}")
        whole = _of_type(known[name], int) and not _of_type(known[name], float)
        numbers = whole or _of_type(known[name], float)
        require(numbers, what, "be a Choice", type(one).__name__, f"{name} is no number.")
        require(not whole or isinstance(one, Integer), what, "be an Integer or a Choice", type(one).__name__)
    for name in SHAPES:
        parts = {name, f"{name}_width", f"{name}_depth"} & set(space)
        fix = f"Search {name}, or its width and depth."
        require(name not in parts or len(parts) == 1, "a space", f"give {name} once", listed(sorted(parts)), fix)
    return dict(space)


def near(name: object, known: Sequence[str] | Mapping[str, object]) -> str:
    """A hint at what was meant.

    Example:
        >>> near("stesp", ["steps", "views"])
        "Did you mean 'steps'?"
    """
    close = get_close_matches(str(name), list(known), 1)
    return f"Did you mean {close[0]!r}?" if close else f"There are {listed(sorted(known), len(known))}."


def read_space(path: Path, kind: type) -> tuple[dict[str, Range], dict[str, Any]]:
    """A space from a YAML file, and the settings that it fixes.

    ``name: {low: 1, high: 3}``, with ``log: true`` where each power of ten is to count alike; ``name: [64, 128]`` for
    a choice; ``name: 0.5`` for a setting that is not searched.

    Args:
        path: The file.
        kind: The settings' dataclass.

    Returns:
        The space, and the fixed settings by name.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no YAML, or holds no space.
    """
    where = f"the file {shown(str(path))}"
    if not path.exists():
        raise FileNotFoundError(message(where, "exist", "no such file"))
    try:
        found = runs.read_yaml(path)
    except ValueError as failure:
        got = " ".join(str(failure.__cause__ or "no mapping of names to ranges").split())
        example = "learning_rate: {low: 0.0001, high: 0.01, log: true}"
        raise ValueError(message(where, f"hold a space as YAML, such as {example}", shown(got))) from failure
    return parsed(found, kind)


def parsed(found: Mapping[str, Any], kind: type) -> tuple[dict[str, Range], dict[str, Any]]:
    """The same from plain values.

    Example:
        >>> parsed({"steps": {"low": 10, "high": 100}, "views": ["mask", "noise"], "anchor": 0}, TableConfig)
        ({'steps': Integer(low=10, high=100, log=False), 'views': Choice(options=('mask', 'noise'))}, {'anchor': 0})
    """
    known = searchable(kind)
    space: dict[str, Range] = {}
    fixed: dict[str, Any] = {}
    for name, value in found.items():
        require(
            name in known,
            "a parameter of the space",
            "be a setting that can be searched",
            shown(name),
            near(name, known),
        )
        if isinstance(value, dict):
            space[name] = _range(name, value, known[name])
        elif isinstance(value, list):
            options = [tuple(one) if isinstance(one, list) else _number(one) for one in value]
            space[name] = Choice(tuple(options))
        else:
            fixed[name] = _number(value)
    return check_space(space, kind), fixed


def _range(name: str, value: dict[str, Any], kind: Any) -> Float | Integer:
    what = f"the range of {name}"
    lacking, more = {"low", "high"} - set(value), set(value) - {"low", "high", "log"}
    require(not lacking and not more, what, "have low, high and, if need be, log", shown(value))
    low, high, log = _number(value["low"]), _number(value["high"]), value.get("log", False)
    require(isinstance(log, bool), f"{what}: log", "be true or false", shown(log))
    for end, given in (("low", low), ("high", high)):
        check_number(f"{what}: {end}", given)
    whole = _of_type(kind, int) and not _of_type(kind, float)
    if whole:
        ints = type(low) is int and type(high) is int
        require(ints, what, "go from one whole number to another", f"{shown(low)} to {shown(high)}")
        return Integer(low, high, log)
    return Float(float(low), float(high), log)


def _number(value: Any) -> Any:
    """YAML 1.1 takes 1e-3 for a text."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _of_type(kind: Any, wanted: type) -> bool:
    return kind is wanted or wanted in typing.get_args(kind)


def _of_widths(kind: Any) -> bool:
    return any(
        typing.get_origin(one) is tuple and typing.get_args(one)[0] is int for one in (kind, *typing.get_args(kind))
    )


def plain_space(space: Space) -> dict[str, Any]:
    """As YAML has it.

    Example:
        >>> plain_space({"steps": Integer(10, 100), "views": Choice(("mask", "noise"))})
        {'steps': {'low': 10, 'high': 100}, 'views': ['mask', 'noise']}
    """
    return {name: one.plain() for name, one in space.items()}


def draw(space: Space, generator: np.random.Generator) -> dict[str, Any]:
    """A value for every parameter.

    Example:
        >>> draw({"steps": Integer(5, 5)}, np.random.default_rng(0))
        {'steps': 5}
    """
    return {name: one.draw(generator) for name, one in space.items()}


def with_values(config: C, values: Mapping[str, Any]) -> C:
    """The settings with these values of parameters.

    A strength where the view takes none of that kind (a walk has a length, identity nothing) is left out.

    Raises:
        ValueError: A value is out of a setting's range.

    Example:
        >>> found = with_values(TableConfig(), {"encoder_width": 32, "encoder_depth": 3, "steps": 7})
        >>> found.encoder, found.steps, found.expander
        ((32, 32, 32), 7, (256, 256))
    """
    chosen = dict(values)
    for name in SHAPES:
        own = _shape(getattr(config, name, None))
        if {f"{name}_width", f"{name}_depth"} & set(chosen):
            width, depth = (chosen.pop(f"{name}_{part}", own[part]) for part in ("width", "depth"))
            chosen[name] = (width,) * depth
    if isinstance(config, TableConfig) and "view_rate" in chosen and chosen.get("views", config.views) in WITHOUT_RATE:
        chosen["view_rate"] = None
    return replace(config, **chosen).check()  # type: ignore[type-var, no-any-return]  # a dataclass


WITHOUT_RATE = ("walk", "identity")


def values_of(config: Settings, space: Space) -> dict[str, Any]:
    """The values that these settings have themselves, of the parameters whose range holds them.

    Example:
        >>> space = {"steps": Integer(1, 2000), "encoder_width": Choice((64,)), "view_rate": Float(0, 1)}
        >>> values_of(TableConfig(), space)
        {'steps': 1200, 'view_rate': 0.5}
    """
    plain = to_mapping(config)
    for name in SHAPES:
        plain |= {f"{name}_{part}": value for part, value in _shape(getattr(config, name, None)).items()}
    if isinstance(config, TableConfig) and config.view_rate is None and config.views not in WITHOUT_RATE:
        plain["view_rate"] = next(iter(vars(VIEWS[config.views]()).values()))
    plain = {name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()}
    return {name: plain[name] for name, one in space.items() if name in plain and one.holds(plain[name])}


def _shape(widths: object) -> dict[str, int]:
    """The first layer's width and the number of layers; two of 256 where none are named."""
    given = widths if isinstance(widths, tuple) and widths and isinstance(widths[0], int) else (256, 256)
    return {"width": given[0], "depth": len(given)}
