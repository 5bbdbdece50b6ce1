"""What was typed after `vicreg fit`, as far as it decides on which flags there are: its sources and their kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from vicreg import workflows
from vicreg._checks import check_choice, require, shown
from vicreg.data import is_url, kind_of, source_name
from vicreg.runs import Run
from vicreg.training.config import CONFIGS
from vicreg.training.recipes import RECIPES
from vicreg.training.settings import Settings
from vicreg.workflows import Reading

C = TypeVar("C", bound=Settings)

SWITCHES = ("resume", "stop-on-collapse", "watch")
HELP = ("-h", "--help")
SIGNAL_FLAGS = ("--time", "--values", "--rate", "--channels")
"""What could be a table is a collection of signals beside one of these."""


def wants_help(given: Sequence[str]) -> bool:
    """Whether help is asked for."""
    return bool(set(HELP) & set(given))


def help_first(given: list[str]) -> list[str]:
    """A plea for help alone: beside arguments, help would be without them."""
    return [*given[:1], "--help"] if wants_help(given) and not given[0].startswith("-") else given


def with_values(given: Sequence[str]) -> list[str]:
    """The words with what flags alone mean that may be left to the program: on, or off after ``no-``.

    Example:
        >>> with_values(["fit", "a.csv", "b.csv", "--no-aligned", "--steps", "3"])
        ['fit', 'a.csv', 'b.csv', '--aligned', 'False', '--steps', '3']
    """
    words: list[str] = []
    for word, after in zip(given, [*given[1:], ""], strict=True):
        name = word.removeprefix("--no-").removeprefix("--")
        choice = word.startswith("--") and name in _choices() and after not in ("True", "False", "None")
        words += [f"--{name}", str(not word.startswith("--no-"))] if choice else [word]
    return words


def sources_in(given: Sequence[str]) -> list[str]:
    """The sources among the words of `fit`: those before any flag; else those that are no flag and no flag's value.

    Example:
        >>> sources_in(["fit", "people.csv", "--steps", "10"]), sources_in(["fit", "--resume", "a.csv"])
        (['people.csv'], ['a.csv'])
    """
    words = list(given[1:])
    first = next((place for place, word in enumerate(words) if word.startswith("-")), len(words))
    if given[:1] != ["fit"] or first:
        return words[:first] if given[:1] == ["fit"] else []
    switches = {*HELP, *(f"--{no}{name}" for name in (*SWITCHES, *_switches()) for no in ("", "no-"))}
    free = [
        place
        for place, (word, last) in enumerate(zip(words, ["", *words], strict=False))
        if not word.startswith("-") and (not last.startswith("-") or last in switches or "=" in last)
    ]
    # A flag may take several words: the sources are, then, the first that is there and what follows it.
    likely = [place for place in free if is_url(words[place]) or Path(words[place]).exists()] or free[-1:]
    return [words[place] for place in free if place - likely[0] in (0, 1)]


def _switches() -> list[str]:
    return _of_type("bool", "bool | None")


def _choices() -> list[str]:
    """Flags that are on, off, or left to the program."""
    return _of_type("bool | None")


def _of_type(*types: str) -> list[str]:
    every = (field for kind in CONFIGS.values() for field in fields(kind))
    return [field.name.replace("_", "-") for field in every if field.type in types]


def kind_given(source: str, given: Sequence[str]) -> str:
    """The kind of a source: that of the run that is gone on with; else what flags of signals or its path show.

    Raises:
        ValueError: A folder holds nothing of any kind, or a file is damaged.
    """
    found = kind_of(source)
    kind = "image" if found == "shards" else found
    if kind != "table":
        return kind
    if "--resume" in given:
        folder = Path(value_of("--out", given) or Path("runs") / source_name(source))
        return workflows.kind_of_run(folder) if Run(folder).exists() else kind
    return "signal" if any(value_of(flag, given) is not None for flag in SIGNAL_FLAGS) else kind


def readings_of(sources: Sequence[str], rate: float | None, channels: int | None) -> list[Reading]:
    """How each side of a pair is read: what is said of signals holds for the sides that are.

    Raises:
        ValueError: Something is said, and neither side is.
    """
    kinds = [kind_of(source) for source in sources]
    said = Reading(rate=rate, channels=channels)
    fix = "Neither side is signals."
    require("signal" in kinds or not said.plain(), "--rate and --channels", "be left out", shown(said.plain()), fix)
    return [said if kind == "signal" else Reading() for kind in kinds]


def settings_of(given: Sequence[str], kind: type[C]) -> C:
    """The settings that flags start from: those of --config or --recipe, else the defaults."""
    path, recipe = value_of("--config", given), value_of("--recipe", given)
    require(path is None or recipe is None, "--recipe", "be left out beside --config", recipe)
    if path is not None:
        return workflows.read_settings(Path(path), kind)
    if recipe is not None and kind is CONFIGS["image"]:
        return RECIPES[check_choice("--recipe", recipe, RECIPES)]  # type: ignore[return-value]  # one of its kind
    return kind()


def value_of(flag: str, given: Sequence[str]) -> Any:
    """A flag's value; None where it is not there."""
    for index, word in enumerate(given):
        if word == flag and index + 1 < len(given):
            return given[index + 1]
        if word.startswith(f"{flag}="):
            return word.removeprefix(f"{flag}=")
    return None
